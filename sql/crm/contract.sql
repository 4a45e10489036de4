-- The CRM contract: the relations of the source database from which everything else follows.
-- Safe to repeat. Feature columns (of customers and actions) are added by whoever owns the data.
-- All times are instants (timestamptz); local days are worked out in the programme's business time zone.

-- one row per customer; the values are today's, earlier ones stand in customer_changes
create table if not exists customers (
    customer_id    text primary key,
    created_at     timestamptz not null,
    consent_email  boolean,              -- null: unknown, and unknown is not consent
    consent_mail   boolean,
    consent_phone  boolean,
    closed_at      timestamptz           -- when the account was closed; null: open
);

-- one row per contact made: a message sent, a letter posted, a call placed (`no_action` never stands here)
create table if not exists contacts (
    contact_id    text primary key,
    customer_id   text not null,
    contacted_at  timestamptz not null,
    action_id     text not null,
    decision_id   text                   -- the decision it carries out; null: nobody's decision (an override)
);
create index if not exists contacts_contacted_at on contacts (contacted_at);
create index if not exists contacts_customer on contacts (customer_id, contacted_at);

-- one row per thing that a customer did
create table if not exists events (
    event_id     text primary key,
    customer_id  text not null,
    occurred_at  timestamptz not null,
    event_type   text not null,
    value        double precision        -- what a purchase was worth, in currency; null where nothing is measured
);
create index if not exists events_occurred_at on events (occurred_at);
create index if not exists events_customer on events (customer_id, occurred_at);

-- one row per action of the catalogue; `no_action` (cost 0, no channel) may stand here, and is always there
create table if not exists actions (
    action_id       text primary key,
    channel         text,
    cost            double precision not null default 0,  -- of one contact, in currency
    active_from     timestamptz not null,
    active_to       timestamptz,         -- null: still active
    daily_capacity  integer              -- null: no limit
);

-- one row per value that a customer's attribute took, from changed_at until the next row of the same attribute
create table if not exists customer_changes (
    customer_id  text not null,
    changed_at   timestamptz not null,
    attribute    text not null,          -- a column of customers
    value        text,
    primary key (customer_id, attribute, changed_at)
);
create index if not exists customer_changes_changed_at on customer_changes (changed_at);

-- one row per value that an action's attribute took, from changed_at until the next row of the same attribute
create table if not exists action_changes (
    action_id   text not null,
    changed_at  timestamptz not null,
    attribute   text not null,           -- a column of actions
    value       text,
    primary key (action_id, attribute, changed_at)
);
create index if not exists action_changes_changed_at on action_changes (changed_at);
