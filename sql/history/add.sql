-- Adds the good staged rows of {{ relation }} that have no current version.
with good as (
    {% include "history/rows/" ~ relation ~ ".sql" %}
)
insert into history.{{ relation }} (programme_id, batch_id, {{ columns | join(", ") }})
select :programme_id, :batch_id, {{ columns | join(", ") }}
from good
where not exists (
    select from history.{{ relation }} as h
    where h.programme_id = :programme_id
      and h.superseded_by is null
{% for column in key %}
      and h.{{ column }} = good.{{ column }}
{% endfor %}
)
{% if "customer_key" in columns %}
order by customer_key  -- a customer's rows lie together: reading a shard reads few pages
{% endif %}
