-- One row: contacts that the lists asked for, how many of them were made, and contacts that no decision asked for.
-- Parameters: programme, programme_id, batch_id, since and until (instants).
with listed as (
    select d.decision_id
    from history.decisions as d
    where d.programme_id = :programme_id
      and d.batch_id <= :batch_id and (d.superseded_by is null or d.superseded_by > :batch_id)
      and d.decided_at >= :since and d.decided_at < :until
      and d.action <> 0
      and starts_with(d.decision_id, :programme || '/')
),
made as (
    select c.decision_id
    from history.contacts as c
    where c.programme_id = :programme_id
      and c.batch_id <= :batch_id and (c.superseded_by is null or c.superseded_by > :batch_id)
      and c.contacted_at >= :since and c.contacted_at < :until
)
select
    (select count(*) from listed) as listed,
    (select count(*) from listed where decision_id in (select decision_id from made)) as delivered,
    (select count(*) from made) as contacts,
    (select count(*) from made where decision_id is null) as overrides
