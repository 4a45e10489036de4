-- One row: on how many nights a programme's list was made.
select count(distinct (l.programme_id, l.list_date))
from nba.lists as l
join nba.programmes as p using (programme_id)
where p.programme = any (:programmes)
