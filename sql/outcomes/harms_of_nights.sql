-- One row per night, arm and harm of a roll-out: how many customers suffered that harm for the first time since the roll-out
-- began, after that night's decision and before the next one. Parameters: programme_id, batch_id, version, nights (when
-- lists were published with the version), first (their first instant), as_of, harms.
with suffered as materialized (
    select customer_key, event_type as harm, min(occurred_at) as occurred_at
    from history.events
    where programme_id = :programme_id
      and occurred_at >= :first
      and event_type = any (cast(:harms as text[]))
      and batch_id <= :batch_id and (superseded_by is null or superseded_by > :batch_id)
    group by customer_key, event_type
)
select s.as_of, s.arm::text as arm, e.harm, count(*) as events
from suffered as e
join nba.scores as s using (customer_key)
where s.programme_id = :programme_id and s.policy_version = :version and s.arm in ('s', 'p')
  and s.as_of = any (cast(:nights as date[]))
  and e.occurred_at >= nba.midnight(s.as_of, '{{ zone }}')
  and e.occurred_at < nba.midnight(least(s.as_of + {{ interval }}, :as_of), '{{ zone }}')
group by s.as_of, s.arm, e.harm
