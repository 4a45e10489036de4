-- One row: a customer of a programme, with what never changes of them.
select c.customer_key, c.customer_id, c.split, c.arm, v.created_at, v.closed_at
from history.customers as c
join nba.programmes as p using (programme_id)
left join lateral (
    select created_at, closed_at from history.customer_versions as v
    where v.customer_key = c.customer_key
    order by v.batch_id desc
    limit 1
) as v on true
where p.programme = :programme and c.customer_id = :customer_id
