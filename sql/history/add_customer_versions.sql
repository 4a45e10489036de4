-- Adds a version for every good staged customer without a current one.
insert into history.customer_versions (customer_key, seen_at, created_at, closed_at, attributes, batch_id)
select
    k.customer_key,
    greatest(cast(:as_of as date)::timestamp at time zone :zone, s.loaded_at),
    s.created_at,
    s.closed_at,
    s.attributes,
    :batch_id
from staging.customers as s
join history.customers as k on k.programme_id = :programme_id and k.customer_id = s.customer_id
where s.batch_id = :batch_id
  and not s.quarantined
  and not exists (
      select from history.customer_versions as v
      where v.customer_key = k.customer_key and v.superseded_by is null
  )
order by k.customer_key  -- reading a shard reads few pages
