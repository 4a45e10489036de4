-- One row per gate that passes the filters, newest first: what the list of gates shows.
select
    g.gate_id,
    p.programme,
    p.business_timezone,
    g.as_of,
    g.judged_at,
    g.candidate_version,
    g.incumbent_version,
    g.attempt,
    g.delta,
    g.lower_bound,
    g.upper_bound,
    g.effective_size,
    g.verdict,
    g.propensities,
    g.decision,
    g.decided_by,
    g.decided_at,
    newest.gate_id as newest_gate
from nba.gates as g
join nba.programmes as p using (programme_id)
join (select programme_id, max(gate_id) as gate_id from nba.gates group by programme_id) as newest using (programme_id)
where {% include "pages/gates_filter.sql" %}

order by g.gate_id desc
limit :rows offset :offset
