-- One row per customer and epoch, with the state strictly before the epoch's start and what was earned until the next.
-- Parameters: programme_id, batch_id, as_of, settled_on (as_of minus the settlement lag), log_start, shard, shards.
-- `tonight` keeps only the epochs that start on as_of: the customers whom tonight's list is about. `changed_only` keeps
-- the customers of the temporary table `changed`, from the epoch on that it names. Who they are stands in the temporary
-- table `member` (members.sql).
--
-- Everything is a date in the business time zone: an epoch starts at local midnight, so an event lies strictly before
-- it exactly if the event's local date does. A customer's past is kept once, as sorted arrays; what an epoch's state
-- knows of it is found by bisection. `offset 0` keeps the planner from working out the same expression again and again.
with cost as materialized (
    -- Numeric: a sum of doubles would depend on the order in which they are added.
    select action, cost::numeric as cost, starts_at, ends_at
    from (
{% include "transitions/cost.sql" %}
    ) as known
),
contact as materialized (
    -- One row per contact before as_of.
    select
        m.customer_key,
        day,
        nba.epoch_of(day, date '{{ anchor }}', m.offset_days, {{ interval }}) as epoch,
        c.contacted_at,
        c.contact_id,
        c.action,
        cost.cost
    from pg_temp.member as m
    join history.contacts as c using (customer_key)
    left join cost on cost.action = c.action and c.contacted_at >= cost.starts_at and c.contacted_at < cost.ends_at
    cross join lateral (select (c.contacted_at at time zone '{{ zone }}')::date as day offset 0) as local
    where c.batch_id <= :batch_id and (c.superseded_by is null or c.superseded_by > :batch_id)
      and day < :as_of
),
event as materialized (
    -- One row per event before as_of.
    select
        m.customer_key,
        day,
        nba.epoch_of(day, date '{{ anchor }}', m.offset_days, {{ interval }}) as epoch,
        e.event_type,
        e.value
    from pg_temp.member as m
    join history.events as e using (customer_key)
    cross join lateral (select (e.occurred_at at time zone '{{ zone }}')::date as day offset 0) as local
    where e.batch_id <= :batch_id and (e.superseded_by is null or e.superseded_by > :batch_id)
      and day < :as_of
),
{% for source in ("contact", "event") %}
{{ source }}_days as (
    -- One row per customer: the sorted days of each kind of {{ source }}.
    select
        customer_key
{%- for series in series_list if series.source == source %},
        array_agg(day order by day) filter (where {{ series.condition }}) as {{ series.days }}
{%- if series.totals %},
        array_agg({{ series.running }} order by day, {{ series.running }}) filter (where {{ series.condition }}) as {{ series.running }}
{%- endif %}
{%- endfor %}

{% if source == "event" %}
    from (
        select
            customer_key, day, event_type, value
{%- for series in series_list if series.totals %},
            sum(value::numeric) filter (where {{ series.condition }}) over (
                partition by customer_key order by day rows unbounded preceding
            ) as {{ series.running }}
{%- endfor %}

        from event
    ) as event
{% else %}
    from contact
{% endif %}
    group by customer_key
),
{% endfor %}
attribute as (
    -- One row per value of a customer's mutable column, with the first day on which an epoch could start knowing it:
    -- recorded, or found by one of our own pulls, on an earlier day.
    select customer_key, attribute, value, known_from, known_at, batch_id
    from (
        select m.customer_key, h.attribute, h.value, h.changed_at as known_at, h.batch_id
        from pg_temp.member as m
        join history.customer_changes as h using (customer_key)
        where h.batch_id <= :batch_id and (h.superseded_by is null or h.superseded_by > :batch_id)
          and h.attribute = any (array[{{ mutable | map("literal") | join(", ") }}]::text[])
        union all
        select m.customer_key, a.name, v.attributes ->> a.name, v.seen_at, v.batch_id
        from pg_temp.member as m
        join history.customer_versions as v using (customer_key)
        cross join unnest(array[{{ mutable | map("literal") | join(", ") }}]::text[]) as a (name)
        -- Roughly what the last condition asks: nothing is unpacked of versions that our pulls found too late for it.
        where v.batch_id <= :batch_id and v.seen_at < nba.midnight({{ ":as_of" if tonight else ":settled_on" }} + 1, '{{ zone }}')
    ) as told
    cross join lateral (select (known_at at time zone '{{ zone }}')::date + 1 as known_from offset 0) as local
    where known_from <= {{ ":as_of" if tonight else ":settled_on" }}  -- the day on which the last epoch may start
),
known as (
    -- One row per customer: the values that each mutable column took, and from which day on each was known.
    select
        customer_key
{%- for column in mutable %},
        array_agg(known_from order by known_at, batch_id) filter (where attribute = {{ column | literal }}) as {{ ("known_" ~ column) | identifier }}
{%- endfor %}
{%- for column in changing %},
        array_agg({{ column.expression }} order by known_at, batch_id) filter (where attribute = {{ column.source | literal }}) as {{ ("values_" ~ column.column) | identifier }}
{%- endfor %}

    from attribute
    group by customer_key
),
ending as (
    -- One row per customer: the first epoch on the grid, the epoch in which the relationship ended, if it did, and the
    -- one that is running on the settlement day: the first that is not settled.
    select
        m.customer_key,
        greatest(
            0,
            nba.epoch_of(m.created_on, date '{{ anchor }}', m.offset_days, {{ interval }}) + 1,
            nba.epoch_of(:log_start - 1, date '{{ anchor }}', m.offset_days, {{ interval }}) + 1
        ) as first_epoch,
        least(
            case when m.closed_on < :as_of then nba.epoch_of(m.closed_on, date '{{ anchor }}', m.offset_days, {{ interval }}) end,
            e.epoch
        ) as end_epoch,
        nba.epoch_of({{ ":as_of" if tonight else ":settled_on" }}, date '{{ anchor }}', m.offset_days, {{ interval }}) as open_epoch
    from pg_temp.member as m
    left join (
        select customer_key, min(epoch) as epoch
        from event
        where event_type = any (array[{{ ending_events | map("literal") | join(", ") }}]::text[])
        group by customer_key
    ) as e using (customer_key)
),
customer as materialized (
    -- One row per customer: everything that is known of them.
    select m.*, n.first_epoch, n.end_epoch, n.open_epoch
{%- for series in series_list %}, {{ series.days }}{% if series.totals %}, {{ series.running }}{% endif %}{% endfor %}
{%- for column in mutable %}, {{ ("known_" ~ column) | identifier }}{% endfor %}
{%- for column in changing %}, {{ ("values_" ~ column.column) | identifier }}{% endfor %}

    from pg_temp.member as m
    join ending as n using (customer_key)
    left join contact_days using (customer_key)
    left join event_days using (customer_key)
    left join known using (customer_key)
    order by customer_key
),
happened as (
    -- One row per customer and epoch with a contact or an event: the outcomes, and the first contact, which is the
    -- epoch's action where no decision was logged.
    select
        customer_key,
        epoch,
        (array_agg(action order by contacted_at, contact_id) filter (where is_contact))[1] as action,
        count(*) filter (where is_contact) as contacts,
        sum(cost)::double precision as cost
{%- for outcome in outcomes %},
        {{ "count(*)" if outcome.measure == "count" else "sum(value::numeric)" }} filter (where event_type = {{ outcome.event | literal }})::double precision as {{ outcome.column | identifier }}
{%- endfor %}

    from (
        select customer_key, epoch, true as is_contact, contacted_at, contact_id, action, cost,
            null::text as event_type, null::double precision as value
        from contact
        union all
        select customer_key, epoch, false, null, null, null, null, event_type, value from event
    ) as either
    group by customer_key, epoch
),
decision as (
    -- One row per customer and epoch with a logged decision: the first.
    select distinct on (m.customer_key, epoch) m.customer_key, epoch, d.action, d.eligible, d.propensity
    from pg_temp.member as m
    join history.decisions as d using (customer_key)
    cross join lateral (select (d.decided_at at time zone '{{ zone }}')::date as day offset 0) as local
    cross join lateral (select nba.epoch_of(day, date '{{ anchor }}', m.offset_days, {{ interval }}) as epoch) as grid
    where d.batch_id <= :batch_id and (d.superseded_by is null or d.superseded_by > :batch_id)
      and day < :as_of
    order by m.customer_key, epoch, d.decided_at, d.decision_id
),
epoch as (
    -- One row per customer and epoch of the grid, with how far the customer's past had come before it started.
    select
        k.*,
        g.epoch,
        b.starts_on
{%- for position in positions %},
        width_bucket(b.starts_on - {{ position.epochs * interval + 1 }}, k.{{ position.series.days }}) as {{ position.column }}
{%- endfor %}
{%- for column in mutable %},
        width_bucket(b.starts_on, k.{{ ("known_" ~ column) | identifier }}) as {{ ("at_" ~ column) | identifier }}
{%- endfor %}

    from customer as k
    cross join lateral generate_series(
        {{ "k.open_epoch" if tonight else "greatest(k.first_epoch, k.from_epoch)" }}, least(k.open_epoch, k.end_epoch)
    ) as g (epoch)
    cross join lateral (
        select nba.epoch_date(date '{{ anchor }}', k.offset_days, g.epoch, {{ interval }}) as starts_on
    ) as b
    where k.open_epoch >= k.first_epoch
    offset 0
)
select
    s.customer_key,
    -- Of an open epoch not even the decision is known: it may lie after its start.
    case when s.epoch < s.open_epoch then d.eligible end as eligible,
    {{ conditions }} as conditions,
    case when s.epoch < s.open_epoch then d.propensity end as propensity,
    case when s.epoch < s.open_epoch then {{ reward }} end as reward,
    case when s.epoch < s.open_epoch then coalesce(h.cost, 0) end as cost,
    s.epoch,
    case when s.epoch < s.open_epoch then coalesce(d.action, h.action, 0) end as action,
    case when s.epoch < s.open_epoch then coalesce(h.contacts, 0) end as contacts,
    s.epoch < s.open_epoch and s.epoch is not distinct from s.end_epoch as done,
    s.split
{%- for outcome in outcomes %},
    case when s.epoch < s.open_epoch then coalesce(h.{{ outcome.column | identifier }}, 0) end as {{ outcome.column | identifier }}
{%- endfor %}
{%- for feature in features %},
    {{ feature.expression }} as {{ feature.column | identifier }}
{%- endfor %}

from epoch as s
left join happened as h using (customer_key, epoch)
left join decision as d using (customer_key, epoch)
