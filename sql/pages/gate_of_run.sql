-- One row: the newest gate that a DAG run held (policy training), asked about (promotion review) or judged again (what if).
select g.gate_id, g.verdict, g.decision, g.decided_by, g.decided_at, g.delta, g.lower_bound, g.upper_bound, g.as_of,
    g.candidate_version, g.incumbent_version, g.windows, g.customers, g.mlflow_run_id, g.comment, p.business_timezone
from nba.gates as g
join nba.programmes as p using (programme_id)
where p.programme = :programme and (
      g.dag_run_id = :run_id
      or g.review_run_id = :run_id
      or g.gate_id in (select w.gate_id from nba.what_ifs as w where w.dag_run_id = :run_id)
  )
order by g.gate_id desc
limit 1
