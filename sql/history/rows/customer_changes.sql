-- One row per good staged change, shaped like history.customer_changes.
select s.changed_at, k.customer_key, s.attribute, s.value, s.digest, s.loaded_at
from staging.customer_changes as s
join history.customers as k on k.programme_id = :programme_id and k.customer_id = s.customer_id
where s.batch_id = :batch_id and not s.quarantined
