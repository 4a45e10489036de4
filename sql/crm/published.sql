-- What this project writes back into the CRM, beside `decisions` (contract.sql).

-- One row per programme and night whose list was published; it is never rewritten, only marked expired.
create table if not exists publications (
    programme      text        not null,
    list_date      date        not null,
    policy_version integer     not null,
    run_id         text        not null,
    published_at   timestamptz not null default now(),
    decisions      integer     not null,
    to_send        integer     not null,
    expired_at     timestamptz,
    expired_reason text,
    primary key (programme, list_date)
);

-- One row per customer to contact on a night: the part of `decisions` that is to be sent.
create table if not exists {{ campaign_list }} (
    decision_id    text primary key,
    programme      text    not null,
    list_date      date    not null,
    customer_id    text    not null,
    action_id      text    not null,
    channel        text    not null,
    expected_value double precision not null,  -- of this action now and of the policy afterwards
    value_over_no_action double precision,     -- null where doing nothing is not allowed
    reason         text    not null,
    policy_version integer not null,
    foreign key (programme, list_date) references publications
);
create index if not exists campaign_list_night on {{ campaign_list }} (programme, list_date);

-- The list that may be sent now: the newest one, unless it has expired.
create or replace view campaign_list_tonight as
select l.*
from {{ campaign_list }} as l
join publications as p using (programme, list_date)
where p.expired_at is null
  and not exists (
      select from publications as later
      where later.programme = p.programme and later.list_date > p.list_date
  );
