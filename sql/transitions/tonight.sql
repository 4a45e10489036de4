-- One row per customer due on as_of, with the state of the epoch that starts tonight and the actions allowed in it.
select
    rows.customer_key,
    c.customer_id,
    c.arm,
    rows.epoch,
    {{ target_mask }} as eligible,
    rows.conditions
{%- for feature in features %},
    rows.{{ feature.column | identifier }}
{%- endfor %}

from (
{% include "transitions/epochs.sql" %}
) as rows
join history.customers as c using (customer_key)
order by rows.customer_key
