"""Transitions: the history cut into one row per customer and epoch, shard by shard, in SQL."""

from __future__ import annotations

import datetime as dt
import logging
import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from nba_tasks import database
from nba_tasks.batches import Batch, read_batch
from nba_tasks.programme import Programme
from nba_tasks.shape import Shape, read_shape

log = logging.getLogger("nba_tasks")


class TransitionsError(RuntimeError):
    """Transitions that cannot be built or read; the message says what to do."""


@dataclass(frozen=True)
class ShardBuild:
    """What building one shard did.

    Attributes
    ----------
    rows : int
        Of the shard.
    written : int
        Rows that were written: all of them, or those that had changed since the build before.
    """

    shard: int
    rows: int
    written: int
    seconds: float


def shape_of(connection: Connection, programme: Programme, batch: Batch) -> Shape:
    """The programme's shape as the batch of an `as_of` knows it."""
    return read_shape(connection, programme, batch.programme_id, batch.batch_id, batch.as_of)


def prepare(warehouse: Engine, programme: Programme, as_of: dt.date) -> list[int]:
    """Make the programme's transitions table, anew if its columns or shards changed.

    Returns
    -------
    list of int
        The shards to build.
    """
    with warehouse.begin() as connection:
        database.lock(connection, "transitions", programme.programme)
        shape = shape_of(connection, programme, read_batch(connection, programme, as_of))
        ddl = database.statement("transitions/table", **shape.names())
        if _made_from(connection, shape) != ddl:
            connection.exec_driver_sql(f"drop table if exists {database.quote_identifier(shape.table)}")
            connection.exec_driver_sql(ddl.replace("%", "%%"))
            comment = f"comment on table {database.quote_identifier(shape.table)} is {database.quote_literal(ddl)}"
            connection.exec_driver_sql(comment.replace("%", "%%"))
            connection.execute(
                sa.text(
                    """
                    delete from nba.transition_shards where programme_id =
                        (select programme_id from nba.programmes where programme = :programme)
                    """
                ),
                {"programme": programme.programme},
            )
    return list(range(programme.shards))


def build_shard(warehouse: Engine, programme: Programme, as_of: dt.date, shard: int) -> ShardBuild:
    """Build one shard in one transaction.

    Only what changed since the shard's last build is written: customers of whom something came, went or was corrected,
    from the epoch on that it touches, and epochs that have settled since. Where the settings differ, or the build goes
    back in time, all of it is written. A shard that is built already is kept.

    Raises
    ------
    TransitionsError
        `prepare` has not made the table for these settings.
    """
    started = time.monotonic()
    with warehouse.begin() as connection:
        database.lock(connection, "transitions", programme.programme, str(shard))
        build = _Build.of(connection, programme, as_of, shard)
        built = build.earlier()
        if built and built.batch_id == build.batch.batch_id:
            return ShardBuild(shard, built.rows, 0, time.monotonic() - started)
        _require_table(connection, build.shape)
        bulk_reading(connection)
        gone, written = build.changes(built) if built and build.continues(built) else build.everything()
        rows = (built.rows if built else 0) - gone + written
        seconds = time.monotonic() - started
        build.record(rows, seconds)
    return ShardBuild(shard, rows, written, seconds)


def bulk_reading(connection: Connection) -> None:
    """Settings for statements that read a shard's customers one by one, until the transaction ends."""
    connection.exec_driver_sql(
        "set local work_mem = '256MB'; set local jit = off;"
        # Customers lie together on the disk, each found by index: not as costly as pages at random. And no sorting of
        # every epoch, wide as it is, where a hash of the few in which something happened will do.
        " set local random_page_cost = 1.1; set local enable_mergejoin = off"
    )


def read_members(connection: Connection, parameters: dict[str, Any], names: dict[str, Any]) -> None:
    """Put the customers of a statement on epochs into the table `member`, until the transaction ends.

    Parameters
    ----------
    parameters, names : dict
        Of that statement.
    """
    connection.exec_driver_sql("drop table if exists pg_temp.member")
    database.execute(connection, "transitions/members", parameters, **names)
    connection.exec_driver_sql("analyze pg_temp.member")


@dataclass(frozen=True)
class _Built:
    """An earlier build of a shard, with the same settings."""

    batch_id: int
    as_of: dt.date
    rows: int


@dataclass(frozen=True)
class _Build:
    """One build of a shard."""

    connection: Connection
    shape: Shape
    batch: Batch
    shard: int

    @classmethod
    def of(cls, connection: Connection, programme: Programme, as_of: dt.date, shard: int) -> _Build:
        batch = read_batch(connection, programme, as_of)
        return cls(connection, shape_of(connection, programme, batch), batch, shard)

    @property
    def partition(self) -> str:
        return f"{self.shape.table}${self.shard}"

    def earlier(self) -> _Built | None:
        """The shard's last build, if the same history would give the same rows under today's settings."""
        row = self.connection.execute(
            sa.text(
                """
                select batch_id, as_of, rows from nba.transition_shards
                where programme_id = :programme_id and shard = :shard
                  and shards = :shards and fingerprint = :fingerprint
                """
            ),
            self._key() | {"shards": self.shape.programme.shards, "fingerprint": self.shape.fingerprint()},
        ).one_or_none()
        return _Built(row.batch_id, row.as_of, row.rows) if row else None

    def continues(self, built: _Built) -> bool:
        """Whether only customers differ: time went on, the log begins on the same day, and no cost was corrected."""
        then = Batch(self.batch.programme_id, built.batch_id, built.as_of)
        return (
            built.batch_id < self.batch.batch_id
            and built.as_of <= self.batch.as_of
            and log_start(self.connection, self.shape.programme, then) == self._log_start
            and self._costs(then, built.as_of) == self._costs(self.batch, built.as_of)
        )

    def everything(self) -> tuple[int, int]:
        """Write every row; returns how many went (none are counted) and how many were written."""
        self.connection.exec_driver_sql(f"truncate {database.quote_identifier(self.partition)}")
        self.connection.execute(
            sa.text("delete from nba.transition_shards where programme_id = :programme_id and shard = :shard"),
            self._key(),
        )
        written = self._insert(changed_only=False)
        self._analyze()
        return 0, written

    def changes(self, built: _Built) -> tuple[int, int]:
        """Write the rows that changed; returns how many went and how many were written."""
        names = self.shape.names(changed_only=True)
        lag = dt.timedelta(days=self.shape.programme.grid.settlement_lag_days)
        earlier = {"built_batch": built.batch_id, "built_settled_on": built.as_of - lag}
        database.execute(self.connection, "transitions/changed", self.parameters() | earlier, **names)
        self.connection.exec_driver_sql("analyze pg_temp.changed")
        gone = self.connection.exec_driver_sql(
            f"delete from {database.quote_identifier(self.partition)} as t using pg_temp.changed as r"
            " where t.customer_key = r.customer_key and t.epoch >= r.from_epoch"
        ).rowcount
        written = self._insert(changed_only=True)
        self.connection.exec_driver_sql("drop table pg_temp.changed")
        if written > built.rows / 10:  # a night's few rows move no plan
            self._analyze()
        return int(gone), written

    def _analyze(self) -> None:
        """Tell the planner of the columns by which rows are found; of the others nothing is asked."""
        partition = database.quote_identifier(self.partition)
        self.connection.exec_driver_sql(f"analyze {partition} (customer_key, epoch, split, action, propensity)")

    def _insert(self, *, changed_only: bool) -> int:
        names = self.shape.names(changed_only=changed_only) | {"partition": self.partition}
        parameters = self.parameters()
        read_members(self.connection, parameters, names)
        done = database.execute(self.connection, "transitions/build", parameters, **names)
        return int(done.rowcount)

    def record(self, rows: int, seconds: float) -> None:
        """Say what the shard is built from."""
        self.connection.execute(
            sa.text(
                """
                insert into nba.transition_shards
                    (programme_id, shard, shards, as_of, batch_id, fingerprint, rows, seconds)
                values (:programme_id, :shard, :shards, :as_of, :batch_id, :fingerprint, :rows, :seconds)
                on conflict (programme_id, shard) do update set
                    shards = excluded.shards, as_of = excluded.as_of, batch_id = excluded.batch_id,
                    fingerprint = excluded.fingerprint, rows = excluded.rows, seconds = excluded.seconds,
                    built_at = now()
                """
            ),
            self._key()
            | {"shards": self.shape.programme.shards, "as_of": self.batch.as_of, "batch_id": self.batch.batch_id}
            | {"fingerprint": self.shape.fingerprint(), "rows": rows, "seconds": seconds},
        )

    def parameters(self) -> dict[str, Any]:
        """Bound parameters of the statements."""
        return epoch_parameters(self.connection, self.shape.programme, self.batch, self.shard)

    @property
    def _log_start(self) -> dt.date | None:
        return log_start(self.connection, self.shape.programme, self.batch)

    def _costs(self, batch: Batch, until: dt.date) -> list[tuple[Any, ...]]:
        """What each action cost when, as a batch knows it, up to a date."""
        zone = self.shape.programme.grid.business_timezone
        query = f"""
            select action, cost, starts_at::text, least(ends_at, midnight)::text
            from ({database.statement("transitions/cost", zone=zone)}) as cost
            cross join nba.midnight(:until, :zone) as midnight
            where starts_at < midnight and starts_at < ends_at
            order by action, cost.starts_at
        """
        parameters = {"programme_id": batch.programme_id, "batch_id": batch.batch_id, "until": until, "zone": zone}
        return [tuple(row) for row in self.connection.execute(sa.text(query), parameters)]

    def _key(self) -> dict[str, int]:
        return {"programme_id": self.batch.programme_id, "shard": self.shard}


def _made_from(connection: Connection, shape: Shape) -> str | None:
    """The statement that made the programme's table, kept as the table's comment."""
    comment: str | None = connection.execute(
        sa.text("select obj_description(to_regclass(:table))"), {"table": database.quote_identifier(shape.table)}
    ).scalar()
    return comment


def _require_table(connection: Connection, shape: Shape) -> None:
    if _made_from(connection, shape) != database.statement("transitions/table", **shape.names()):
        raise TransitionsError(
            f"the table {shape.table} was made for other settings: run the first task of the training DAG "
            f"(or `nba train {shape.programme.programme}`) again"
        )


def hold(connection: Connection, programme: Programme, batch: Batch) -> None:
    """Keep every shard as the batch gives it until the transaction ends: builds of other runs wait.

    Shards that such a run has built for another date in the meantime are built again first.

    Raises
    ------
    TransitionsError
        The table is missing, or was made for other settings.
    """
    while shards := _not_built(connection, programme, batch):
        connection.rollback()  # what others wait for is let go before waiting for them
        log.info("building %s shard(s) of the transitions of %s", len(shards), batch.as_of)
        for shard in shards:
            build_shard(connection.engine, programme, batch.as_of, shard)


def _not_built(connection: Connection, programme: Programme, batch: Batch) -> list[int]:
    """Shards that are missing or stem from another batch or other settings; none of them changes any more."""
    for shard in range(programme.shards):
        database.lock(connection, "transitions", programme.programme, str(shard), shared=True)
    built = connection.execute(
        sa.text(
            """
            select shard from nba.transition_shards
            where programme_id = :programme_id and batch_id = :batch_id
              and fingerprint = :fingerprint and shards = :shards
            """
        ),
        {
            "programme_id": batch.programme_id,
            "batch_id": batch.batch_id,
            "fingerprint": shape_of(connection, programme, batch).fingerprint(),
            "shards": programme.shards,
        },
    ).scalars()
    return sorted(set(range(programme.shards)) - set(built))


def epoch_parameters(connection: Connection, programme: Programme, batch: Batch, shard: int) -> dict[str, Any]:
    """Bound parameters of `sql/transitions/members.sql` and `epochs.sql` for one shard.

    Raises
    ------
    TransitionsError
        There is neither a contact nor a decision before `as_of`: no action to learn from.
    """
    begun = log_start(connection, programme, batch)
    if begun is None or begun >= batch.as_of:
        raise TransitionsError(
            f"{programme.programme} has no contact and no decision before {batch.as_of}: there is nothing to learn from"
        )
    return {
        "programme_id": batch.programme_id,
        "batch_id": batch.batch_id,
        "as_of": batch.as_of,
        "settled_on": batch.as_of - dt.timedelta(days=programme.grid.settlement_lag_days),
        "log_start": begun,
        "shard": shard,
        "shards": programme.shards,
    }


def log_start(connection: Connection, programme: Programme, batch: Batch) -> dt.date | None:
    """The local day of the first contact or decision that a batch knows; None where there is neither."""
    day: dt.date | None = connection.execute(
        sa.text(
            """
            select (least(
                (select min(contacted_at) from history.contacts where programme_id = :programme_id
                    and batch_id <= :batch_id and (superseded_by is null or superseded_by > :batch_id)),
                (select min(decided_at) from history.decisions where programme_id = :programme_id
                    and batch_id <= :batch_id and (superseded_by is null or superseded_by > :batch_id))
            ) at time zone :zone)::date
            """
        ),
        {
            "programme_id": batch.programme_id,
            "batch_id": batch.batch_id,
            "zone": programme.grid.business_timezone,
        },
    ).scalar()
    return day
