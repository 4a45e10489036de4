-- Ends the versions of {{ relation }} on days that were not pulled whose row has turned up elsewhere: a corrected time.
with good as (
    {% include "history/rows/" ~ relation ~ ".sql" %}
)
update history.{{ relation }} as h
set superseded_by = :batch_id
from good
where h.programme_id = :programme_id
  and h.superseded_by is null
  and h.digest <> good.digest
{% for column in key %}
  and h.{{ column }} = good.{{ column }}
{% endfor %}
