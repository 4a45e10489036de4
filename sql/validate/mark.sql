-- Marks the staged rows of {{ relation }} that break a rule, and lists them with the reasons.
create temporary table bad_row on commit drop as
-- One row per bad row.
select row_number, array_agg(reason order by rule) as reasons
from (
{% for rule in rules %}
    select row_number, {{ loop.index }} as rule, {{ rule.reason | literal }} as reason from (
        {{ rule.query }}
    ) as broken
{% if not loop.last %}
    union all
{% endif %}
{% endfor %}
) as broken
group by row_number;

update staging.{{ relation }} as s
set quarantined = true
from bad_row
where s.batch_id = {{ batch_id }} and s.row_number = bad_row.row_number;

-- One row per bad row. A night with too many is refused as a whole: then examples will do, the source has them all.
insert into nba.quarantine (programme_id, relation, batch_id, row_number, row_id, day, reasons, source_row, run_id)
select
    {{ programme_id }},
    {{ relation | literal }},
    {{ batch_id }},
    s.row_number,
    {{ row_id }},
    {% if time %}case when isfinite(s.{{ time }}) then (s.{{ time }} at time zone {{ zone }})::date end{% else %}null{% endif %},
    bad_row.reasons,
    to_jsonb(s) - array['row_number', 'batch_id', 'loaded_at', 'digest', 'quarantined'],
    {{ run_id | literal }}
from bad_row
join staging.{{ relation }} as s on s.batch_id = {{ batch_id }} and s.row_number = bad_row.row_number
order by s.row_number
limit (
    select {{ examples }}
    where (select count(*) from bad_row)
        > {{ most }} * (select count(*) from staging.{{ relation }} where batch_id = {{ batch_id }})
);

drop table bad_row
