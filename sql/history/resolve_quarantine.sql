-- Closes the quarantine rows of earlier batches whose days (or whole relations) this batch has read again.
update nba.quarantine as q
set resolved_by = :batch_id
where q.programme_id = :programme_id
  and q.resolved_by is null
  and q.batch_id < :batch_id
  and q.relation = any (:relations)
  and (
      q.day is null  -- rows without a time are read every night
      or exists (
          select from nba.pulled_days as d
          where d.batch_id = :batch_id and d.relation = q.relation and (d.day is null or d.day = q.day)
      )
  )
