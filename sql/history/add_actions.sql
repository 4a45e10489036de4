-- Adds one row per action never seen before: no_action first, then by id. An index is never given to another action.
insert into history.actions (programme_id, action, action_id)
select
    :programme_id,
    (select coalesce(max(action), -1) from history.actions where programme_id = :programme_id)
        + row_number() over (order by s.action_id <> :no_action, s.action_id collate "C"),
    s.action_id
from staging.actions as s
where s.batch_id = :batch_id
  and not s.quarantined
  and not exists (
      select from history.actions as a
      where a.programme_id = :programme_id and a.action_id = s.action_id
  )
