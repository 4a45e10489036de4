-- One row per local day of the source's {{ relation }}: its rows, and a sum that any difference in them changes.
select
    ({{ before | identifier }} at time zone {{ zone | literal }})::date as day,
    count(*) as rows,
    sum(digest)::bigint as digest
from (
{% include "pull/source.sql" %}
) as source
where isfinite({{ before | identifier }})
group by 1
