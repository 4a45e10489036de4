-- One row: a gate with its report, its programme's grid, and the newest gate of the programme.
select
    g.*,
    p.programme,
    p.business_timezone,
    p.interval_days,
    (select max(n.gate_id) from nba.gates as n where n.programme_id = g.programme_id) as newest_gate
from nba.gates as g
join nba.programmes as p using (programme_id)
where g.gate_id = :gate_id
