-- One row per customer and epoch, with the state strictly before the epoch's start and what was earned until the next.
-- Parameters: programme_id, batch_id, as_of, settled_on (as_of minus the settlement lag), log_start, shard, shards.
-- `tonight` keeps only the epochs that start on as_of: the customers whom tonight's list is about. `changed_only` keeps
-- the customers of the temporary table `changed`, from the epoch on that it names. Who they are stands in the temporary
-- table `member` (members.sql). Tonight's rows are the states and conditions alone: nothing has happened yet.
--
-- Everything is a date in the business time zone: an epoch starts at local midnight, so an event lies strictly before
-- it exactly if the event's local date does. A customer's past is kept once, as sorted arrays; what an epoch's state
-- knows of it is found by bisection. `offset 0` keeps the planner from working out the same expression again and again,
-- and from reading everybody's history for the customers of one shard: `lateral` looks up one after the other.
with
{% if not tonight %}
cost as materialized (
    -- Numeric: a sum of doubles would depend on the order in which they are added.
    select action, cost::numeric as cost, starts_at, ends_at
    from (
{% include "transitions/cost.sql" %}
    ) as known
),
{% endif %}
contact as materialized (
    -- One row per contact before as_of.
    select
        customer_key,
        day,
        nba.epoch_of(day, date '{{ anchor }}', offset_days, {{ interval }}) as epoch,
        contacted_at,
        contact_id,
        c.action
{%- if not tonight %},
        cost.cost
{%- endif %}

    from pg_temp.member
    cross join lateral (
        select (contacted_at at time zone '{{ zone }}')::date as day, contacted_at, contact_id, action
        from history.contacts as h
        where h.customer_key = member.customer_key
          and h.batch_id <= :batch_id and (h.superseded_by is null or h.superseded_by > :batch_id)
        offset 0
    ) as c
{% if not tonight %}
    left join cost on cost.action = c.action and c.contacted_at >= cost.starts_at and c.contacted_at < cost.ends_at
{% endif %}
    where day < :as_of
),
event as materialized (
    -- One row per event before as_of.
    select
        customer_key,
        day,
        nba.epoch_of(day, date '{{ anchor }}', offset_days, {{ interval }}) as epoch,
        event_type,
        value
    from pg_temp.member
    cross join lateral (
        select (occurred_at at time zone '{{ zone }}')::date as day, event_type, value
        from history.events as h
        where h.customer_key = member.customer_key
          and h.batch_id <= :batch_id and (h.superseded_by is null or h.superseded_by > :batch_id)
        offset 0
    ) as e
    where day < :as_of
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
    from pg_temp.member
    cross join lateral (
        select *, (known_at at time zone '{{ zone }}')::date + 1 as known_from
        from (
            select attribute, value, changed_at as known_at, batch_id
            from history.customer_changes as h
            where h.customer_key = member.customer_key
              and h.batch_id <= :batch_id and (h.superseded_by is null or h.superseded_by > :batch_id)
              and attribute = any (array[{{ mutable | map("literal") | join(", ") }}]::text[])
            union all
            select a.name, v.attributes ->> a.name, v.seen_at, v.batch_id
            from history.customer_versions as v
            cross join unnest(array[{{ mutable | map("literal") | join(", ") }}]::text[]) as a (name)
            where v.customer_key = member.customer_key
              and v.batch_id <= :batch_id
              -- Roughly what the last condition asks: nothing is unpacked of versions that our pulls found too late.
              and v.seen_at < nba.midnight({{ ":as_of" if tonight else ":settled_on" }} + 1, '{{ zone }}')
        ) as told
        offset 0
    ) as known
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
    select m.*, date '{{ anchor }}' + m.offset_days as grid_start, n.first_epoch, n.end_epoch, n.open_epoch
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
{% if not tonight %}
decision as (
    -- One row per logged decision before as_of.
    select
        customer_key,
        nba.epoch_of(day, date '{{ anchor }}', offset_days, {{ interval }}) as epoch,
        decided_at,
        decision_id,
        action,
        eligible,
        propensity
    from pg_temp.member
    cross join lateral (
        select (decided_at at time zone '{{ zone }}')::date as day, decided_at, decision_id, action, eligible, propensity
        from history.decisions as h
        where h.customer_key = member.customer_key
          and h.batch_id <= :batch_id and (h.superseded_by is null or h.superseded_by > :batch_id)
        offset 0
    ) as d
    where day < :as_of
),
happened as (
    -- One row per customer and epoch in which anything happened: its first decision, whose action is the epoch's; else
    -- that of the first contact. Types are the table's.
    select
        customer_key,
        epoch,
        eligible,
        propensity,
        ({{ reward }})::real as reward,
        coalesce(cost, 0)::real as cost,
        coalesce(decided, contacted, 0::smallint) as action,
        contacts::smallint as contacts
{%- for outcome in outcomes %},
        coalesce(h.{{ outcome.column | identifier }}, 0)::{{ outcome.type }} as {{ outcome.column | identifier }}
{%- endfor %}

    from (
        select
            customer_key,
            epoch,
            (array_agg(eligible order by moment, id) filter (where is_decision))[1] as eligible,
            (array_agg(propensity order by moment, id) filter (where is_decision))[1]::real as propensity,
            (array_agg(action order by moment, id) filter (where is_decision))[1] as decided,
            (array_agg(action order by moment, id) filter (where is_contact))[1] as contacted,
            count(*) filter (where is_contact) as contacts,
            sum(cost)::double precision as cost
{%- for outcome in outcomes %},
            {{ "count(*)" if outcome.measure == "count" else "sum(value::numeric)" }} filter (where event_type = {{ outcome.event | literal }})::double precision as {{ outcome.column | identifier }}
{%- endfor %}

        from (
            select customer_key, epoch, true as is_contact, false as is_decision,
                contacted_at as moment, contact_id as id, action, cost,
                null::text as event_type, null::double precision as value,
                null::integer as eligible, null::double precision as propensity
            from contact
            union all
            select customer_key, epoch, false, false, null, null, null, null, event_type, value, null, null
            from event
            union all
            select customer_key, epoch, false, true, decided_at, decision_id, action, null, null, null, eligible, propensity
            from decision
        ) as fact
        group by customer_key, epoch
    ) as h
),
{% endif %}
grid as materialized (
    -- One row per epoch that is asked for of any customer.
    select epoch, epoch * {{ interval }} as days
    from (
        select
            min({{ "open_epoch" if tonight else "greatest(first_epoch, from_epoch)" }}) as first_epoch,
            max(open_epoch) as open_epoch
        from customer
    ) as asked
    cross join lateral generate_series(first_epoch, open_epoch) as epoch
),
epoch as (
    -- One row per customer and epoch of the grid, with how far the customer's past had come before it started.
    select
        k.*,
        g.epoch,
        k.grid_start + g.days as starts_on
{%- if not tonight %},
        g.epoch < k.open_epoch as is_settled,
        -- What the columns of an epoch hold in which nothing happened. Of an open epoch nothing is known yet, not even
        -- the decision: it may lie after its start.
        case when g.epoch < k.open_epoch then 0::smallint end as zero
{%- endif %}
{%- for position in positions %},
        width_bucket(k.grid_start + (g.days - {{ position.epochs * interval + 1 }}), k.{{ position.series.days }}) as {{ position.column }}
{%- endfor %}
{%- for column in mutable %},
        width_bucket(k.grid_start + g.days, k.{{ ("known_" ~ column) | identifier }}) as {{ ("at_" ~ column) | identifier }}
{%- endfor %}

    from customer as k
    cross join lateral (
        select epoch, days
        from grid
        where epoch between {{ "k.open_epoch" if tonight else "greatest(k.first_epoch, k.from_epoch)" }} and least(k.open_epoch, k.end_epoch)
        offset 0
    ) as g
    where k.open_epoch >= k.first_epoch
    offset 0
)
select
    s.customer_key,
    {{ conditions }} as conditions,
    s.epoch::smallint as epoch{% if not tonight %},
    cast(:shard as smallint) as shard,
    h.eligible,
    h.propensity,
    coalesce(h.reward, s.zero) as reward,
    coalesce(h.cost, s.zero) as cost,
    coalesce(h.action, s.zero) as action,
    coalesce(h.contacts, s.zero) as contacts,
    s.is_settled and s.epoch is not distinct from s.end_epoch as done,
    s.split
{%- for outcome in outcomes %},
    coalesce(h.{{ outcome.column | identifier }}, s.zero) as {{ outcome.column | identifier }}
{%- endfor %}
{%- endif %}
{%- for feature in features %},
    {{ feature.expression }} as {{ feature.column | identifier }}
{%- endfor %}

from epoch as s
{% if not tonight %}
left join happened as h on h.customer_key = s.customer_key and h.epoch = s.epoch and s.is_settled
{% endif %}
