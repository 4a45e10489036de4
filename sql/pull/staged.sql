-- One row per row of the source's {{ relation }} that this batch reads, numbered within the batch.
select row_number() over () as row_number, {{ batch_id }} as batch_id, source.*
from (
{% include "pull/source.sql" %}
) as source
