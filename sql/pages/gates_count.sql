-- One row: how many gates pass the filters.
select count(*)
from nba.gates as g
join nba.programmes as p using (programme_id)
where {% include "pages/gates_filter.sql" %}
