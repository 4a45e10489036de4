-- One row: the transitions that were built for a date, as long as none were built for a later one.
select sum(s.rows) as rows, count(*) as shards, sum(s.seconds) as seconds
from nba.transition_shards as s
join nba.programmes as p using (programme_id)
where p.programme = :programme and s.as_of = :as_of
having count(*) > 0
