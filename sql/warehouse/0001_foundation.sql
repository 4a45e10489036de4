-- The warehouse: what a programme knows, as it was pulled, batch by batch.
-- Heavy tables carry programme_id (2 bytes) and customer_key (4 bytes) instead of the names they stand for.

create schema if not exists nba;
create schema if not exists staging;
create schema if not exists history;
create schema if not exists transitions;  -- one generated table per programme, named like the programme

-- One row per programme; its grid and salt are fixed by the first run.
create table nba.programmes (
    programme_id      smallint generated always as identity primary key,
    programme         text     not null unique,
    interval_days     integer  not null,
    anchor            date     not null,
    business_timezone text     not null,
    stagger           boolean  not null,
    salt              text     not null,
    created_at        timestamptz not null default now()
);

-- One row per pull; the first run of an as_of makes it, and every rerun reads up to it.
create table nba.batches (
    batch_id     integer  primary key,  -- the next whole number, so that a repeated run counts alike
    programme_id smallint not null references nba.programmes,
    as_of        date     not null,
    started_at   timestamptz not null default now(),
    staged_at    timestamptz,  -- every relation is in staging
    rows         jsonb,        -- staged, by relation
    validated_at timestamptz,  -- bad rows are in quarantine, nothing critical failed
    merged_at    timestamptz,  -- the batch is part of history
    unique (programme_id, as_of)
);

-- One row per relation and local day that a batch pulled again (day null: the whole relation, pulled every night).
create table nba.pulled_days (
    batch_id integer not null references nba.batches,
    relation text    not null,
    day      date,
    unique nulls not distinct (batch_id, relation, day)
);

-- One row per source row of the batch being pulled; row_number tells duplicates apart. The other staging tables alike.
-- digest: the first 4 bytes of the MD5 of the row's text; the source computes it, so that both sides compare one number.
-- quarantined: set by validation; such a row does not enter history.
create unlogged table staging.customers (
    row_number  bigint not null,
    batch_id    integer not null,
    loaded_at   timestamptz not null default now(),
    digest      integer not null,
    quarantined boolean not null default false,
    customer_id text,
    created_at  timestamptz,
    closed_at   timestamptz,
    attributes  jsonb    -- consent and feature columns, by column name
);
create unlogged table staging.contacts (
    row_number   bigint not null,
    batch_id     integer not null,
    loaded_at    timestamptz not null default now(),
    digest       integer not null,
    quarantined  boolean not null default false,
    contact_id   text,
    customer_id  text,
    contacted_at timestamptz,
    action_id    text,
    decision_id  text
);
create unlogged table staging.events (
    row_number  bigint not null,
    batch_id    integer not null,
    loaded_at   timestamptz not null default now(),
    digest      integer not null,
    quarantined boolean not null default false,
    event_id    text,
    customer_id text,
    occurred_at timestamptz,
    event_type  text,
    value       double precision
);
create unlogged table staging.actions (
    row_number     bigint not null,
    batch_id       integer not null,
    loaded_at      timestamptz not null default now(),
    digest         integer not null,
    quarantined    boolean not null default false,
    action_id      text,
    channel        text,
    cost           double precision,
    active_from    timestamptz,
    active_to      timestamptz,
    daily_capacity integer,
    features       jsonb    -- the numeric columns that the programme names
);
create unlogged table staging.customer_changes (
    row_number  bigint not null,
    batch_id    integer not null,
    loaded_at   timestamptz not null default now(),
    digest      integer not null,
    quarantined boolean not null default false,
    customer_id text,
    changed_at  timestamptz,
    attribute   text,
    value       text
);
create unlogged table staging.action_changes (
    row_number bigint not null,
    batch_id   integer not null,
    loaded_at  timestamptz not null default now(),
    digest     integer not null,
    quarantined boolean not null default false,
    action_id  text,
    changed_at timestamptz,
    attribute  text,
    value      text
);
create unlogged table staging.decisions (
    row_number       bigint not null,
    batch_id         integer not null,
    loaded_at        timestamptz not null default now(),
    digest           integer not null,
    quarantined      boolean not null default false,
    decision_id      text,
    customer_id      text,
    decided_at       timestamptz,
    action_id        text,
    eligible_actions text[],
    probabilities    double precision[]  -- in the order of eligible_actions
);

-- One row per bad row and batch; open until a later batch pulls the row's day again.
create table nba.quarantine (
    programme_id smallint not null references nba.programmes,
    relation     text     not null,
    batch_id     integer  not null references nba.batches,
    row_number   bigint   not null,  -- of the staging row
    row_id       text,               -- the source's own key, where it has one
    day          date,               -- local day of the row, null where unknown
    reasons      text[]   not null,
    source_row   jsonb    not null,
    run_id       text,
    resolved_by  integer  references nba.batches,  -- the batch that pulled it again
    primary key (batch_id, relation, row_number)
);
create index on nba.quarantine (programme_id, relation) where resolved_by is null;

-- One row per customer ever seen: what must never be recomputed. A customer whose versions all ended is gone.
create table history.customers (
    customer_key integer  primary key,
    programme_id smallint not null references nba.programmes,
    customer_id  text     not null,
    offset_days  smallint not null,  -- of the customer's grid
    bucket       smallint not null,  -- 0..1023; shard = bucket % shards
    split        "char"   not null,  -- l(earn), s(elect), g(ate), h(oldout arm)
    arm          "char"   not null,  -- h(oldout), b(usiness as usual), s(erved)
    batch_id     integer  not null references nba.batches,
    unique (programme_id, customer_id)
);
create index on history.customers (programme_id, bucket);

-- In all tables below a row is one version: seen first in batch_id, no longer so in superseded_by.

-- One row per version of a customer's mutable columns.
create table history.customer_versions (
    customer_key  integer not null references history.customers,
    known_from    date    not null,  -- the first decision date on which we could have known it
    created_at    timestamptz not null,
    closed_at     timestamptz,
    attributes    jsonb   not null,
    batch_id      integer not null,
    superseded_by integer,
    primary key (customer_key, batch_id)
);

-- One row per action ever seen; `action` is its index everywhere: bit of eligible masks, column of probabilities.
create table history.actions (
    programme_id smallint not null references nba.programmes,
    action       smallint not null check (action between 0 and 30),
    action_id    text     not null,
    primary key (programme_id, action),
    unique (programme_id, action_id)
);

-- One row per version of an action's catalogue entry.
create table history.action_versions (
    programme_id   smallint not null,
    action         smallint not null,
    known_from     date     not null,
    channel        text,
    cost           double precision not null,
    active_from    timestamptz,
    active_to      timestamptz,
    daily_capacity integer,
    features       jsonb    not null,
    batch_id       integer  not null,
    superseded_by  integer,
    primary key (programme_id, action, batch_id),
    foreign key (programme_id, action) references history.actions
);

-- One row per version of a contact.
create table history.contacts (
    contacted_at  timestamptz not null,
    customer_key  integer  not null,
    batch_id      integer  not null,
    superseded_by integer,
    digest        integer  not null,
    programme_id  smallint not null,
    action        smallint not null,
    contact_id    text     not null,
    decision_id   text,
    loaded_at     timestamptz not null,
    primary key (programme_id, contact_id, batch_id)
);
create index on history.contacts (customer_key);
create index on history.contacts (programme_id, contacted_at);

-- One row per version of an event.
create table history.events (
    occurred_at   timestamptz not null,
    value         double precision,
    customer_key  integer  not null,
    batch_id      integer  not null,
    superseded_by integer,
    digest        integer  not null,
    programme_id  smallint not null,
    event_type    text     not null,
    event_id      text     not null,
    loaded_at     timestamptz not null,
    primary key (programme_id, event_id, batch_id)
);
create index on history.events (customer_key);
create index on history.events (programme_id, occurred_at);

-- One row per version of a randomised decision: the only source of a logged propensity.
create table history.decisions (
    decided_at    timestamptz not null,
    customer_key  integer  not null,
    batch_id      integer  not null,
    superseded_by integer,
    digest        integer  not null,
    eligible      integer  not null,  -- mask of the actions that were allowed
    propensity    double precision not null,  -- probability of the action taken
    programme_id  smallint not null,
    action        smallint not null,
    decision_id   text     not null,
    loaded_at     timestamptz not null,
    primary key (programme_id, decision_id, batch_id)
);
create index on history.decisions (customer_key);
create index on history.decisions (programme_id, decided_at);

-- One row per version of a change to a customer's column.
create table history.customer_changes (
    changed_at    timestamptz not null,
    customer_key  integer  not null,
    batch_id      integer  not null,
    superseded_by integer,
    digest        integer  not null,
    programme_id  smallint not null,
    attribute     text     not null,
    value         text,
    loaded_at     timestamptz not null,
    primary key (customer_key, attribute, changed_at, batch_id)
);
create index on history.customer_changes (programme_id, changed_at);

-- One row per version of a change to an action's column.
create table history.action_changes (
    changed_at    timestamptz not null,
    batch_id      integer  not null,
    superseded_by integer,
    digest        integer  not null,
    programme_id  smallint not null,
    action        smallint not null,
    attribute     text     not null,
    value         text,
    loaded_at     timestamptz not null,
    primary key (programme_id, action, attribute, changed_at, batch_id)
);

-- One row per shard of a programme's transitions table: what it was built from.
create table nba.transition_shards (
    programme_id smallint not null references nba.programmes,
    shard        smallint not null,
    shards       smallint not null,
    as_of        date     not null,
    batch_id     integer  not null references nba.batches,
    fingerprint  text     not null,  -- of the programme file's part that shapes the rows
    rows         bigint   not null,
    seconds      double precision not null,
    built_at     timestamptz not null default now(),
    primary key (programme_id, shard)
);

-- One row per gate: the ledger of every candidate that was judged, and of what was decided about it.
create table nba.gates (
    gate_id           integer  generated always as identity primary key,
    programme_id      smallint not null references nba.programmes,
    as_of             date     not null,
    batch_id          integer  not null,  -- no reference: the ledger outlives a rebuild of the history
    candidate_version integer  not null,  -- version of the registered model
    incumbent_version integer  not null,
    attempt           integer,            -- k: how many candidates this incumbent has faced; null: the gate never opened
    alpha             double precision,   -- spent on this attempt
    mix               double precision,   -- λ
    value_incumbent   double precision,   -- per window
    value_candidate   double precision,
    delta             double precision,
    lower_bound       double precision,
    upper_bound       double precision,
    effective_size    double precision,
    windows           integer,
    customers         integer,
    verdict           text     not null check (verdict in ('PROMOTE', 'DEFER', 'REJECT')),
    propensities      text     not null check (propensities in ('logged', 'estimated', 'mixed')),
    report            jsonb    not null,
    mlflow_run_id     text     not null,
    dag_run_id        text,
    judged_at         timestamptz not null default now(),
    decision          text check (decision in ('approved', 'rejected')),
    decided_by        text,
    decided_at        timestamptz,
    comment           text,
    unique (programme_id, candidate_version),
    unique (programme_id, incumbent_version, attempt)  -- α is spent once per attempt, however many run at a time
);

-- One row per customer scored for a night: the state and the probabilities that tonight's draw uses, kept for audits.
create table nba.scores (
    programme_id   smallint not null references nba.programmes,
    as_of          date     not null,
    customer_key   integer  not null references history.customers,
    shard          smallint not null,
    epoch          integer  not null,
    policy_version integer  not null,
    eligible       integer  not null,
    state          real[]   not null,
    expected_value real[]   not null,  -- Q per action, by action index
    probability    double precision[] not null,
    primary key (programme_id, as_of, customer_key)
);
