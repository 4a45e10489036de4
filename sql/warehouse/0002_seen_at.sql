-- A version of a customer or of an action keeps the moment at which a pull saw it first. What a pull sees at two in the
-- morning may have changed after midnight: a decision of the same day did not know it.

alter table history.customer_versions add column seen_at timestamptz;
update history.customer_versions as v
set seen_at = v.known_from::timestamp at time zone p.business_timezone
from history.customers as c
join nba.programmes as p using (programme_id)
where c.customer_key = v.customer_key;
alter table history.customer_versions alter column seen_at set not null, drop column known_from;

alter table history.action_versions add column seen_at timestamptz;
update history.action_versions as v
set seen_at = v.known_from::timestamp at time zone p.business_timezone
from nba.programmes as p
where p.programme_id = v.programme_id;
alter table history.action_versions alter column seen_at set not null, drop column known_from;
