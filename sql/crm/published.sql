-- What this project writes back into the CRM. `decisions` is read as well: it is the log that the next policy learns from.

{% if make_decisions %}
-- One row per randomised decision, `no_action` included: what was allowed, with which probabilities, and what was drawn
create table if not exists {{ decisions }} (
    decision_id       text primary key,
    customer_id       text not null,
    decided_at        timestamptz not null,
    action_id         text not null,
    eligible_actions  text[] not null,
    probabilities     double precision[] not null,  -- one for each eligible action, in the same order
    -- from here on: known only of decisions that this project published
    programme         text,
    expected_values   double precision[],           -- one for each eligible action, in the same order
    reason            text,
    explored          boolean,
    arm               text,
    policy_version    text,
    run_id            text,
    published_at      timestamptz
);
create index if not exists decisions_decided_at on {{ decisions }} (decided_at);
create index if not exists decisions_customer on {{ decisions }} (customer_id, decided_at);
{% endif %}

-- One row per programme and night whose list was published; it is never rewritten, only marked expired.
create table if not exists publications (
    programme      text        not null,
    list_date      date        not null,
    policy_version integer     not null,
    run_id         text        not null,
    published_at   timestamptz not null default now(),
    decisions      integer     not null,
    to_send        integer     not null,
    valid_until    timestamptz not null,  -- the next local midnight: nobody sends yesterday's list
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
    expected_value double precision,        -- of this action now and of the policy afterwards; version 0 knows none
    value_over_no_action double precision,  -- null where doing nothing is not allowed
    reason         text    not null,
    policy_version integer not null,
    foreign key (programme, list_date) references publications
);
create index if not exists campaign_list_night on {{ campaign_list }} (programme, list_date);

-- The list that may be sent now: the newest one, on its own day, unless it has expired.
create or replace view campaign_list_tonight as
select l.*
from {{ campaign_list }} as l
join publications as p using (programme, list_date)
where p.expired_at is null
  and p.valid_until > now()
  and not exists (
      select from publications as later
      where later.programme = p.programme and later.list_date > p.list_date
  );
