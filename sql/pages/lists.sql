-- One row per night that has a list, newest first: the run that was last meant to be published, else the last dry run.
select l.*, p.programme, p.business_timezone
from (
    select distinct on (programme_id, list_date)
        programme_id, list_date, run_id, policy_version, dry_run, made_at,
        (summary ->> 'decisions')::integer as decisions,
        (summary ->> 'to_send')::integer as to_send,
        (summary ->> 'expected_value')::double precision as expected_value,
        (summary ->> 'explored')::double precision as explored
    from nba.lists
    order by programme_id, list_date, dry_run, made_at desc
) as l
join nba.programmes as p using (programme_id)
where p.programme = any (:programmes)
order by l.list_date desc, p.programme
limit :rows offset :offset
