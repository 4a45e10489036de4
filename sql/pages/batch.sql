-- One row: the batch of a date, how far it came, and how many of its rows are in quarantine.
select b.batch_id, b.as_of, b.rows, b.staged_at, b.validated_at, b.merged_at, p.business_timezone,
    (select count(*) from nba.quarantine as q where q.batch_id = b.batch_id) as quarantined,
    (select count(*) from nba.quarantine as q where q.batch_id = b.batch_id and q.resolved_by is null) as open
from nba.batches as b
join nba.programmes as p using (programme_id)
where p.programme = :programme and b.as_of = :as_of
