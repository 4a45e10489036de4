-- Forgets everything that was pulled or derived for one programme; the ledger of gates stays.
delete from nba.scores where programme_id = :programme_id;
delete from nba.scored_shards where programme_id = :programme_id;
delete from nba.transition_shards where programme_id = :programme_id;
delete from nba.quarantine where programme_id = :programme_id;
{% for relation in ("contacts", "events", "decisions", "customer_changes", "action_changes", "action_versions", "actions") %}
delete from history.{{ relation }} where programme_id = :programme_id;
{% endfor %}
delete from history.customer_versions as v using history.customers as c
where c.customer_key = v.customer_key and c.programme_id = :programme_id;
delete from history.customers where programme_id = :programme_id;
{% for relation in ("customers", "contacts", "events", "actions", "customer_changes", "action_changes", "decisions") %}
delete from staging.{{ relation }} as s using nba.batches as b
where b.batch_id = s.batch_id and b.programme_id = :programme_id;
{% endfor %}
delete from nba.pulled_days as d using nba.batches as b
where b.batch_id = d.batch_id and b.programme_id = :programme_id;
delete from nba.batches where programme_id = :programme_id;
update nba.programmes
set interval_days = :interval_days, anchor = :anchor, business_timezone = :business_timezone, stagger = :stagger,
    salt = :salt
where programme_id = :programme_id;
