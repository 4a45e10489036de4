-- Scores belong to the policy version that gave them: two runs of a date cannot mix, and a list needs every shard.

alter table nba.scores
    drop constraint scores_pkey,
    add primary key (programme_id, as_of, policy_version, customer_key);

-- One row per shard of a night that was scored to its end with a policy version.
create table nba.scored_shards (
    programme_id   smallint not null references nba.programmes,
    as_of          date     not null,
    policy_version integer  not null,
    shard          smallint not null,
    fingerprint    text     not null,  -- of the programme file's part that shapes states and eligible actions
    customers      integer  not null,
    scored_at      timestamptz not null default now(),
    primary key (programme_id, as_of, policy_version, shard)
);
