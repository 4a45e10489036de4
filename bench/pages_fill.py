"""What bench/pages.py fills the databases with: years of gates and lists, and a week of 1.9 million decisions.

All of it set-wise. The rows are plausible, not learned: this is about how fast pages find them.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from nba_tasks.programme import Programme

GATES = 10_000
DECISIONS = 1_900_000  # one a customer
NIGHTS = 7  # of the week on which everybody is due once
LISTS = 3_000  # nights with a list, of which the last week's rows are there
BUSY = 500  # contacts, and events, of the customer whose trace is asked for

WAREHOUSE = """
insert into nba.programmes (programme, interval_days, anchor, business_timezone, stagger, salt)
values (:programme, 7, '2024-01-01', :zone, true, 'bench');

insert into nba.batches (batch_id, programme_id, as_of, staged_at, rows, validated_at, merged_at)
select 1, programme_id, :today, now(), '{"contacts": 1900000, "events": 1900000}', now(), now() from nba.programmes;

insert into history.customers (customer_key, programme_id, customer_id, offset_days, bucket, split, arm, batch_id)
select i, 1, 'C' || i, i % 7, i % 1024, 'l', 's', 1 from generate_series(1, :decisions) as i;

insert into history.customer_versions (customer_key, created_at, attributes, batch_id, seen_at)
select i, timestamptz '2024-01-01', '{"segment": "regular", "age_band": "55+"}', 1, timestamptz '2024-01-01'
from generate_series(1, :decisions) as i;

insert into history.actions (programme_id, action, action_id)
select 1, ordinality - 1, name from unnest(cast(:actions as text[])) with ordinality as a (name, ordinality);

insert into history.contacts
    (contacted_at, customer_key, batch_id, digest, programme_id, action, contact_id, loaded_at)
select cast(:today as date) - interval '1 hour' * (i % 4000), case when i <= :busy then 1 else i end, 1, 0, 1,
    1 + i % 3, 'k' || i, now()
from generate_series(1, :decisions) as i;

insert into history.events
    (occurred_at, value, customer_key, batch_id, digest, programme_id, event_type, event_id, loaded_at)
select cast(:today as date) - interval '1 hour' * (i % 4000), 20, case when i <= :busy then 1 else i end, 1, 0, 1,
    'visit', 'e' || i, now()
from generate_series(1, :decisions) as i;

insert into nba.gates (
    programme_id, as_of, batch_id, candidate_version, incumbent_version, attempt, alpha, mix, value_incumbent,
    value_candidate, delta, lower_bound, upper_bound, effective_size, windows, customers, verdict, propensities, report,
    mlflow_run_id, dag_run_id, judged_at, decision, decided_by, decided_at, comment, review_run_id, fingerprint
)
select 1, cast(:today as date) - (:gates - i) / 4, 1, i + 1, 1 + i / 8 * 8, 1 + i % 8, 0.05, 0.5, 2.1, 2.3, 0.2, 0.05,
    0.35, 4000, 90000, 18000, (array['PROMOTE', 'DEFER', 'REJECT'])[1 + i % 3], 'logged', cast(:report as jsonb),
    md5(i::text), 'manual__' || i, now() - interval '6 hours' * (:gates - i),
    case when i % 3 = 0 and i < :gates - 3 then case when i % 2 = 0 then 'approved' else 'rejected' end end,
    case when i % 3 = 0 and i < :gates - 3 then 'edna' end,
    case when i % 3 = 0 and i < :gates - 3 then now() - interval '6 hours' * (:gates - i) end,
    null, null, '{"rows_from": "0123456789ab", "programme_file": "0123456789ab"}'
from generate_series(1, :gates) as i;

insert into nba.lists (programme_id, list_date, run_id, policy_version, dry_run, summary, made_at)
select 1, cast(:today as date) - i, 'night ' || i || case when dry then ' dry' else '' end, 2 + 3 * (i / 30), dry,
    cast(:summary as jsonb), now() - interval '1 day' * i
from generate_series(0, :lists - 1) as i, unnest(array[true, false]) as dry;

insert into nba.scores (
    programme_id, as_of, customer_key, shard, epoch, policy_version, eligible, state, expected_value, probability
)
select 1, cast(:today as date) - i % :nights, i, i % 8, 100, 2, 15, array[1,2,0.5,20,1,1,2,1,30,60,1,0,12,3],
    array[1,1.2,1.3,0.9], array[0.1,0.2,0.5,0.2]
from generate_series(1, :decisions) as i;
"""

CRM = """
insert into publications (programme, list_date, policy_version, run_id, decisions, to_send, valid_until)
select :programme, cast(:today as date) - i, 2, 'night ' || i, :decisions / :nights, :decisions / :nights / 2,
    cast(:today as date) - i + interval '1 day'
from generate_series(0, :lists - 1) as i;

insert into decisions (
    decision_id, customer_id, decided_at, action_id, eligible_actions, probabilities, programme, expected_values,
    reason, explored, arm, policy_version, run_id, published_at
)
select 'd' || i, 'C' || i, (cast(:today as date) - i % :nights) + interval '2 hours',
    (cast(:actions as text[]))[1 + i % 4], cast(:actions as text[]), array[0.1,0.2,0.5,0.2], :programme,
    array[1,1.2,1.3,0.9], 'earns most from here on', false, 'served', '2', 'night ' || i % :nights, now()
from generate_series(1, :decisions) as i;

insert into campaign_list (
    decision_id, programme, list_date, customer_id, action_id, channel, expected_value, value_over_no_action, reason,
    policy_version
)
select decision_id, programme, cast(decided_at - interval '2 hours' as date), customer_id, action_id, 'email', 1.2,
    0.2 + hashtext(customer_id) % 1000 / 1e4, reason, 2
from decisions where action_id <> 'no_action';
"""


def newest_night(warehouse: Engine) -> dt.date | None:
    """The date of the newest list; None where nothing was filled in yet."""
    with warehouse.connect() as connection:
        found: dt.date | None = connection.scalar(sa.text("select max(list_date) from nba.lists"))
    return found


def fill(
    warehouse: Engine,
    crm: Engine,
    programme: Programme,
    report: Mapping[str, Any],
    summary: Mapping[str, Any],
    today: dt.date,
) -> None:
    """Fill both databases, whose tables are there and empty."""
    actions = [row["action_id"] for row in summary["actions"]]
    known = {
        "programme": programme.programme, "zone": programme.grid.business_timezone, "today": today, "gates": GATES,
        "decisions": DECISIONS, "nights": NIGHTS, "lists": LISTS, "busy": BUSY, "actions": actions,
        "report": json.dumps(report), "summary": json.dumps(summary),
    }  # fmt: skip
    # The warehouse last: it says whether all is there.
    for database, statements in ((crm, CRM), (warehouse, WAREHOUSE)):
        with database.begin() as connection:
            connection.exec_driver_sql("set local synchronous_commit = off")
            for statement in statements.split(";\n"):
                if statement.strip():
                    connection.execute(sa.text(statement), known)
        with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("vacuum analyze")
