-- One row per change of the policy in use, newest first: an approval at a gate, or an earlier champion put back.
select changed_at, version, before, gate_id, who, comment, business_timezone
from (
    select g.decided_at as changed_at, g.candidate_version as version, g.incumbent_version as before, g.gate_id,
        g.decided_by as who, g.comment, g.programme_id
    from nba.gates as g
    where g.decision = 'approved'
    union all
    select r.decided_at, r.to_version, r.from_version, null, r.decided_by, r.comment, r.programme_id
    from nba.rollbacks as r
) as change
join nba.programmes as p using (programme_id)
where p.programme = :programme
order by changed_at desc
limit 20
