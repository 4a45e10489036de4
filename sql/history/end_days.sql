-- Ends the versions of {{ relation }} on the pulled days that the source no longer holds as they were.
with good as (
    {% include "history/rows/" ~ relation ~ ".sql" %}
),
stretch as (
    -- One row per pulled day; a null day stands for the whole relation.
    select
        coalesce(nba.midnight(day, :zone), '-infinity') as starts_at,
        coalesce(nba.midnight(day + 1, :zone), 'infinity') as ends_at
    from nba.pulled_days
    where batch_id = :batch_id and relation = {{ relation | literal }}
)
update history.{{ relation }} as h
set superseded_by = :batch_id
from stretch
where h.programme_id = :programme_id
  and h.superseded_by is null
  and h.{{ time }} >= stretch.starts_at and h.{{ time }} < stretch.ends_at
  and not exists (
      select from good
      where good.digest = h.digest
{% for column in key %}
        and good.{{ column }} = h.{{ column }}
{% endfor %}
  )
