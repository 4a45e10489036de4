-- Transitions are brought up to date by what came or went since an earlier batch: rows are appended batch by batch, so
-- that a summary of blocks finds what came; few rows have ended.

{% for relation in ("contacts", "events", "decisions", "customer_changes", "customer_versions") %}
create index on history.{{ relation }} using brin (batch_id) with (pages_per_range = 32);
create index on history.{{ relation }} (superseded_by) where superseded_by is not null;
{% endfor %}
