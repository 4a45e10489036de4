-- What stops a list, and what a list says of itself.

-- One row per time that somebody stopped a programme's lists; it is stopped while resumed_at is null.
create table nba.stops (
    stop_id      integer     generated always as identity primary key,
    programme_id smallint    not null references nba.programmes,
    stopped_at   timestamptz not null default now(),
    stopped_by   text        not null,
    reason       text        not null,
    resumed_at   timestamptz,
    resumed_by   text
);
create unique index stops_open on nba.stops (programme_id) where resumed_at is null;

-- The state's columns that moved a choice most, by position, the strongest first; -1 where none did.
alter table nba.scores add column moved smallint[] not null default '{}';
