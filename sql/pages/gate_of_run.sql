-- One row: the newest gate that a DAG run held (policy training), asked about (promotion review) or judged again (what
-- if: then with what other thresholds said).
select g.gate_id, g.verdict, g.decision, g.decided_by, g.decided_at, g.delta, g.lower_bound, g.upper_bound, g.as_of,
    g.candidate_version, g.incumbent_version, g.windows, g.customers, g.mlflow_run_id, g.comment, p.business_timezone,
    w.what_if_id, w.verdict as what_if_verdict, w.thresholds,
    (select max(n.gate_id) from nba.gates as n where n.programme_id = g.programme_id) as newest_gate
from nba.gates as g
join nba.programmes as p using (programme_id)
left join nba.what_ifs as w on w.gate_id = g.gate_id and w.dag_run_id = :run_id
where p.programme = :programme
  and (g.dag_run_id = :run_id or g.review_run_id = :run_id or w.what_if_id is not null)
order by g.gate_id desc, w.what_if_id desc
limit 1
