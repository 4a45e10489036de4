"""First step of the nightly flow: pin the batch of an `as_of` and copy what is new or changed in the CRM to staging.

A relation with a time column is compared with the source day by day, over `crm.recheck_days`: days whose row count or
digest differ are read again, and so are days with rows in quarantine. Everything else is read in full.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from nba_tasks import contract
from nba_tasks.contract import CAST, RELATIONS, Relation, Source
from nba_tasks.database import copy_rows, execute, lock, quote_identifier, statement
from nba_tasks.programme import Programme


class GridChanged(ValueError):
    """The programme file and the warehouse disagree about the grid or the salt; the message says what to do."""


class PullError(RuntimeError):
    """A batch that cannot be pulled; the message says why and what to do."""


@dataclass(frozen=True)
class Pulled:
    """What a pull brought to staging: rows by relation. Empty for a batch that is part of history already."""

    batch_id: int
    rows: Mapping[str, int]


def start(warehouse: Engine, programme: Programme, as_of: dt.date) -> int:
    """Register the programme on its first run, and make or return the batch of `as_of`.

    The first run of a date pins its batch; a rerun gets the same one. A date before the newest merged one is a dry run
    of the past: its batch pulls nothing and counts as merged. A batch of such a date that was left unfinished is
    thrown away first, since later batches have read its days again.

    Raises
    ------
    GridChanged
        The programme file's interval, anchor, zone, stagger or salt differ from the stored ones.
    """
    with warehouse.begin() as connection:
        lock(connection, "batches")
        programme_id = _register(connection, programme)
        newest = connection.execute(
            sa.text(
                "select max(as_of) as as_of, max(batch_id) as batch_id from nba.batches"
                " where programme_id = :programme_id and merged_at is not null"
            ),
            {"programme_id": programme_id},
        ).one()
        batch = connection.execute(
            sa.text(
                "select batch_id, merged_at from nba.batches where programme_id = :programme_id and as_of = :as_of"
            ),
            {"programme_id": programme_id, "as_of": as_of},
        ).one_or_none()
        if batch is not None:
            if batch.merged_at is not None or newest.batch_id is None or batch.batch_id > newest.batch_id:
                return int(batch.batch_id)
            _discard(connection, batch.batch_id)
        past = newest.as_of is not None and as_of < newest.as_of
        made = execute(connection, "pull/start", {"programme_id": programme_id, "as_of": as_of, "past": past})
        return int(made.scalar_one())


def pull(crm: Engine, warehouse: Engine, programme: Programme, batch_id: int) -> Pulled:
    """Copy to staging what the batch must read: one snapshot of the source, one transaction in the warehouse.

    Killed or repeated, it leaves the same rows. A merged batch is left alone.

    Raises
    ------
    ContractError
        The source lacks a relation or a column, or one has a type that cannot be used.
    PullError
        There is no such batch, or a newer one has been merged meanwhile.
    """
    with (
        warehouse.begin() as target,
        crm.connect().execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True) as source,
    ):
        lock(target, "history", programme.programme)
        batch = pending_batch(target, programme, batch_id)
        if batch is None:
            return Pulled(batch_id, {})
        bulk_session(target)
        # One text form of every value on both sides: digests compare texts. A scan that may start in the middle of a
        # table would number the rows differently each time.
        source.exec_driver_sql(
            "set local datestyle = 'ISO, YMD'; set local extra_float_digits = 1; set local synchronize_seqscans = off"
        )
        found = contract.inspect(source, programme)
        found.refuse_errors()
        _unstage(target, batch_id)
        rows = {
            name: _Reader(source, target, programme, found, batch, RELATIONS[name]).read() for name in found.columns
        }
        target.execute(
            sa.text(
                "update nba.batches set staged_at = now(), validated_at = null, rows = :rows where batch_id = :batch_id"
            ),
            {"rows": json.dumps(rows), "batch_id": batch_id},
        )
        source.rollback()
    with warehouse.begin() as target:
        for name in rows:
            target.exec_driver_sql(f"analyze staging.{name}")
    return Pulled(batch_id, rows)


@dataclass(frozen=True)
class PendingBatch:
    """A batch that is not part of history yet."""

    batch_id: int
    programme_id: int
    as_of: dt.date


def pending_batch(connection: Connection, programme: Programme, batch_id: int) -> PendingBatch | None:
    """The batch, or None where it is part of history already.

    Raises
    ------
    PullError
        There is no such batch of the programme, or a newer one has been merged: what this one read is out of date.
    """
    row = connection.execute(
        sa.text(
            """
            select b.batch_id, b.programme_id, b.as_of, b.merged_at,
                exists (
                    select from nba.batches as newer
                    where newer.programme_id = b.programme_id and newer.batch_id > b.batch_id
                      and newer.merged_at is not null
                ) as overtaken
            from nba.batches as b
            join nba.programmes as p using (programme_id)
            where b.batch_id = :batch_id and p.programme = :programme
            """
        ),
        {"batch_id": batch_id, "programme": programme.programme},
    ).one_or_none()
    if row is None:
        raise PullError(f"programme {programme.programme} has no batch {batch_id}: start the run of its date again")
    if row.merged_at is not None:
        return None
    if row.overtaken:
        raise PullError(f"a batch newer than {batch_id} is part of history already: start the run of {row.as_of} again")
    return PendingBatch(row.batch_id, row.programme_id, row.as_of)


def bulk_session(connection: Connection) -> None:
    """Memory for sorting and joining whole relations, until the transaction ends."""
    connection.exec_driver_sql(
        "set local work_mem = '256MB'; set local maintenance_work_mem = '256MB'; set local jit = off"
    )


def _register(connection: Connection, programme: Programme) -> int:
    """The programme's id; its grid and salt are stored on the first run and compared ever after."""
    grid = programme.grid
    given = {
        "interval_days": grid.interval_days,
        "anchor": grid.anchor,
        "business_timezone": grid.business_timezone,
        "stagger": grid.stagger,
        "salt": programme.salt,
    }
    stored = connection.execute(
        sa.text("select * from nba.programmes where programme = :programme"), {"programme": programme.programme}
    ).one_or_none()
    if stored is None:
        names = ", ".join(given)
        made = connection.execute(
            sa.text(
                f"insert into nba.programmes (programme, {names})"
                f" values (:programme, {', '.join(':' + name for name in given)}) returning programme_id"
            ),
            {"programme": programme.programme, **given},
        )
        return int(made.scalar_one())
    if changed := [
        f"{name} is {value}, stored is {getattr(stored, name)}"
        for name, value in given.items()
        if getattr(stored, name) != value
    ]:
        raise GridChanged(
            f"programme {programme.programme}: {'; '.join(changed)}. The grid and the salt are fixed by the first run:"
            f" change the file back, or run `nba rebuild {programme.programme}`, which starts its history anew"
        )
    return int(stored.programme_id)


def _discard(connection: Connection, batch_id: int) -> None:
    """Forget an unfinished batch."""
    _unstage(connection, batch_id)
    for table in ("nba.quarantine", "nba.batches"):
        connection.execute(sa.text(f"delete from {table} where batch_id = :batch_id"), {"batch_id": batch_id})


def _unstage(connection: Connection, batch_id: int) -> None:
    """Take back whatever an earlier try of the batch staged."""
    for table in (*(f"staging.{name}" for name in RELATIONS), "nba.pulled_days"):
        connection.execute(sa.text(f"delete from {table} where batch_id = :batch_id"), {"batch_id": batch_id})


class _Reader:
    """Reads one relation of the source into staging."""

    def __init__(
        self,
        source: Connection,
        target: Connection,
        programme: Programme,
        found: Source,
        batch: PendingBatch,
        relation: Relation,
    ) -> None:
        self.source, self.target, self.programme, self.batch, self.relation = source, target, programme, batch, relation
        types = found.columns[relation.name]
        self.columns = list(_columns(programme, relation, types, self._midnight(batch.as_of)))
        self.names = {
            "relation": relation.name,
            "table": contract.relation_name(programme, relation.name),
            "columns": self.columns,
            "programme": programme.programme,
            "programme_only": relation.name == "decisions" and "programme" in types,
            # Nobody knew of a customer who was not there yet; a catalogue may announce actions.
            "before": "created_at" if relation.name == "customers" else relation.time,
            "as_of": batch.as_of,
            "batch_id": batch.batch_id,
            "zone": programme.grid.business_timezone,
            "midnight": self._midnight,
            "ranges": None,
        }

    def read(self) -> int:
        """Copy the relation's rows; return how many."""
        if self.relation.time is None or self._is_first_pull():
            days: list[dt.date | None] = [None]
            ranges = None
        else:
            changed = sorted(self._changed_days() | self._quarantined_days())
            days, ranges = list(changed), list(_ranges(changed))
        if days:
            self.target.execute(
                sa.text("insert into nba.pulled_days (batch_id, relation, day) values (:batch_id, :relation, :day)"),
                [{"batch_id": self.batch.batch_id, "relation": self.relation.name, "day": day} for day in days],
            )
        query = statement("pull/staged", **{**self.names, "ranges": ranges})
        into = ("row_number", "batch_id", "digest", *(column["name"] for column in self.columns))
        return copy_rows(self.source, query, self.target, f"staging.{self.relation.name}", into)

    def _is_first_pull(self) -> bool:
        return not self.target.scalar(
            sa.text(
                """
                select exists (
                    select from nba.pulled_days as d
                    join nba.batches as b using (batch_id)
                    where b.programme_id = :programme_id and b.merged_at is not null
                      and d.relation = :relation and d.day is null
                )
                """
            ),
            {"programme_id": self.batch.programme_id, "relation": self.relation.name},
        )

    def _changed_days(self) -> set[dt.date]:
        """Days whose rows differ between source and history; a new day is one that history has no rows of."""
        newest = self.target.scalar(
            sa.text("select max(as_of) from nba.batches where programme_id = :programme_id and merged_at is not null"),
            {"programme_id": self.batch.programme_id},
        )
        first = min(self.batch.as_of - dt.timedelta(days=self.programme.crm.recheck_days), newest)
        query = statement("pull/source_days", **{**self.names, "ranges": [(first, self.batch.as_of)]})
        there = self.source.exec_driver_sql(query.replace("%", "%%")).all()
        here = execute(
            self.target,
            "pull/warehouse_days",
            {
                "programme_id": self.batch.programme_id,
                "zone": self.programme.grid.business_timezone,
                "first_day": first,
                "as_of": self.batch.as_of,
            },
            relation=self.relation.name,
            time=self.relation.time,
        ).all()
        return {day for day, _, _ in {tuple(row) for row in there} ^ {tuple(row) for row in here}}

    def _quarantined_days(self) -> set[dt.date]:
        """Days with open quarantine rows, however old: their rows are tried again."""
        days = self.target.scalars(
            sa.text(
                "select distinct day from nba.quarantine where programme_id = :programme_id and relation = :relation"
                " and resolved_by is null and day < :as_of"
            ),
            {
                "programme_id": self.batch.programme_id,
                "relation": self.relation.name,
                "as_of": self.batch.as_of,
            },
        )
        return set(days)

    def _midnight(self, day: dt.date) -> str:
        """SQL for the instant at which a local date starts: the first, where clocks go back over midnight."""
        instant = dt.datetime.combine(day, dt.time(), self.programme.grid.zone).astimezone(dt.UTC)
        return f"timestamptz '{instant.isoformat()}'"


def _ranges(days: Iterable[dt.date]) -> Iterable[tuple[dt.date, dt.date]]:
    """Sorted days as few stretches as possible: (first day, day after the last)."""
    first: dt.date | None = None
    last: dt.date | None = None
    for day in days:
        if last is not None and first is not None and day != last:
            yield first, last
            first = None
        first, last = first or day, day + dt.timedelta(days=1)
    if first is not None and last is not None:
        yield first, last


def _columns(
    programme: Programme, relation: Relation, types: Mapping[str, str], midnight: str
) -> Iterable[dict[str, str]]:
    """Staging's columns and the expressions over the source's columns that fill them."""
    for name, kind in relation.columns.items():
        expression = f"{quote_identifier(name)}::{CAST[kind]}"
        if name == "closed_at":  # an end that lies ahead is not known yet
            expression = f"case when {expression} < {midnight} then {expression} end"
        yield {"name": name, "expression": expression}
    packed = {
        "customers": ("attributes", contract.customer_columns(programme)),
        "actions": ("features", programme.actions.features),
    }
    if relation.name in packed:
        name, columns = packed[relation.name]
        values = ", ".join(f"{_value(column, types[column])} as {quote_identifier(column)}" for column in columns)
        yield {
            "name": name,
            "expression": f"(select to_jsonb(f) from (select {values}) as f)" if values else "jsonb '{}'",
        }


def _value(column: str, kind: str) -> str:
    """A feature's value; what is not a finite number is missing."""
    name = quote_identifier(column)
    if kind in ("float4", "float8", "numeric"):
        return f"case when {name}::text not in ('NaN', 'Infinity', '-Infinity') then {name} end"
    return name
