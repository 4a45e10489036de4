-- Ends the versions of customers who changed or are gone. One whose row is in quarantine tonight keeps the last version.
update history.customer_versions as v
set superseded_by = :batch_id
from history.customers as k
left join staging.customers as s on s.batch_id = :batch_id and s.customer_id = k.customer_id and not s.quarantined
where k.programme_id = :programme_id
  and v.customer_key = k.customer_key
  and v.superseded_by is null
  and (s.created_at, s.closed_at, s.attributes) is distinct from (v.created_at, v.closed_at, v.attributes)
  and not (
      s.customer_id is null
      and exists (
          select from staging.customers as bad
          where bad.batch_id = :batch_id and bad.quarantined and bad.customer_id = k.customer_id
      )
  )
