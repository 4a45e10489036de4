-- One row per policy that stood at a gate, newest first: what it came from, what was decided, and where it was used.
with shown as (
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
        p.programme_id,
        p.business_timezone
    from nba.gates as g
    join nba.programmes as p using (programme_id)
    where p.programme = :programme
    order by g.gate_id desc
    limit :rows offset :offset
),
used as (
    select l.policy_version as version, count(distinct l.list_date) as nights, min(l.list_date) as first_night,
        max(l.list_date) as last_night
    from nba.lists as l
    where not l.dry_run and (l.programme_id, l.policy_version) in (select programme_id, version from shown)
    group by l.policy_version
)
select shown.*, used.nights, used.first_night, used.last_night,
    (select max(n.gate_id) from nba.gates as n where n.programme_id = shown.programme_id) as newest_gate
from shown
left join used using (version)
order by shown.gate_id desc
