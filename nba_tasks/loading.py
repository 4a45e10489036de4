"""Transitions out of the warehouse, as the arrays that learning and the gate work on: shard by shard, typed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from nba_tasks import bulk, database
from nba_tasks.batches import read_batch
from nba_tasks.dataset import OPEN, BoolArray, IntArray, Transitions
from nba_tasks.gate.placebo import BeforeContact
from nba_tasks.shape import Shape

Split = Literal["learn", "select", "gate"]


@dataclass(frozen=True)
class Loaded:
    """One split's transitions.

    Attributes
    ----------
    transitions : Transitions
        Whole customers, in the order of their key.
    last_epoch : int array of shape (n,)
        The last epoch that the calendar has settled on the grid of each row's customer, had the customer stayed.
    share : float
        Of the split's customers who were read.
    before_contact : BeforeContact or None
        Loaded by itself, and only where decisions were not logged.
    """

    transitions: Transitions
    last_epoch: IntArray
    share: float = 1.0
    before_contact: BeforeContact | None = None

    @property
    def undecided(self) -> BoolArray:
        """bool array of shape (n,): settled epochs without a logged decision."""
        return np.isnan(self.transitions.propensity) & ~self.transitions.open


def load(connection: Connection, shape: Shape, split: Split, max_customers: int | None = None) -> Loaded:
    """Read the transitions of one split.

    What is in memory is the arrays, about `4 · (features + outcomes) + 2 · actions + 30` bytes a row, and one shard's
    text.

    Parameters
    ----------
    max_customers : int, optional
        Read about this many customers instead of all of them: memory and time grow with it.
    """
    share = _share(connection, shape, split, max_customers)
    grid = shape.programme.grid
    columns = _columns(shape)
    parts: list[pa.Table] = []
    for shard in range(shape.programme.shards):
        query = database.statement(
            "transitions/load",
            table=f"{shape.table}${shard}",
            columns=[name for name in columns if name not in COMPUTED],
            split=split[0],
            sample=_sample(share),
            settled_on=shape.as_of - dt.timedelta(days=grid.settlement_lag_days),
            anchor=grid.anchor,
            interval=grid.interval_days,
            logged_mask=shape.mask("logged"),
            target_mask=shape.mask("target"),
        )
        parts.append(bulk.read(connection, query, columns))
    return _arrays(_Columns(parts), shape, share)


def with_before_contact(connection: Connection, shape: Shape, split: Split, loaded: Loaded) -> Loaded:
    """The same split with what happened before the contact of each epoch that has no logged decision."""
    programme, data = shape.programme, loaded.transitions
    query = database.statement(
        "transitions/before_contact",
        programme=programme.programme,
        salt=programme.salt,
        table=shape.table,
        split=split[0],
        sample=_sample(loaded.share),
        batch_id=read_batch(connection, programme, shape.as_of).batch_id,
        anchor=programme.grid.anchor,
        interval=programme.grid.interval_days,
        zone=programme.grid.business_timezone,
        terms=shape.event_terms,
    )
    types = {"customer_key": pa.int32(), "epoch": pa.int16(), "starts_on": pa.int32()}
    found = _Columns(
        [bulk.read(connection, query, types | dict.fromkeys(("moment", "reward", "events"), pa.float64()))]
    )
    customer, epoch, starts_on = (found.take(name) for name in ("customer_key", "epoch", "starts_on"))
    keys, known = _key(data.customer, data.epoch), _key(customer, epoch)
    row = np.searchsorted(keys, known)
    kept = keys[np.minimum(row, len(keys) - 1)] == known
    n, row = len(data), row[kept]
    before = BeforeContact(np.zeros(n, dtype=np.int64), np.full(n, np.nan), np.zeros((n, 2)))
    before.starts_on[row] = starts_on[kept]
    before.moment[row] = found.take("moment", np.nan)[kept]
    before.happened[row] = np.stack([found.take("reward"), found.take("events")], axis=1)[kept]
    return replace(loaded, before_contact=before)


COMPUTED = ("eligible_logged", "eligible_target", "last_epoch")
"""Columns that the statement works out."""


def _columns(shape: Shape) -> dict[str, pa.DataType]:
    """The statement's columns and their types, in order."""
    types = {"smallint": pa.int16(), "real": pa.float32()}
    return {
        "customer_key": pa.int32(),
        "epoch": pa.int16(),
        "action": pa.int16(),
        "reward": pa.float32(),
        "propensity": pa.float32(),
        "done": pa.bool_(),
        "contacts": pa.int16(),
        "cost": pa.float32(),
        **{column.column: types[column.type] for column in (*shape.outcomes, *shape.features)},
        "eligible_logged": pa.int32(),
        "eligible_target": pa.int32(),
        "last_epoch": pa.int16(),
    }


def _share(connection: Connection, shape: Shape, split: Split, max_customers: int | None) -> float:
    """The share of the split's customers to read."""
    if max_customers is None:
        return 1.0
    total = connection.execute(
        sa.text(
            """
            select count(*) from history.customers join nba.programmes using (programme_id)
            where programme = :programme and split = :split
            """
        ),
        {"programme": shape.programme.programme, "split": split[0]},
    ).scalar_one()
    return min(1.0, max_customers / total) if total else 1.0


def _sample(share: float) -> int | None:
    """Below which number a customer's key is read; None: all are."""
    return None if share == 1 else int(share * 2**32)


class _Columns:
    """The shards' columns as arrays, ordered by customer and epoch; a column is let go once it was taken."""

    def __init__(self, parts: Sequence[pa.Table]) -> None:
        self.parts = list(parts)
        key = _key(self._joined("customer_key"), self._joined("epoch"))
        self.order = np.argsort(key, kind="stable")

    def take(self, name: str, missing: float = 0) -> NDArray[Any]:
        """A column in order, nulls filled."""
        found = self._joined(name, missing)[self.order]
        self.parts = [part.drop_columns([name]) for part in self.parts]
        return found

    def matrix(self, names: Sequence[str]) -> NDArray[np.float32]:
        """Some columns as a float32 array of shape (n, len(names))."""
        found = np.empty((len(self.order), len(names)), dtype=np.float32)
        for position, name in enumerate(names):
            found[:, position] = self.take(name)
        return found

    def _joined(self, name: str, missing: float = 0) -> NDArray[Any]:
        columns = (part.column(name) for part in self.parts)
        return np.concatenate([(c.fill_null(missing) if c.null_count else c).to_numpy() for c in columns])


def _key(customer: IntArray, epoch: IntArray) -> NDArray[np.int64]:
    """One number per customer and epoch, in their order."""
    return customer.astype(np.int64) << 16 | epoch.astype(np.int64)


def _arrays(data: _Columns, shape: Shape, share: float) -> Loaded:
    bits = np.int32(1) << np.arange(len(shape.actions), dtype=np.int32)
    done = data.take("done")
    transitions = Transitions(
        customer=data.take("customer_key"),
        epoch=data.take("epoch").astype(np.int32),
        state=data.matrix([f.column for f in shape.features]),
        action=data.take("action", OPEN),
        reward=data.take("reward"),
        outcomes=data.matrix([*(o.column for o in shape.outcomes), "contacts", "cost"]),
        eligible_logged=(data.take("eligible_logged")[:, None] & bits) != 0,
        eligible_target=(data.take("eligible_target")[:, None] & bits) != 0,
        propensity=data.take("propensity", np.nan),
        done=done,
        lost=done.copy(),
        outcome_names=shape.outcome_names,
    )
    return Loaded(transitions, data.take("last_epoch").astype(np.int32), share)
