-- One row per published decision about a customer, newest first. (In the CRM.)
select
    decision_id, decided_at, action_id, eligible_actions, probabilities, expected_values, reason, explored, arm,
    policy_version, run_id, published_at
from {{ decisions | identifier }}
where customer_id = :customer_id and programme = :programme
order by decided_at desc
limit 60
