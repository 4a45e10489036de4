-- One row: the gate at which a version was the candidate; none for business as usual.
select g.gate_id, g.verdict, g.decision, g.decided_by, g.decided_at, p.business_timezone
from nba.gates as g
join nba.programmes as p using (programme_id)
where p.programme = :programme and g.candidate_version = :version
