-- One row per customer and epoch of a split in which no decision was logged: what the customer did in the epoch before
-- its first contact. An epoch without contact is looked at up to the moment of a contact in another epoch that started
-- on the same day, drawn by hash: whatever the season, the weekday and the hour, both are then looked at alike.
with undecided as (
    select
        t.customer_key,
        t.epoch,
        c.customer_id,
        c.offset_days,
        nba.epoch_date(date '{{ anchor }}', c.offset_days, t.epoch, {{ interval }}) as starts_on
    from {{ table | identifier }} as t
    join history.customers as c using (customer_key)
    where t.split = '{{ split }}' and t.propensity is null and t.action is not null
{% if sample is not none %}
      {% include "transitions/sampled.sql" %}

{% endif %}
),
customer as (
    select distinct customer_key, offset_days from undecided
),
first_contact as (
    -- One row per epoch with a contact.
    select customer_key, epoch, min(contacted_at) as contacted_at
    from customer
    join history.contacts as c using (customer_key)
    cross join lateral (
        select nba.epoch_of(
            (c.contacted_at at time zone '{{ zone }}')::date, date '{{ anchor }}', offset_days, {{ interval }}
        ) as epoch
    ) as grid
    where c.batch_id <= {{ batch_id }} and (c.superseded_by is null or c.superseded_by > {{ batch_id }})
    group by customer_key, epoch
),
contacted as (
    -- One row per undecided epoch, with the time from its start to its first contact.
    select
        u.*,
        u.starts_on::timestamp at time zone '{{ zone }}' as starts_at,
        f.contacted_at - u.starts_on::timestamp at time zone '{{ zone }}' as elapsed
    from undecided as u
    left join first_contact as f using (customer_key, epoch)
),
moments as (
    -- One row per start, with the times of its contacts.
    select starts_on, array_agg(elapsed order by elapsed, customer_key) as known
    from contacted
    where elapsed is not null
    group by starts_on
),
looked as (
    -- One row per undecided epoch, with the time up to which it is looked at.
    select
        c.*,
        coalesce(c.elapsed, m.known[1 + floor(cardinality(m.known) * nba.uniform(
            {{ programme | literal }}, 'moment', {{ salt | literal }}, c.customer_id || '|' || c.epoch
        ))::integer]) as until
    from contacted as c
    left join moments as m using (starts_on)
),
earlier as (
    -- One row per undecided epoch with an event before that time.
    select
        l.customer_key,
        l.epoch,
        count(*) as events,
        sum(
            case e.event_type
                {% for term in terms %}when {{ term.event | literal }} then {{ term.amount }} {% endfor %}else 0
            end
        ) as reward
    from customer as c
    join history.events as e using (customer_key)
    cross join lateral (
        select nba.epoch_of(
            (e.occurred_at at time zone '{{ zone }}')::date, date '{{ anchor }}', c.offset_days, {{ interval }}
        ) as epoch
    ) as grid
    join looked as l on l.customer_key = e.customer_key and l.epoch = grid.epoch
    where e.batch_id <= {{ batch_id }} and (e.superseded_by is null or e.superseded_by > {{ batch_id }})
      and e.occurred_at < l.starts_at + l.until
    group by l.customer_key, l.epoch
)
select
    l.customer_key,
    l.epoch,
    l.starts_on - date '{{ anchor }}' as starts_on,
    extract(epoch from l.until) / 86400 as moment,
    coalesce(e.reward, 0) as reward,
    coalesce(e.events, 0) as events
from looked as l
left join earlier as e using (customer_key, epoch)
order by l.customer_key, l.epoch
