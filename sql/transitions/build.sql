-- Fills one shard of a programme's transitions: one row per customer and epoch, as epochs.sql defines it. The rows come
-- in the order of customer and epoch; nothing rests on it.
insert into {{ partition | identifier }} (
    customer_key, conditions, epoch, shard, eligible, propensity, reward, cost, action, contacts, done, split
{%- for outcome in outcomes %}, {{ outcome.column | identifier }}{% endfor %}
{%- for feature in features %}, {{ feature.column | identifier }}{% endfor %}

)
{% include "transitions/epochs.sql" %}
