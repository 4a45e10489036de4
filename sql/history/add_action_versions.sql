-- Adds a version for every good staged action without a current one.
insert into history.action_versions (
    programme_id, action, seen_at, channel, cost, active_from, active_to, daily_capacity, features, batch_id
)
select
    :programme_id,
    a.action,
    greatest(cast(:as_of as date)::timestamp at time zone :zone, s.loaded_at),
    s.channel,
    s.cost,
    s.active_from,
    s.active_to,
    s.daily_capacity,
    s.features,
    :batch_id
from staging.actions as s
join history.actions as a on a.programme_id = :programme_id and a.action_id = s.action_id
where s.batch_id = :batch_id
  and not s.quarantined
  and not exists (
      select from history.action_versions as v
      where v.programme_id = :programme_id and v.action = a.action and v.superseded_by is null
  )
