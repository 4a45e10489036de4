-- One row per customer whose epochs are asked for: the part of the customer that no epoch changes. A table, because the
-- planner cannot guess how many customers of a shard there are (or are due), and joins them by nested loops over each
-- other if it takes them for a handful.
-- Parameters, `tonight` and `changed_only`: those of epochs.sql.
create temporary table member on commit drop as
select
    c.customer_key,
    c.offset_days,
    c.split,
    {{ "r.from_epoch" if changed_only else "0" }} as from_epoch,
    (v.created_at at time zone '{{ zone }}')::date as created_on,
    (v.closed_at at time zone '{{ zone }}')::date as closed_on
{%- for column in fixed %},
    {{ column.expression }} as {{ column.column | identifier }}
{%- endfor %}

from history.customers as c
join history.customer_versions as v using (customer_key)
{% if changed_only %}
join pg_temp.changed as r using (customer_key)
{% endif %}
where c.programme_id = :programme_id
  and c.bucket % :shards = :shard
  and v.batch_id <= :batch_id and (v.superseded_by is null or v.superseded_by > :batch_id)
{% if tonight %}
  and (:as_of - date '{{ anchor }}' - c.offset_days) % {{ interval }} = 0
{% endif %}
