-- One row per good staged event, shaped like history.events.
select s.occurred_at, s.value, k.customer_key, s.event_type, s.event_id, s.digest, s.loaded_at
from staging.events as s
join history.customers as k on k.programme_id = :programme_id and k.customer_id = s.customer_id
where s.batch_id = :batch_id and not s.quarantined
