-- One row per policy that stood at a gate, newest first: what it came from, what was decided, and where it was used.
select
    g.candidate_version as version,
    g.incumbent_version,
    g.gate_id,
    g.as_of,
    g.batch_id,
    g.fingerprint,
    g.mlflow_run_id,
    g.verdict,
    g.decision,
    g.decided_by,
    g.decided_at,
    used.nights,
    used.first_night,
    used.last_night,
    p.business_timezone,
    (select max(n.gate_id) from nba.gates as n where n.programme_id = g.programme_id) as newest_gate
from nba.gates as g
join nba.programmes as p using (programme_id)
left join lateral (
    select count(distinct l.list_date) as nights, min(l.list_date) as first_night, max(l.list_date) as last_night
    from nba.lists as l
    where l.programme_id = g.programme_id and l.policy_version = g.candidate_version and not l.dry_run
) as used on true
where p.programme = :programme
order by g.gate_id desc
limit :rows offset :offset
