-- One row per row of the source's {{ relation }} strictly before as_of, with the columns of staging and their digest.
-- A row without a (finite) time has no day: it is read every night, and validation refuses it.
select
    ('x' || substr(md5(source::text), 1, 8))::bit(32)::integer as digest,
    source.*
from (
    select
{%- for column in columns %}

        {{ column.expression }} as {{ column.name | identifier }}{{ "," if not loop.last }}
{%- endfor %}

    from {{ table | identifier }}
{% if programme_only %}
    where (programme is null or programme = {{ programme | literal }})
{% else %}
    where true
{% endif %}
{% if before %}
      and ({{ before | identifier }} is null or {{ before | identifier }} < {{ midnight(as_of) }})
{% endif %}
{% if ranges is not none %}
      and (
          {{ before | identifier }} is null or {{ before | identifier }} = '-infinity'
{% for first, last in ranges %}
          or {{ before | identifier }} >= {{ midnight(first) }} and {{ before | identifier }} < {{ midnight(last) }}
{% endfor %}
      )
{% endif %}
) as source
