-- One row per customer due on as_of, with the state of the epoch that starts tonight, the actions allowed in it, and the
-- number in [0, 1) that says whom a roll-out reaches first.
select
    rows.customer_key,
    c.customer_id,
    c.arm,
    rows.epoch,
    {{ target_mask }} as eligible,
    rows.conditions,
    {{ "nba.uniform(:programme, 'rollout', :rollout_salt, c.customer_id)" if rolled_out else "0::double precision" }} as rollout
{%- for feature in features %},
    rows.{{ feature.column | identifier }}
{%- endfor %}

from (
{% include "transitions/epochs.sql" %}
) as rows
join history.customers as c using (customer_key)
order by rows.customer_key
