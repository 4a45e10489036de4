-- One row per customer as the CRM knows them at this moment: whether the relationship has ended, and what rules
-- ask of them (unknown counts as no). Parameters: ending_events, since (the first instant whose events may be news to the scores).
select
    c.customer_id::text as customer_id,
    coalesce(c.closed_at <= now(), false) or ended.customer_id is not null as gone
{%- for column in flags %},
    coalesce(c.{{ column | identifier }}, false) as {{ column | identifier }}
{%- endfor %}

from {{ customers | identifier }} as c
left join (
    select distinct customer_id::text as customer_id
    from {{ events | identifier }}
    where occurred_at >= :since
      and event_type::text = any (:ending_events)
) as ended on ended.customer_id = c.customer_id::text
