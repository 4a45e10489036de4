"""W1, the work that is measured: 1.9 million staggered customers, 10 million contacts, 10 million events, half a year.

A tenth of them is simulated; the others are the same lives under other ids, to which the hashes give other days, splits
and arms. Nothing but contacts and events was logged, as in most CRMs: no decisions, so every propensity is estimated.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

import pandas as pd
import sqlalchemy as sa

from nba_tasks import database
from nba_tasks.programme import Programme, read_programme
from nba_tasks.settings import REPOSITORY
from nba_tasks.simulators.crm import RELATIONS, History, create_contract, write_history
from nba_tasks.simulators.market import QUIET
from nba_tasks.simulators.sales_channels import simulate
from nba_tasks.simulators.sales_channels_history import FEATURE_COLUMNS, to_history

CUSTOMERS = 1_900_000
SHARDS = 32
AS_OF = dt.date(2026, 6, 3)
SIMULATED = CUSTOMERS // 10
BLOCK = 25_000  # customers simulated at a time
PROCESSES = 2
SAMPLE = 5_000_000
"""Transitions that are learned from."""

JUDGED = 65_000
"""Customers of each split whom the gate reads: about 400,000 windows of four weeks."""

MARKET = replace(
    QUIET,
    restraint=1.82,  # a contact in five weeks
    base_visit=tuple(2.85 * rate for rate in QUIET.base_visit),  # a shop whose visits are tracked: as many events
)

SECONDARY_INDEXES = (
    *("contacts_contacted_at", "contacts_customer", "events_occurred_at", "events_customer"),
    *("customer_changes_changed_at",),
)
"""Indexes of the contract that a bulk load does without; they are made again behind it."""


def programme_of(scale: float) -> Programme:
    """The shipped programme at this size: shards grow with the customers, learning and gate read samples."""
    shipped = read_programme(REPOSITORY / "dags" / "programmes" / "sales_channels.yaml").model_dump()
    return Programme.model_validate(
        shipped
        | {
            "shards": max(2, round(SHARDS * scale)),
            "learning": {"discount": 0.95, "max_customers": round(SAMPLE / 24.5)},
            "gate": shipped["gate"] | {"max_customers": JUDGED},
        }
    )


def fill(url: str, scale: float, as_of: dt.date = AS_OF) -> None:
    """Fill an empty CRM."""
    engine = database.engine(url)
    create_contract(engine, FEATURE_COLUMNS)
    with engine.begin() as connection:
        made = {
            name: connection.scalar(sa.text("select pg_get_indexdef(to_regclass(:name))"), {"name": name})
            for name in SECONDARY_INDEXES
        }
        connection.exec_driver_sql(f"drop index {', '.join(SECONDARY_INDEXES)}")
    customers = round(CUSTOMERS * scale)
    blocks = range(0, min(customers, SIMULATED), BLOCK)
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        parts = [pool.submit(_write, url, scale, as_of, list(blocks[i::PROCESSES])) for i in range(PROCESSES)]
        for part in parts:
            part.result()
    repeat(url, customers)
    with engine.begin() as connection:
        for statement in made.values():
            connection.exec_driver_sql(str(statement))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("vacuum analyze")


def _write(url: str, scale: float, as_of: dt.date, firsts: list[int]) -> None:
    """One process's share of the blocks."""
    customers = min(round(CUSTOMERS * scale), SIMULATED)

    def histories() -> Iterator[History]:
        for first in firsts:
            n = min(BLOCK, customers - first)
            played = simulate(n, first, MARKET, as_of=as_of, first_customer=first + 1)
            history = to_history(played, log_decisions=False)
            yield history if first == 0 else replace(history, actions=pd.DataFrame())

    write_history(database.engine(url), histories())


def repeat(url: str, customers: int) -> None:
    """Let the simulated customers live again under other ids, until there are as many as asked for."""
    shifted = {
        "customers": {"customer_id": 1},
        "contacts": {"contact_id": 10_000, "customer_id": 1},
        "events": {"event_id": 100_000, "customer_id": 1},
        "customer_changes": {"customer_id": 1},
    }
    with database.engine(url).begin() as connection:
        for relation, ids in shifted.items():
            columns = connection.scalars(
                sa.text(
                    "select quote_ident(attname) from pg_attribute"
                    " where attrelid = to_regclass(:name) and attnum > 0 and not attisdropped order by attnum"
                ),
                {"name": relation},
            ).all()
            # The ids of a life follow from its customer's: `sales_channels_history.py`.
            values = [f"({c}::bigint + {ids[c]}::bigint * shift)::text" if c in ids else c for c in columns]
            connection.exec_driver_sql(
                f"""
                insert into {relation} ({", ".join(columns)})
                select {", ".join(values)}
                from generate_series({SIMULATED}, {customers - 1}, {SIMULATED}) as shift
                cross join {relation}
                where customer_id::bigint + shift <= {customers}
                """
            )


def sizes(url: str) -> dict[str, Any]:
    """Rows of each relation of the CRM, and bytes of contacts, events and customers with their keys."""
    with database.engine(url).connect() as connection:
        rows = {name: connection.scalar(sa.text(f"select count(*) from {name}")) for name in RELATIONS}
        stored = connection.scalar(
            sa.text(
                """
                select sum(pg_table_size(c.oid) + pg_relation_size(i.indexrelid))
                from pg_class as c join pg_index as i on i.indrelid = c.oid and i.indisprimary
                where c.oid = any (array['contacts', 'events', 'customers']::regclass[])
                """
            )
        )
    return {"rows": rows, "bytes": int(stored or 0)}
