-- One row per run that made the list of a night: first the one that was meant to be published, newest first.
select l.*, p.programme, p.business_timezone
from nba.lists as l
join nba.programmes as p using (programme_id)
where p.programme = :programme and l.list_date = :list_date
order by l.dry_run, l.made_at desc
