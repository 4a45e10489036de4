-- One row per night that has a list, newest first: the run that was last meant to be published, else the last dry run.
with nights as (
    select l.programme_id, l.list_date
    from nba.lists as l
    join nba.programmes as p using (programme_id)
    where p.programme = any (:programmes)
    group by l.programme_id, l.list_date, p.programme
    order by l.list_date desc, p.programme
    limit :rows offset :offset
)
select
    p.programme,
    p.business_timezone,
    l.list_date,
    l.run_id,
    l.policy_version,
    l.dry_run,
    l.made_at,
    (l.summary ->> 'decisions')::integer as decisions,
    (l.summary ->> 'to_send')::integer as to_send,
    (l.summary ->> 'expected_value')::double precision as expected_value,
    (l.summary ->> 'explored')::double precision as explored
from nights as n
join nba.programmes as p using (programme_id)
cross join lateral (
    select *
    from nba.lists as made
    where made.programme_id = n.programme_id and made.list_date = n.list_date
    order by made.dry_run, made.made_at desc
    limit 1
) as l
order by l.list_date desc, p.programme
