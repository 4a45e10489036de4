-- One row per customer scored for a night with a policy version, with the uniform number that tonight's draw uses; the
-- arrays of the scores are columns of their own here, one a position.
select
    c.customer_key,
    c.customer_id,
    coalesce(s.arm, c.arm) as arm,
    s.eligible,
    nba.uniform(:programme, 'draw', :salt || '|' || :as_of, c.customer_id) as draw
{%- for name, length in arrays.items() %}{% for position in range(length) %},
    s.{{ name }}[{{ position + 1 }}]
{%- endfor %}{% endfor %}

from nba.scores as s
join history.customers as c using (programme_id, customer_key)
where s.programme_id = :programme_id and s.as_of = cast(:as_of as date) and s.policy_version = :version
order by c.customer_key
