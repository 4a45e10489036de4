-- One row: how many gates pass the filters.
select count(*)
from nba.gates as g
join nba.programmes as p using (programme_id)
join (select programme_id, max(gate_id) as gate_id from nba.gates group by programme_id) as newest using (programme_id)
where {% include "pages/gates_filter.sql" %}
