-- One row per customer and epoch, with the state strictly before the epoch's start and what was earned until the next.
-- Parameters: programme_id, batch_id, as_of, settled_on (as_of minus the settlement lag), log_start, shard, shards.
-- `tonight` keeps only the epochs that start on as_of: the customers whom tonight's list is about.
--
-- Everything is a date in the business time zone: an epoch starts at local midnight, so an event lies strictly before
-- it exactly if the event's local date does. Windows run over whole epochs, from `w` epochs back to the one before.
with member as materialized (
    -- One row per customer of the shard: the part of the customer that no epoch changes.
    select
        c.customer_key,
        c.offset_days,
        c.split,
        v.attributes,
        (v.created_at at time zone '{{ zone }}')::date as created_on,
        (v.closed_at at time zone '{{ zone }}')::date as closed_on
    from history.customers as c
    join history.customer_versions as v using (customer_key)
    where c.programme_id = :programme_id
      and c.bucket % :shards = :shard
      and v.batch_id <= :batch_id and (v.superseded_by is null or v.superseded_by > :batch_id)
{% if tonight %}
      and (:as_of - date '{{ anchor }}' - c.offset_days) % {{ interval }} = 0
{% endif %}
),
cost as materialized (
    -- One row per action and stretch of time in which a contact cost the same: the newest of what was recorded and of
    -- what our own pulls found, from the night of each on. The first one known stands for all time before it.
    select
        action,
        cost,
        case when row_number() over later > 1 then known_at else '-infinity' end as starts_at,
        coalesce(lead(known_at) over later, 'infinity') as ends_at
    from (
        select h.action, nba.number(h.value) as cost, h.changed_at as known_at, h.batch_id
        from history.action_changes as h
        where h.programme_id = :programme_id
          and h.batch_id <= :batch_id and (h.superseded_by is null or h.superseded_by > :batch_id)
          and h.attribute = 'cost' and nba.number(h.value) is not null
        union all
        select v.action, v.cost, date_trunc('day', v.seen_at, '{{ zone }}'), v.batch_id
        from history.action_versions as v
        where v.programme_id = :programme_id and v.batch_id <= :batch_id
    ) as known
    where action > 0  -- doing nothing is free, whatever a catalogue says of it
    window later as (partition by action order by known_at, batch_id)
),
contact as (
    -- One row per contact before as_of.
    select
        m.customer_key,
        day,
        nba.epoch_of(day, date '{{ anchor }}', m.offset_days, {{ interval }}) as epoch,
        c.contacted_at,
        c.contact_id,
        c.action,
        cost.cost
    from member as m
    join history.contacts as c using (customer_key)
    left join cost on cost.action = c.action and c.contacted_at >= cost.starts_at and c.contacted_at < cost.ends_at
    cross join lateral (select (c.contacted_at at time zone '{{ zone }}')::date as day) as local
    where c.batch_id <= :batch_id and (c.superseded_by is null or c.superseded_by > :batch_id)
      and day < :as_of
),
event as (
    -- One row per event before as_of.
    select
        m.customer_key,
        day,
        nba.epoch_of(day, date '{{ anchor }}', m.offset_days, {{ interval }}) as epoch,
        e.event_type,
        e.value
    from member as m
    join history.events as e using (customer_key)
    cross join lateral (select (e.occurred_at at time zone '{{ zone }}')::date as day) as local
    where e.batch_id <= :batch_id and (e.superseded_by is null or e.superseded_by > :batch_id)
      and day < :as_of
),
ending as (
    -- One row per customer: the first epoch on the grid, and the epoch in which the relationship ended, if it did.
    select
        m.customer_key,
        greatest(
            0,
            nba.epoch_of(m.created_on, date '{{ anchor }}', m.offset_days, {{ interval }}) + 1,
            nba.epoch_of(:log_start - 1, date '{{ anchor }}', m.offset_days, {{ interval }}) + 1
        ) as first_epoch,
        least(
            case when m.closed_on < :as_of then nba.epoch_of(m.closed_on, date '{{ anchor }}', m.offset_days, {{ interval }}) end,
            min(e.epoch)
        ) as end_epoch,
        -- The epoch that is running on the settlement day is the first one that is not settled.
        nba.epoch_of({{ ":as_of" if tonight else ":settled_on" }}, date '{{ anchor }}', m.offset_days, {{ interval }}) as open_epoch
    from member as m
    left join event as e
        on e.customer_key = m.customer_key
        and e.event_type = any (array[{{ ending_events | map("literal") | join(", ") }}]::text[])
    group by m.customer_key, m.created_on, m.closed_on, m.offset_days
),
activity as (
    -- One row per contact, event or epoch of the grid.
    select customer_key, epoch, day, action, cost, null as event_type, null::double precision as value, false as on_grid
    from contact
    union all
    select customer_key, epoch, day, null, null, event_type, value, false
    from event
    union all
    select customer_key, epoch, null, null, null, null, null, true
    from ending
    cross join lateral generate_series(
        {{ "open_epoch" if tonight else "first_epoch" }}, least(open_epoch, end_epoch)
    ) as epoch
    where open_epoch >= first_epoch
),
timeline as (
    -- One row per customer and epoch in which something happened or that lies on the grid.
    select
        customer_key,
        epoch,
        bool_or(on_grid) as on_grid,
        count(action) as contacts,
        coalesce(sum(cost), 0) as cost
{%- for outcome in outcomes %},
        {% if outcome.measure == "count" %}count(*){% else %}coalesce(sum(value){% endif %} filter (where event_type = {{ outcome.event | literal }})
        {%- if outcome.measure == "value" %}, 0){% endif %} as {{ outcome.column | identifier }}
{%- endfor %}
{%- for series in series_list %},
        {{ series.aggregate }} filter (where {{ series.condition }}) as {{ series.column | identifier }}
{%- endfor %}

    from activity
    group by customer_key, epoch
),
first_contact as (
    -- One row per customer and epoch with a contact: the first one is the epoch's action where no decision was logged.
    select distinct on (customer_key, epoch) customer_key, epoch, action
    from contact
    order by customer_key, epoch, contacted_at, contact_id
),
decision as (
    -- One row per customer and epoch with a logged decision: the first.
    select distinct on (m.customer_key, epoch) m.customer_key, epoch, d.action, d.eligible, d.propensity
    from member as m
    join history.decisions as d using (customer_key)
    cross join lateral (select (d.decided_at at time zone '{{ zone }}')::date as day) as local
    cross join lateral (select nba.epoch_of(day, date '{{ anchor }}', m.offset_days, {{ interval }}) as epoch) as grid
    where d.batch_id <= :batch_id and (d.superseded_by is null or d.superseded_by > :batch_id)
      and day < :as_of
    order by m.customer_key, epoch, d.decided_at, d.decision_id
),
attribute as materialized (
    -- One row per customer, mutable column and stretch of dates on which a value was the last one known: recorded, or
    -- found by one of our own pulls, on an earlier day.
    select customer_key, attribute, value, known_from, lead(known_from) over later as known_to
    from (
        select m.customer_key, h.attribute, h.value, h.changed_at as known_at, h.batch_id
        from member as m
        join history.customer_changes as h using (customer_key)
        where h.batch_id <= :batch_id and (h.superseded_by is null or h.superseded_by > :batch_id)
          and h.attribute = any (array[{{ mutable | map("literal") | join(", ") }}]::text[])
        union all
        select m.customer_key, a.name, v.attributes ->> a.name, v.seen_at, v.batch_id
        from member as m
        join history.customer_versions as v using (customer_key)
        cross join unnest(array[{{ mutable | map("literal") | join(", ") }}]::text[]) as a (name)
        where v.batch_id <= :batch_id
    ) as known
    cross join lateral (select (known_at at time zone '{{ zone }}')::date + 1 as known_from) as local
    window later as (partition by customer_key, attribute order by known_at, batch_id)
),
state as (
    -- One row per customer and epoch of the grid: what was known before it started.
    select
        t.customer_key,
        t.epoch,
        t.on_grid,
        nba.epoch_date(date '{{ anchor }}', m.offset_days, t.epoch, {{ interval }}) as starts_on,
        t.contacts,
        t.cost
{%- for outcome in outcomes %},
        t.{{ outcome.column | identifier }}
{%- endfor %}
{%- for window in windows %},
        {{ window.expression }} as {{ window.column | identifier }}
{%- endfor %}

    from timeline as t
    join member as m using (customer_key)
),
featured as (
    -- The same row with the state's columns typed, and the conditions that eligibility rests on.
    select
        s.*,
        m.split,
        f.*
    from state as s
    join member as m using (customer_key)
    join ending as n using (customer_key)
{% for column in mutable %}
    left join attribute as {{ ("as_of_" ~ column) | identifier }}
        on {{ ("as_of_" ~ column) | identifier }}.customer_key = s.customer_key
        and {{ ("as_of_" ~ column) | identifier }}.attribute = {{ column | literal }}
        and {{ ("as_of_" ~ column) | identifier }}.known_from <= s.starts_on
        and ({{ ("as_of_" ~ column) | identifier }}.known_to is null or {{ ("as_of_" ~ column) | identifier }}.known_to > s.starts_on)
{% endfor %}
    cross join lateral (
        select
            s.epoch = n.end_epoch as ends_here,
            s.epoch = n.open_epoch as is_open,
            s.epoch = n.open_epoch - 1 as opens_next
{%- for feature in features %},
            {{ feature.expression }} as {{ feature.column | identifier }}
{%- endfor %}
{%- for consent in consents %},
            {{ consent.expression }} as {{ consent.column | identifier }}
{%- endfor %}

    ) as f
    where s.on_grid
)
select
    r.customer_key,
    -- Of an open epoch not even the decision is known: it may lie after its start.
    case when r.is_open then {{ logged_mask }}
        else coalesce(d.eligible, {{ logged_mask }} | (1 << coalesce(c.action, 0))) end as eligible_logged,
    {{ target_mask }} as eligible_target,
    case when not r.is_open then d.propensity end as propensity,
    case when not r.is_open then {{ reward }} end as reward,
    case when not r.is_open then r.cost end as cost,
    r.epoch,
    case when not r.is_open then coalesce(d.action, c.action, 0) end as action,
    case when not r.is_open then r.contacts end as contacts,
    coalesce(r.ends_here, false) and not r.is_open as done,
    not r.is_open and not coalesce(r.ends_here, false)
        and r.opens_next as truncated,
    r.split
{%- for outcome in outcomes %},
    case when not r.is_open then r.{{ outcome.column | identifier }} end as {{ outcome.column | identifier }}
{%- endfor %}
{%- for feature in features %},
    r.{{ feature.column | identifier }}
{%- endfor %}

from featured as r
left join decision as d using (customer_key, epoch)
left join first_contact as c using (customer_key, epoch)
