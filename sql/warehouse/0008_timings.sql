-- One row per step (of a shard, where it is mapped) that was carried to its end: how long it took, and for how many rows.
create table nba.timings (
    programme  text        not null,
    as_of      date        not null,
    step       text        not null,
    shard      smallint,             -- null where the step is not mapped
    started_at timestamptz not null,
    seconds    double precision not null,
    rows       bigint      not null  -- written, or read where the step writes none
);
create index on nba.timings (programme, step, started_at);

-- A score is written from a row of history.customers: asking for every one of millions whether it is there costs more
-- than writing it.
alter table nba.scores drop constraint scores_customer_key_fkey;
alter table history.customer_versions drop constraint customer_versions_customer_key_fkey;
