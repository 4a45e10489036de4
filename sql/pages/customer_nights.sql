-- One row per night on which a customer was scored, newest first: the state that was decided on, and each action's
-- value and chance by its number.
select s.as_of, s.policy_version, s.arm, s.epoch, s.eligible, s.state, s.expected_value, s.probability
from nba.scores as s
where s.customer_key = :customer_key
order by s.as_of desc, s.policy_version desc
limit 60
