-- What the pages in Airflow's UI need to find and to keep.

alter table nba.gates add column review_run_id text;  -- the promotion review run that asks about the gate

-- Of what identifies the data that the candidate learned from.
alter table nba.gates add column fingerprint jsonb;

-- One row per run that made a night's list, dry runs included: the list as a whole. Whether it was published is for the
-- CRM's `publications` to say.
create table nba.lists (
    programme_id   smallint not null references nba.programmes,
    list_date      date     not null,
    run_id         text     not null,
    policy_version integer  not null,
    dry_run        boolean  not null,
    summary        jsonb    not null,
    made_at        timestamptz not null default now(),
    primary key (programme_id, list_date, run_id)
);

-- One row per time that somebody put an earlier champion back.
create table nba.rollbacks (
    rollback_id  integer  generated always as identity primary key,
    programme_id smallint not null references nba.programmes,
    from_version integer  not null,
    to_version   integer  not null,
    decided_by   text     not null,
    decided_at   timestamptz not null default now(),
    comment      text
);

-- One row per what-if: a gate's candidate judged again with other thresholds. The review never reads it.
create table nba.what_ifs (
    what_if_id integer generated always as identity primary key,
    gate_id    integer not null references nba.gates on delete cascade,
    thresholds jsonb   not null,  -- those that were asked differently, by their key in the programme file
    verdict    text    not null check (verdict in ('PROMOTE', 'DEFER', 'REJECT')),
    report     jsonb   not null,
    asked_by   text    not null,
    asked_at   timestamptz not null,
    dag_run_id text
);
create index on nba.what_ifs (gate_id);

-- A customer's trace reads the nights on which they were scored.
create index on nba.scores (customer_key);
