"""Transitions: the history cut into one row per customer and epoch, shard by shard, in SQL."""

from __future__ import annotations

import datetime as dt
import io
import time
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection, Engine

from nba_tasks import database
from nba_tasks.batches import Batch, read_batch
from nba_tasks.dataset import OPEN, Transitions
from nba_tasks.programme import Programme
from nba_tasks.shape import Shape, read_shape

Split = Literal["learn", "select", "gate"]


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
        connection.exec_driver_sql(f"truncate {database.quote_identifier(f'{shape.table}_{shard}')}")
        parameters = epoch_parameters(connection, programme, batch, shard)
        rows = int(database.execute(connection, "transitions/build", parameters, **names).rowcount)
        connection.exec_driver_sql(f"analyze {database.quote_identifier(f'{shape.table}_{shard}')}")
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
            f"(or `nba transitions {shape.programme.programme}`) again"
        )


def require_built(connection: Connection, programme: Programme, batch: Batch) -> None:
    """Refuse to read transitions of which a shard is missing or stems from another batch.

    Raises
    ------
    TransitionsError
        Names the shards.
    """
    built = connection.execute(
        sa.text("select shard from nba.transition_shards where programme_id = :programme_id and batch_id = :batch_id"),
        {"programme_id": batch.programme_id, "batch_id": batch.batch_id},
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
                (select min(contacted_at) from history.contacts where programme_id = :programme_id),
                (select min(decided_at) from history.decisions where programme_id = :programme_id)
            ) at time zone :zone)::date
            """
        ),
        {"programme_id": batch.programme_id, "zone": programme.grid.business_timezone},
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


def load(
    connection: Connection, shape: Shape, splits: tuple[Split, ...], max_customers: int | None = None
) -> tuple[Transitions, NDArray[np.str_]]:
    """Read the transitions of some splits as arrays, whole customers in the order of their key.

    Parameters
    ----------
    max_customers : int, optional
        Read about this many customers instead of all (those with the smallest share of the sampling hash).

    Returns
    -------
    transitions : Transitions
    split : array of shape (n,)
        Each row's split, as its first letter.
    """
    columns = [
        *("customer_key", "epoch", "action", "reward", "eligible_logged", "eligible_target", "propensity"),
        *("done", "split", "contacts", "cost"),
        *(o.column for o in shape.outcomes),
        *(f.column for f in shape.features),
    ]
    letters = ", ".join(f"'{name[0]}'" for name in splits)
    table = database.quote_identifier(shape.table)
    chosen = f"split in ({letters})"
    if max_customers is not None:
        count = f"select count(distinct customer_key) from {table} where {chosen}"
        total = connection.exec_driver_sql(count).scalar_one()
        share = min(1.0, max_customers / max(total, 1))
        # Keys are handed out one by one; multiplying by an odd constant spreads them over 2^32 evenly.
        chosen += f" and (customer_key::bigint * 2654435761 % 4294967296) < {int(share * 2**32)}"
    names = ", ".join(map(database.quote_identifier, columns))
    query = f"select {names} from {table} where {chosen} order by customer_key, epoch"
    data = _read(connection, query, columns)
    return _arrays(data, shape), data["split"].to_numpy(dtype=str)


def _read(connection: Connection, query: str, columns: list[str]) -> pd.DataFrame:
    buffer = io.BytesIO()
    raw: Any = connection.connection.driver_connection
    with raw.cursor() as cursor:
        cursor.copy_expert(f"copy ({query}) to stdout with (format csv)", buffer)
    buffer.seek(0)
    types: dict[str, Any] = dict.fromkeys(columns, np.float32)
    types |= {"customer_key": np.int32, "epoch": np.int32, "eligible_logged": np.int32, "eligible_target": np.int32}
    types |= {"done": str, "split": str}
    return pd.read_csv(buffer, header=None, names=columns, dtype=types)


def _arrays(data: pd.DataFrame, shape: Shape) -> Transitions:
    bits = np.int32(1) << np.arange(len(shape.actions), dtype=np.int32)
    action = data["action"].to_numpy()
    outcomes = data[[*(o.column for o in shape.outcomes), "contacts", "cost"]].to_numpy(np.float32)
    done = (data["done"] == "t").to_numpy()
    return Transitions(
        customer=data["customer_key"].to_numpy(),
        epoch=data["epoch"].to_numpy(),
        state=data[[f.column for f in shape.features]].to_numpy(np.float32),
        action=np.where(np.isnan(action), OPEN, action).astype(np.int16),
        reward=np.nan_to_num(data["reward"].to_numpy()),
        outcomes=np.nan_to_num(outcomes),
        eligible_logged=(data["eligible_logged"].to_numpy()[:, None] & bits) != 0,
        eligible_target=(data["eligible_target"].to_numpy()[:, None] & bits) != 0,
        propensity=data["propensity"].to_numpy(),
        done=done,
        lost=done.copy(),
        outcome_names=shape.outcome_names,
    )
