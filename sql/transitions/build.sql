-- Fills one shard of a programme's transitions: one row per customer and epoch, as epochs.sql defines it.
insert into {{ partition | identifier }} (
    shard, customer_key, eligible, conditions, propensity, reward, cost, epoch, action, contacts, done, split
{%- for outcome in outcomes %}, {{ outcome.column | identifier }}{% endfor %}
{%- for feature in features %}, {{ feature.column | identifier }}{% endfor %}

)
-- The rows come in the order of customer and epoch already; nothing rests on it.
select :shard, rows.*
from (
{% include "transitions/epochs.sql" %}
) as rows
