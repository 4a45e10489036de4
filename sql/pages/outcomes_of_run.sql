-- One row: the look at what the lists earned that a DAG run took.
select o.as_of, o.policy_version, o.alerts, o.content, o.looked_at, p.business_timezone
from nba.outcomes as o
join nba.programmes as p using (programme_id)
where p.programme = :programme and o.dag_run_id = :run_id
