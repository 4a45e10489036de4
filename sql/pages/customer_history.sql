-- One row per contact or event of a customer since a date, newest first.
select moment, kind, what, value
from (
    select c.contacted_at as moment, 'contact' as kind, a.action_id as what, null::double precision as value
    from history.contacts as c
    join history.actions as a using (programme_id, action)
    where c.customer_key = :customer_key and c.superseded_by is null and c.contacted_at >= :since
    union all
    select e.occurred_at, 'event', e.event_type, e.value
    from history.events as e
    where e.customer_key = :customer_key and e.superseded_by is null and e.occurred_at >= :since
) as happened
order by moment desc, kind, what
limit 500
