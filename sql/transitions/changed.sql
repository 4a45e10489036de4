-- One row per customer of the shard whose transitions are not what an earlier build left, with the first epoch of theirs
-- that may differ (-1: all of them). What lies at or behind the epoch that is still open changes no row yet.
-- Parameters: those of epochs.sql; built_batch, built_settled_on: of the earlier build.
create temporary table changed on commit drop as
with member as materialized (
    -- One row per customer of the shard.
    select
        customer_key,
        offset_days,
        nba.epoch_of(:built_settled_on, date '{{ anchor }}', offset_days, {{ interval }}) as built_epoch,
        nba.epoch_of(:settled_on, date '{{ anchor }}', offset_days, {{ interval }}) as open_epoch
    from history.customers
    where programme_id = :programme_id and bucket % :shards = :shard
),
touched as (
    -- One row per contact, event, decision or change that came or went since; a customer's own version that came since
    -- tells of mutable columns, and these count from the day on which a pull found them.
{% for relation, time in (
    ("contacts", "contacted_at"), ("events", "occurred_at"), ("decisions", "decided_at"), ("customer_changes", "changed_at"),
    ("customer_versions", "seen_at")
) %}
    select customer_key, {{ time }} as moment
    from history.{{ relation }}
    where (batch_id > :built_batch and batch_id <= :batch_id)
{% if relation != "customer_versions" %}
       or (superseded_by > :built_batch and superseded_by <= :batch_id)
{% endif %}
{% if not loop.last %}
    union all
{% endif %}
{% endfor %}
),
replaced as (
    -- One row per customer who came, went, or is another in what no epoch changes.
    select customer_key
    from (
        select
            customer_key,
            superseded_by is null or superseded_by > :batch_id as is_new,
            batch_id <= :built_batch as is_old,
            (created_at, closed_at{% for column in immutable %}, attributes ->> {{ column | literal }}{% endfor %}) as person
        from history.customer_versions
        where ((batch_id > :built_batch and batch_id <= :batch_id)
           or (superseded_by > :built_batch and superseded_by <= :batch_id))
    ) as version
    where is_old or is_new
    group by customer_key
    having count(*) filter (where is_new) <> 1 or count(*) filter (where is_old) <> 1 or count(distinct person) > 1
)
select customer_key, min(epoch) as from_epoch
from (
    -- Epochs that have settled since.
    select customer_key, open_epoch, built_epoch as epoch
    from member
    union all
    select
        m.customer_key,
        m.open_epoch,
        nba.epoch_of((t.moment at time zone '{{ zone }}')::date, date '{{ anchor }}', m.offset_days, {{ interval }})
    from touched as t
    join member as m using (customer_key)
    union all
    select m.customer_key, m.open_epoch, -1
    from replaced
    join member as m using (customer_key)
) as change
where epoch < open_epoch
group by customer_key
