-- One row per good staged change, shaped like history.action_changes.
select s.changed_at, a.action, s.attribute, s.value, s.digest, s.loaded_at
from staging.action_changes as s
join history.actions as a on a.programme_id = :programme_id and a.action_id = s.action_id
where s.batch_id = :batch_id and not s.quarantined
