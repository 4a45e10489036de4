-- One row per customer scored for a night with a policy version, with the uniform number that tonight's draw uses.
select
    c.customer_key,
    c.customer_id,
    c.arm,
    s.eligible,
    s.state,
    s.expected_value,
    s.probability,
    s.moved,
    s.policy_version,
    nba.uniform(:programme, 'draw', :salt || '|' || :as_of, c.customer_id) as draw
from nba.scores as s
join history.customers as c using (programme_id, customer_key)
where s.programme_id = :programme_id and s.as_of = cast(:as_of as date) and s.policy_version = :version
order by c.customer_key
