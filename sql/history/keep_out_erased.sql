-- Marks a batch's rows of erased customers, so that they do not enter history. Parameters: batch_id, programme_id,
-- programme, salt.
{% for relation in ("customers", "contacts", "events", "customer_changes", "decisions") %}
update staging.{{ relation }} as s set quarantined = true
where s.batch_id = :batch_id
  -- Looked at once: where nobody was ever erased, no row is hashed.
  and exists (select from nba.erased where programme_id = :programme_id)
  and nba.hash63(:programme, 'erased', :salt, s.customer_id)
      in (select customer from nba.erased where programme_id = :programme_id);
{% endfor %}
