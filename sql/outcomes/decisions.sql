-- One row per decision that was published with the policy in use and whose epoch has settled: what it was and what came of
-- it. Parameters: programme_id, list_dates and policy_versions (of the published lists, pair by pair).
select
    rows.customer_key,
    rows.epoch,
    rows.arm,
    rows.as_of as list_date,
    rows.action,
    rows.reward,
    rows.propensity,
    rows.done,
    rows.contacts,
    rows.cost,
{% for column in columns %}
    rows.{{ column | identifier }},
{% endfor %}
    coalesce(rows.eligible, {{ logged_mask }} | 1 << rows.action) as eligible_logged,
    {{ target_mask }} as eligible_target,
    nba.epoch_of(date '{{ settled_on }}', date '{{ anchor }}', rows.offset_days, {{ interval }}) - 1 as last_epoch,
    -- Late or corrected rows: the state as it is known now is not the one that was decided on.
    rows.scored is distinct from array[
        {%- for feature in features %}rows.{{ feature.column | identifier }}{{ ", " if not loop.last }}{% endfor %}
    ]::real[] as differs
from (
    select
        t.*,
        coalesce(s.arm, c.arm) as arm,
        c.offset_days,
        s.as_of,
        s.state as scored,
        s.as_of as starts_on
    from nba.scores as s
    join unnest(cast(:list_dates as date[]), cast(:policy_versions as integer[])) as published (as_of, policy_version)
        using (as_of, policy_version)
    join history.customers as c using (customer_key)
    join {{ table | identifier }} as t using (customer_key, epoch)
    where s.programme_id = :programme_id
      and t.action is not null
) as rows
order by rows.customer_key, rows.epoch
