-- One row per customer and epoch of a shard's split, with the eligible actions by the rules of the epoch's own day and by
-- tonight's, and the last epoch that the calendar has settled on the customer's grid.
select
{% for column in columns %}
    rows.{{ column | identifier }},
{% endfor %}
    coalesce(rows.eligible, {{ logged_mask }} | case when rows.action is null then 0 else 1 << rows.action end) as eligible_logged,
    {{ target_mask }} as eligible_target,
    nba.epoch_of(date '{{ settled_on }}', date '{{ anchor }}', rows.offset_days, {{ interval }}) - 1 as last_epoch
from (
    select t.*, c.offset_days, nba.epoch_date(date '{{ anchor }}', c.offset_days, t.epoch, {{ interval }}) as starts_on
    from {{ table | identifier }} as t
    join history.customers as c using (customer_key)
    where t.split = '{{ split }}'
{% if sample is not none %}
      {% include "transitions/sampled.sql" %}

{% endif %}
) as rows
