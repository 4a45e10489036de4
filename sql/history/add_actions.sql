-- Adds one row per action never seen before: no_action first (the catalogue need not list it), then by id.
-- An index is never given to another action.
insert into history.actions (programme_id, action, action_id)
select
    :programme_id,
    (select coalesce(max(action), -1) from history.actions where programme_id = :programme_id)
        + row_number() over (order by named.action_id <> :no_action, named.action_id collate "C"),
    named.action_id
from (
    select :no_action as action_id
    union
    select s.action_id from staging.actions as s where s.batch_id = :batch_id and not s.quarantined
) as named
where not exists (
    select from history.actions as a
    where a.programme_id = :programme_id and a.action_id = named.action_id
)
