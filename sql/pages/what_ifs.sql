-- One row per what-if at a gate, newest first, without its report.
select what_if_id, thresholds, verdict, asked_by, asked_at,
    (report -> 'deciding' ->> 'estimate')::double precision as delta,
    (report -> 'deciding' ->> 'lower')::double precision as lower_bound,
    (report -> 'deciding' ->> 'upper')::double precision as upper_bound
from nba.what_ifs
where gate_id = :gate_id
order by what_if_id desc
limit 50
