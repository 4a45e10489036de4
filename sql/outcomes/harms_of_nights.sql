-- One row per night, arm and harm of a roll-out: how many customers were decided for, and how often that harm has come to
-- them since, until their next decision. Parameters: programme_id, batch_id, version, since, as_of, harms.
select
    s.as_of,
    s.arm::text as arm,
    h.harm,
    count(distinct s.customer_key) as decisions,
    count(e.event_id) as events
from nba.scores as s
join unnest(cast(:nights as date[])) as published (as_of) using (as_of)
cross join unnest(cast(:harms as text[])) as h (harm)
left join history.events as e
    on e.customer_key = s.customer_key
   and e.event_type = h.harm
   and e.batch_id <= :batch_id and (e.superseded_by is null or e.superseded_by > :batch_id)
   and e.occurred_at >= nba.midnight(s.as_of, '{{ zone }}')
   and e.occurred_at < nba.midnight(least(s.as_of + {{ interval }}, :as_of), '{{ zone }}')
where s.programme_id = :programme_id and s.policy_version = :version and s.arm in ('s', 'p')
group by s.as_of, s.arm, h.harm
order by s.as_of, s.arm, h.harm
