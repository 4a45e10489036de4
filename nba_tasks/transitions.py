"""Transitions: the history cut into one row per customer and epoch, shard by shard, in SQL."""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from nba_tasks import database
from nba_tasks.batches import Batch, read_batch
from nba_tasks.programme import Programme
from nba_tasks.shape import Shape, read_shape


class TransitionsError(RuntimeError):
    """Transitions that cannot be built or read; the message says what to do."""


@dataclass(frozen=True)
class ShardBuild:
    """What building one shard did."""

    shard: int
    rows: int
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
    """Build one shard in one transaction; a shard that is already built from the same history and settings is kept.

    Raises
    ------
    TransitionsError
        `prepare` has not made the table for these settings.
    """
    started = time.monotonic()
    with warehouse.begin() as connection:
        database.lock(connection, "transitions", programme.programme, str(shard))
        batch = read_batch(connection, programme, as_of)
        shape = shape_of(connection, programme, batch)
        names = shape.names()
        key = {"programme_id": batch.programme_id, "shard": shard}
        built = connection.execute(
            sa.text("select * from nba.transition_shards where programme_id = :programme_id and shard = :shard"), key
        ).one_or_none()
        wanted = (programme.shards, batch.batch_id, shape.fingerprint())
        if built and (built.shards, built.batch_id, built.fingerprint) == wanted:
            return ShardBuild(shard, built.rows, built.seconds)
        _require_table(connection, shape)
        connection.exec_driver_sql("set local work_mem = '256MB'")
        connection.exec_driver_sql("set local jit = off")
        connection.exec_driver_sql(f"truncate {database.quote_identifier(f'{shape.table}${shard}')}")
        parameters = epoch_parameters(connection, programme, batch, shard)
        rows = int(database.execute(connection, "transitions/build", parameters, **names).rowcount)
        connection.exec_driver_sql(f"analyze {database.quote_identifier(f'{shape.table}${shard}')}")
        seconds = time.monotonic() - started
        connection.execute(
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
            key
            | {"shards": programme.shards, "as_of": as_of, "batch_id": batch.batch_id, "rows": rows, "seconds": seconds}
            | {"fingerprint": wanted[2]},
        )
    return ShardBuild(shard, rows, seconds)


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


def require_built(connection: Connection, programme: Programme, batch: Batch) -> None:
    """Refuse to read transitions of which a shard is missing or stems from another batch or other settings.

    Raises
    ------
    TransitionsError
        Names the shards.
    """
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
    if missing := sorted(set(range(programme.shards)) - set(built)):
        raise TransitionsError(
            f"the transitions of {programme.programme} as of {batch.as_of} lack shard {', '.join(map(str, missing))}: "
            "run the training DAG's transitions tasks first"
        )


def epoch_parameters(connection: Connection, programme: Programme, batch: Batch, shard: int) -> dict[str, Any]:
    """Bound parameters of `sql/transitions/epochs.sql` for one shard.

    Raises
    ------
    TransitionsError
        There is neither a contact nor a decision before `as_of`: no action to learn from.
    """
    log_start = connection.execute(
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
    if log_start is None or log_start >= batch.as_of:
        raise TransitionsError(
            f"{programme.programme} has no contact and no decision before {batch.as_of}: there is nothing to learn from"
        )
    return {
        "programme_id": batch.programme_id,
        "batch_id": batch.batch_id,
        "as_of": batch.as_of,
        "settled_on": batch.as_of - dt.timedelta(days=programme.grid.settlement_lag_days),
        "log_start": log_start,
        "shard": shard,
        "shards": programme.shards,
    }
