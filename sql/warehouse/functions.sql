-- Functions shared by every statement; replaced as a whole at each migration.

-- First 8 bytes of SHA-256('programme|purpose|salt|customer_id') without the top bit. Python's twin: nba_tasks/hashing.py.
create or replace function nba.hash63(programme text, purpose text, salt text, customer_id text) returns bigint
language sql immutable strict parallel safe as $$
    select ('x' || encode(substring(sha256(convert_to(
        programme || '|' || purpose || '|' || salt || '|' || customer_id, 'UTF8')) from 1 for 8), 'hex')
    )::bit(64)::bigint & 9223372036854775807
$$;

-- The same number as a share in [0, 1).
create or replace function nba.uniform(programme text, purpose text, salt text, customer_id text) returns double precision
language sql immutable strict parallel safe as $$
    select nba.hash63(programme, purpose, salt, customer_id) / 9223372036854775808.0::double precision
$$;

-- The instant at which a local date starts. Where clocks go back over midnight, a day has two: the first counts.
create or replace function nba.midnight(day date, zone text) returns timestamptz
language sql immutable strict parallel safe as $$
    select case
        when ((day::timestamp at time zone zone - interval '1 hour') at time zone zone)::date = day
            then day::timestamp at time zone zone - interval '1 hour'
        else day::timestamp at time zone zone
    end
$$;

-- The local date on which epoch k of a customer's grid starts (at midnight).
create or replace function nba.epoch_date(anchor date, offset_days integer, epoch integer, interval_days integer)
returns date language sql immutable strict parallel safe as $$
    select anchor + offset_days + epoch * interval_days
$$;

-- The epoch that holds a local date; negative before the anchor.
create or replace function nba.epoch_of(day date, anchor date, offset_days integer, interval_days integer)
returns integer language sql immutable strict parallel safe as $$
    -- Integer division rounds towards zero: from a million intervals ahead, it rounds down.
    select (day - anchor - offset_days + 1000000 * interval_days) / interval_days - 1000000
$$;

-- A column's text as a number: booleans are 0 and 1, what is no number is null. Not declared strict, though it is: the
-- planner then writes the body into the statement, instead of calling it once per row.
create or replace function nba.number(value text) returns real
language sql immutable parallel safe as $$
    select case
        when lower(value) in ('true', 't', 'yes', 'y', 'on') then 1
        when lower(value) in ('false', 'f', 'no', 'n', 'off') then 0
        -- Most numbers; so short that a real can hold them.
        when length(value) <= 30 and value ~ '^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)$' then value::real
        -- What a real cannot hold raises an error: too near to zero is zero, too far from it is no number.
        when value ~ '^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?$' then case
            when abs(value::numeric) < 1e-37 then 0
            when abs(value::numeric) < 3e38 then value::real
        end
    end
$$;
