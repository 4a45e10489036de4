-- One row per customer and epoch of a split, with the last epoch that the calendar has settled on the customer's grid.
select
{% for column in columns %}
    t.{{ column | identifier }},
{% endfor %}
    nba.epoch_of(date '{{ settled_on }}', date '{{ anchor }}', c.offset_days, {{ interval }}) - 1 as last_epoch
from {{ table | identifier }} as t
join history.customers as c using (customer_key)
where t.split = '{{ split }}'
{% if sample is not none %}
  -- Keys are handed out one by one; multiplying by an odd constant spreads them evenly over 2^32.
  and t.customer_key::bigint * 2654435761 % 4294967296 < {{ sample }}
{% endif %}
order by t.customer_key, t.epoch
