-- One row per action that a programme ever had, by its number.
select a.action, a.action_id
from history.actions as a
join nba.programmes as p using (programme_id)
where p.programme = :programme
order by a.action
