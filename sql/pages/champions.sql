-- One row per change of the policy in use, newest first: an approval at a gate, a step of its roll-out (with its share), or
-- an earlier champion put back.
select changed_at, version, before, gate_id, share, begins_on, who, comment, business_timezone
from (
    select g.decided_at as changed_at, g.candidate_version as version, g.incumbent_version as before, g.gate_id,
        null::smallint as share, null::date as begins_on, g.decided_by as who, g.comment, g.programme_id
    from nba.gates as g
    where g.decision = 'approved'
    union all
    select r.decided_at, r.to_version, r.from_version, null, null, null, r.decided_by, r.comment, r.programme_id
    from nba.rollbacks as r
    union all
    select o.decided_at, o.policy_version, o.previous_version, null, o.share, o.begins_on, o.decided_by, o.comment,
        o.programme_id
    from nba.rollouts as o
    where o.begins_on is not null  -- the first step is the approval's
) as change
join nba.programmes as p using (programme_id)
where p.programme = :programme
order by changed_at desc
limit 20
