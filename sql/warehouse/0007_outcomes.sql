-- What the published lists really earned.

-- One row per programme and day: the realised value of each arm, the gate's promise beside it, drift, delivery, alerts.
create table nba.outcomes (
    programme_id   smallint    not null references nba.programmes,
    as_of          date        not null,
    policy_version integer     not null,  -- in use
    content        jsonb       not null,
    alerts         text[]      not null,
    looked_at      timestamptz not null default now(),
    primary key (programme_id, as_of)
);

-- One row per proposal to take the policy in use out of it: what spoke against it, and what was decided.
create table nba.demotions (
    demotion_id  integer     generated always as identity primary key,
    programme_id smallint    not null references nba.programmes,
    as_of        date        not null,
    from_version integer     not null,
    to_version   integer     not null,
    evidence     text        not null,
    proposed_at  timestamptz not null default now(),
    decision     text check (decision in ('approved', 'rejected')),
    decided_by   text,
    decided_at   timestamptz,
    comment      text,
    unique (programme_id, from_version, as_of)
);
