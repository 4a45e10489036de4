-- One row per list that a DAG run made, newest first.
select l.list_date, l.run_id, l.policy_version, l.dry_run, l.made_at, l.summary, p.business_timezone
from nba.lists as l
join nba.programmes as p using (programme_id)
where p.programme = :programme and l.run_id = :run_id
order by l.made_at desc
limit 1
