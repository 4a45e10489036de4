-- One row per good staged contact, shaped like history.contacts.
select s.contacted_at, k.customer_key, a.action, s.contact_id, s.decision_id, s.digest, s.loaded_at
from staging.contacts as s
join history.customers as k on k.programme_id = :programme_id and k.customer_id = s.customer_id
join history.actions as a on a.programme_id = :programme_id and a.action_id = s.action_id
where s.batch_id = :batch_id and not s.quarantined
