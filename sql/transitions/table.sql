-- One row per customer and epoch, up to the first epoch that is not settled (the open row: a state without an action).
-- The next state of a row is the next row. Nothing in a row depends on the night that built it: which actions were
-- eligible is read off the conditions. Generated from the programme file; derived data, rebuilt rather than migrated.
create table {{ table | identifier }} (
    conditions   {{ conditions_type }} not null,  -- which of the programme's conditions held, a bit each; masks are read off them
    customer_key integer  not null,
    eligible     integer,            -- mask of the eligible actions that the decision logged; null where none was logged
    propensity   real,               -- logged probability of the action; null where no decision was logged
    reward       real,               -- weighted outcomes minus costs until the next epoch; null in an open row
    cost         real,
{% for outcome in outcomes if outcome.type == "real" %}
    {{ outcome.column | identifier }} real,
{% endfor %}
{% for feature in features if feature.type == "real" %}
    {{ feature.column | identifier }} real not null,
{% endfor %}
    shard        smallint not null,
    epoch        smallint not null,
    action       smallint,           -- index of the action; null in an open row
    contacts     smallint,           -- all contacts of the epoch, overrides included
{% for outcome in outcomes if outcome.type == "smallint" %}
    {{ outcome.column | identifier }} smallint,
{% endfor %}
{% for feature in features if feature.type == "smallint" %}
    {{ feature.column | identifier }} smallint not null,
{% endfor %}
    done         boolean  not null,  -- the relationship ended in this epoch
    split        "char"   not null
) partition by list (shard);
{% for shard in range(shards) %}
create table {{ (table ~ "$" ~ shard) | identifier }} partition of {{ table | identifier }} for values in ({{ shard }});
{% endfor %}
