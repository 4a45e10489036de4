-- Fills one shard of a programme's transitions: one row per customer and epoch, as epochs.sql defines it.
insert into {{ table | identifier }} (
    shard, customer_key, eligible_logged, eligible_target, propensity, reward, cost, epoch, action, contacts, done,
    truncated, split
{%- for outcome in outcomes %}, {{ outcome.column | identifier }}{% endfor %}
{%- for feature in features %}, {{ feature.column | identifier }}{% endfor %}

)
select :shard, rows.*
from (
{% include "transitions/epochs.sql" %}
) as rows
order by rows.customer_key, rows.epoch
