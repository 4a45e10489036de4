-- One row: how many policies of a programme stood at a gate.
select count(*) from nba.gates as g join nba.programmes as p using (programme_id) where p.programme = :programme
