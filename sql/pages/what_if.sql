-- One row: a what-if at a gate, with its report.
select what_if_id, thresholds, report, asked_by, asked_at
from nba.what_ifs
where gate_id = :gate_id and what_if_id = :what_if_id
