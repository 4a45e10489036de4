-- One row per good staged decision, shaped like history.decisions. Few sets of eligible actions occur: each becomes a
-- mask once.
select
    s.decided_at,
    k.customer_key,
    m.eligible,
    s.probabilities[array_position(s.eligible_actions, s.action_id)] as propensity,
    a.action,
    s.decision_id,
    s.digest,
    s.loaded_at
from staging.decisions as s
join history.customers as k on k.programme_id = :programme_id and k.customer_id = s.customer_id
join history.actions as a on a.programme_id = :programme_id and a.action_id = s.action_id
join (
    select d.eligible_actions, bit_or(1 << e.action) as eligible
    from (
        select distinct eligible_actions from staging.decisions where batch_id = :batch_id and not quarantined
    ) as d
    join history.actions as e on e.programme_id = :programme_id and e.action_id = any (d.eligible_actions)
    group by d.eligible_actions
) as m on m.eligible_actions = s.eligible_actions
where s.batch_id = :batch_id and not s.quarantined
