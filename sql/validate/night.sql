-- One row: what the night as a whole must pass, counted over history (the days that were not pulled) and staging.
with current_day as (
    -- One row per relation and local day of the last four weeks and of tonight's pull.
    select relation, day, count(*) as rows
    from (
{% for relation, time in (("contacts", "contacted_at"), ("events", "occurred_at")) %}
        select '{{ relation }}' as relation, (h.{{ time }} at time zone {{ zone }})::date as day
        from history.{{ relation }} as h
        where h.programme_id = {{ programme_id }}
          and h.superseded_by is null
          and h.{{ time }} >= ((date {{ as_of }} - 29)::timestamp at time zone {{ zone }})
          and not exists (
              select from nba.pulled_days as d
              where d.batch_id = {{ batch_id }} and d.relation = '{{ relation }}'
                and (d.day is null or d.day = (h.{{ time }} at time zone {{ zone }})::date)
          )
        union all
        select '{{ relation }}', (s.{{ time }} at time zone {{ zone }})::date
        from staging.{{ relation }} as s
        where s.batch_id = {{ batch_id }} and not s.quarantined
{% if not loop.last %}
        union all
{% endif %}
{% endfor %}
    ) as rows
    group by relation, day
),
usual as (
    -- One row per relation: yesterday's rows, and those of a usual day: the lesser of the median day of the four weeks
    -- before and the median of the same weekday, so that a quiet Sunday is no alarm.
    select
        relation,
        coalesce(max(rows) filter (where day = date {{ as_of }} - 1), 0) as yesterday,
        least(
            percentile_cont(0.5) within group (order by coalesce(rows, 0)) filter (where day < date {{ as_of }} - 1),
            percentile_cont(0.5) within group (order by coalesce(rows, 0))
                filter (where day in (date {{ as_of }} - 8, date {{ as_of }} - 15, date {{ as_of }} - 22, date {{ as_of }} - 29))
        ) as usual
    from (values ('contacts'), ('events')) as r (relation)
    cross join generate_series(1, 29) as ago
    cross join lateral (select date {{ as_of }} - ago as day) as calendar
    left join current_day using (relation, day)
    group by relation
)
select
    (select count(*) from staging.customers where batch_id = {{ batch_id }} and not quarantined) as customers,
    (
        (select count(*) from (select from history.contacts where programme_id = {{ programme_id }} limit 1) as h)
        + (select count(*) from (select from history.decisions where programme_id = {{ programme_id }} limit 1) as h)
        + (select count(*) from staging.contacts where batch_id = {{ batch_id }})
        + (select count(*) from staging.decisions where batch_id = {{ batch_id }})
    ) as contacts_and_decisions,
    (
        (select count(*) from (select from history.events where programme_id = {{ programme_id }} limit 1) as h)
        + (select count(*) from staging.events where batch_id = {{ batch_id }})
    ) as events,
    date {{ as_of }} - 1 - (
        select (max(occurred_at) at time zone {{ zone }})::date
        from (
            select max(occurred_at) as occurred_at
            from history.events
            where programme_id = {{ programme_id }} and occurred_at < (date {{ as_of }}::timestamp at time zone {{ zone }})
            union all
            select max(occurred_at) from staging.events where batch_id = {{ batch_id }} and not quarantined
        ) as newest
    ) as event_age_days,
    (select yesterday / nullif(usual, 0) from usual where relation = 'events') as event_volume,
    (select yesterday / nullif(usual, 0) from usual where relation = 'contacts') as contact_volume,
    (select count(*) from staging.customers where batch_id = {{ batch_id }})::double precision / nullif((
        select count(*)
        from history.customer_versions as v
        join history.customers as k using (customer_key)
        where k.programme_id = {{ programme_id }} and v.superseded_by is null
    ), 0) as customer_volume,
    (
        select count(*) from (
            select {{ no_action }} as action_id
            union
            select action_id from history.actions where programme_id = {{ programme_id }}
            union
            select action_id from staging.actions where batch_id = {{ batch_id }} and not quarantined
        ) as ever
    ) as actions_ever,
    (
        select string_agg(format('%s (from %s to %s)', a.action_id, v.channel, s.channel), ', ' order by a.action)
        from history.action_versions as v
        join history.actions as a using (programme_id, action)
        join staging.actions as s on s.batch_id = {{ batch_id }} and not s.quarantined and s.action_id = a.action_id
        where v.programme_id = {{ programme_id }}
          and v.channel is distinct from s.channel
          and not exists (
              select from history.action_versions as later
              where later.programme_id = v.programme_id and later.action = v.action and later.batch_id > v.batch_id
          )
    ) as moved_actions,
    (
        select string_agg(
            format('%s (%s from %s to %s)', a.action_id, feature.key, coalesce(feature.value, 'nothing'),
                coalesce(s.features ->> feature.key, 'nothing')),
            ', ' order by a.action, feature.key
        )
        from history.action_versions as v
        join history.actions as a using (programme_id, action)
        join staging.actions as s on s.batch_id = {{ batch_id }} and not s.quarantined and s.action_id = a.action_id
        cross join jsonb_each_text(v.features) as feature
        where v.programme_id = {{ programme_id }}
          and s.features ? feature.key  -- a column that the file names no longer, or only now, is no change
          and s.features -> feature.key is distinct from v.features -> feature.key
          and not exists (
              select from history.action_versions as later
              where later.programme_id = v.programme_id and later.action = v.action and later.batch_id > v.batch_id
          )
    ) as changed_features
{%- for relation in relations %},
    -- Rows tried again were judged on their first night; and a single row is no share.
    (
        select case when count(*) filter (where s.quarantined) > 1 then avg(s.quarantined::integer)::double precision end
        from staging.{{ relation }} as s
        where s.batch_id = {{ batch_id }}
          and not exists (
              select from nba.quarantine as q
              join nba.batches as b using (batch_id)
              where q.programme_id = {{ programme_id }}
                and q.relation = '{{ relation }}'
                and q.resolved_by is null
                and b.merged_at is not null
                and q.row_id = {{ row_ids[relation] }}
          )
    ) as {{ relation }}_quarantined
{%- endfor %}
