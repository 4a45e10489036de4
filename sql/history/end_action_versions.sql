-- Ends the versions of actions whose catalogue entry changed or is gone; one in quarantine tonight keeps the last version.
update history.action_versions as v
set superseded_by = :batch_id
from history.actions as a
left join staging.actions as s on s.batch_id = :batch_id and s.action_id = a.action_id and not s.quarantined
where a.programme_id = :programme_id
  and v.programme_id = a.programme_id
  and v.action = a.action
  and v.superseded_by is null
  and (s.channel, s.cost, s.active_from, s.active_to, s.daily_capacity, s.features)
      is distinct from (v.channel, v.cost, v.active_from, v.active_to, v.daily_capacity, v.features)
  and not (
      s.action_id is null
      and exists (
          select from staging.actions as bad
          where bad.batch_id = :batch_id and bad.quarantined and bad.action_id = a.action_id
      )
  )
