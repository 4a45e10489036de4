"""Third step of the nightly flow: merge the batch's good rows into history, version by version.

History keeps every version of every row. Up to batch b it reads
`batch_id <= b and (superseded_by is null or superseded_by > b)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from nba_tasks.contract import RELATIONS
from nba_tasks.database import execute, lock, quote_identifier
from nba_tasks.programme import NO_ACTION, Programme
from nba_tasks.pull import PullError, bulk_session, pending_batch

KEYS: Mapping[str, tuple[str, ...]] = {
    "contacts": ("contact_id",),
    "events": ("event_id",),
    "decisions": ("decision_id",),
    "customer_changes": ("customer_key", "attribute", "changed_at"),
    "action_changes": ("action", "attribute", "changed_at"),
}
"""Columns of history that say which row a version is one of."""

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "contacts": ("contacted_at", "customer_key", "action", "contact_id", "decision_id", "digest", "loaded_at"),
    "events": ("occurred_at", "value", "customer_key", "event_type", "event_id", "digest", "loaded_at"),
    "decisions": (
        "decided_at", "customer_key", "eligible", "propensity", "action", "decision_id", "digest", "loaded_at",
    ),
    "customer_changes": ("changed_at", "customer_key", "attribute", "value", "digest", "loaded_at"),
    "action_changes": ("changed_at", "action", "attribute", "value", "digest", "loaded_at"),
}  # fmt: skip
"""Columns that `sql/history/rows/*.sql` give."""

ANALYZE_FROM = 10_000
"""Added rows from which on a relation's statistics are taken anew."""


@dataclass(frozen=True)
class Merged:
    """What a merge did: versions added and ended, by relation. Empty for a batch that was part of history already."""

    batch_id: int
    added: Mapping[str, int]
    ended: Mapping[str, int]


def merge(warehouse: Engine, programme: Programme, batch_id: int) -> Merged:
    """Make a validated batch part of history and empty its staging, in one transaction. A second call does nothing.

    Raises
    ------
    PullError
        The batch is unknown or overtaken, was not validated, or its staging was lost in a crash of the server.
    """
    with warehouse.begin() as connection:
        lock(connection, "history", programme.programme)
        batch = pending_batch(connection, programme, batch_id)
        if batch is None:
            return Merged(batch_id, {}, {})
        staged = staged_rows(connection, batch_id)
        if not connection.scalar(
            sa.text("select validated_at is not null from nba.batches where batch_id = :batch_id"),
            {"batch_id": batch_id},
        ):
            raise PullError(f"batch {batch_id} has not passed validation: validate it first")
        bulk_session(connection)
        lock(connection, "customer keys")  # they are counted over all programmes
        merging = _Merge(connection, programme, _parameters(programme, batch.programme_id, batch_id, batch.as_of))
        execute(connection, "history/keep_out_erased", merging.parameters)
        merging.catalogue_and_customers()
        for relation in KEYS:
            if relation in staged:
                merging.days(relation)
        execute(connection, "history/resolve_quarantine", {**merging.parameters, "relations": list(staged)})
        for relation in staged:
            connection.execute(
                sa.text(f"delete from staging.{relation} where batch_id = :batch_id"), {"batch_id": batch_id}
            )
        connection.execute(
            sa.text("update nba.batches set merged_at = now() where batch_id = :batch_id"), {"batch_id": batch_id}
        )
    with warehouse.begin() as connection:
        for relation in KEYS:
            # The next statements are planned by what the table holds now; a few rows more do not matter.
            if merging.added.get(relation, 0) >= ANALYZE_FROM:
                connection.exec_driver_sql(f"analyze history.{relation}")
    with warehouse.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for relation, count in staged.items():
            if count >= ANALYZE_FROM:  # gives the space of emptied staging back
                connection.exec_driver_sql(f"vacuum staging.{relation}")
    return Merged(batch_id, merging.added, merging.ended)


def staged_rows(connection: Connection, batch_id: int) -> Mapping[str, int]:
    """Rows in staging by relation, as the pull counted them.

    Raises
    ------
    PullError
        Nothing was pulled, or staging does not hold what was: PostgreSQL empties its unlogged tables after a crash.
    """
    pulled = connection.scalar(
        sa.text("select rows from nba.batches where batch_id = :batch_id"), {"batch_id": batch_id}
    )
    if pulled is None:
        raise PullError(f"batch {batch_id} has not been pulled: pull it first")
    rows: Mapping[str, int] = pulled
    for relation, count in rows.items():
        there = connection.scalar(
            sa.text(f"select count(*) from staging.{relation} where batch_id = :batch_id"), {"batch_id": batch_id}
        )
        if there != count:
            raise PullError(
                f"staging.{relation} holds {there} of the {count} rows that batch {batch_id} pulled"
                " (a crash of the database server empties staging): pull the batch again"
            )
    return rows


def _parameters(programme: Programme, programme_id: int, batch_id: int, as_of: Any) -> dict[str, Any]:
    return {
        "programme": programme.programme,
        "programme_id": programme_id,
        "batch_id": batch_id,
        "as_of": as_of,
        "zone": programme.grid.business_timezone,
        "stagger": programme.grid.stagger,
        "interval_days": programme.grid.interval_days,
        "salt": programme.salt,
        "no_action": NO_ACTION,
        "holdout": programme.arms.holdout,
        "business_as_usual": programme.arms.business_as_usual,
        "learn": programme.splits.learn,
        "select": programme.splits.select,
    }


class _Merge:
    """The statements of one merge, and how many versions they added and ended."""

    def __init__(self, connection: Connection, programme: Programme, parameters: dict[str, Any]) -> None:
        self.connection, self.programme, self.parameters = connection, programme, parameters
        self.added: dict[str, int] = {}
        self.ended: dict[str, int] = {}

    def catalogue_and_customers(self) -> None:
        """Indices and keys first: everything else refers to them."""
        self._run("history/add_actions")
        self.ended["actions"] = self._run("history/end_action_versions")
        self.added["actions"] = self._run("history/add_action_versions")
        if self._run("history/add_customers"):
            # Joins with a table that was empty a moment ago would be planned for an empty table.
            self.connection.exec_driver_sql("analyze history.customers")
        self.ended["customers"] = self._run("history/end_customer_versions")
        self.added["customers"] = self._run("history/add_customer_versions")

    def days(self, relation: str) -> None:
        """The pulled days of a relation: unchanged rows stay, changed and missing ones end, new ones enter."""
        names = {
            "relation": relation,
            "time": RELATIONS[relation].time,
            "key": KEYS[relation],
            "columns": COLUMNS[relation],
        }
        if self._is_empty(relation):
            # Nothing can end; and indexes are made far faster behind millions of rows than row by row.
            with without_indexes(self.connection, f"history.{relation}"):
                self.added[relation] = self._run("history/add", **names)
            self.ended[relation] = 0
            return
        self.ended[relation] = self._run("history/end_days", **names) + self._run("history/end_moved", **names)
        self.added[relation] = self._run("history/add", **names)

    def _is_empty(self, relation: str) -> bool:
        """Whether history holds nothing of a relation, of any programme."""
        return not self.connection.scalar(sa.text(f"select exists (select from history.{relation})"))

    def _run(self, name: str, **names: Any) -> int:
        """Run a statement; return how many rows it touched."""
        return int(execute(self.connection, name, self.parameters, **names).rowcount)


@contextmanager
def without_indexes(connection: Connection, table: str) -> Iterator[None]:
    """Take a table's indexes away and make them again behind the block, within the connection's transaction.

    Others wait for the table meanwhile.
    """
    name = quote_identifier(table)
    indexes = connection.execute(
        sa.text(
            """
            select format('%I.%I', n.nspname, c.relname) as index, quote_ident(k.conname) as constraint_name,
                pg_get_constraintdef(k.oid) as constraint, pg_get_indexdef(i.indexrelid) as definition
            from pg_index as i
            join pg_class as c on c.oid = i.indexrelid
            join pg_namespace as n on n.oid = c.relnamespace
            left join pg_constraint as k on k.conindid = i.indexrelid and k.conrelid = i.indrelid
            where i.indrelid = cast(:table as regclass)
            order by i.indexrelid
            """
        ),
        {"table": name},
    ).all()
    for index in indexes:
        connection.exec_driver_sql(
            f"alter table {name} drop constraint {index.constraint_name}"
            if index.constraint_name
            else f"drop index {index.index}"
        )
    yield
    for index in indexes:
        connection.exec_driver_sql(
            f"alter table {name} add constraint {index.constraint_name} {index.constraint}"
            if index.constraint_name
            else index.definition
        )


def forget(warehouse: Engine, programme: Programme) -> None:
    """Forget a programme's history, so that it is pulled anew on the grid that its file gives now.

    The ledger of gates stays. The CRM still holds everything that happened, our own decisions included.

    Raises
    ------
    PullError
        The warehouse does not know the programme.
    """
    grid = programme.grid
    with warehouse.begin() as connection:
        for name in ("history", "transitions"):
            lock(connection, name, programme.programme)
        programme_id = connection.scalar(
            sa.text("select programme_id from nba.programmes where programme = :programme"),
            {"programme": programme.programme},
        )
        if programme_id is None:
            raise PullError(f"the warehouse knows no programme {programme.programme}: there is nothing to rebuild")
        execute(
            connection,
            "history/forget",
            {
                "programme_id": programme_id,
                "interval_days": grid.interval_days,
                "anchor": grid.anchor,
                "business_timezone": grid.business_timezone,
                "stagger": grid.stagger,
                "salt": programme.salt,
            },
        )
        table = quote_identifier(f"transitions.{programme.programme}")
        connection.exec_driver_sql(f"drop table if exists {table}")
