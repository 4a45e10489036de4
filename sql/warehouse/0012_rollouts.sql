-- A new champion serves a growing share of the customers.

-- One row per step of a policy's roll-out: its share of the served customers from a night on; the rest keep to the policy
-- before it. A policy without a row serves all of them.
create table nba.rollouts (
    programme_id     smallint    not null references nba.programmes,
    policy_version   integer     not null,
    previous_version integer     not null,
    share            smallint    not null check (share between 1 and 100),  -- per cent
    begins_on        date,                  -- null: from the policy's first night on
    decided_by       text        not null,
    decided_at       timestamptz not null default now(),
    comment          text,
    primary key (programme_id, policy_version, share)
);

-- The arm that a customer was scored for: that of the history, but for those whom a roll-out leaves to the policy before.
alter table nba.scores add column arm "char";
