"""Transitions out of the warehouse, as the arrays that learning and the gate work on."""

from __future__ import annotations

import datetime as dt
import io
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from sqlalchemy.engine import Connection

from nba_tasks import database
from nba_tasks.dataset import OPEN, IntArray, Transitions
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
    """

    transitions: Transitions
    last_epoch: IntArray


def load(connection: Connection, shape: Shape, split: Split, max_customers: int | None = None) -> Loaded:
    """Read the transitions of one split.

    Parameters
    ----------
    max_customers : int, optional
        Read about this many customers instead of all of them.
    """
    grid = shape.programme.grid
    columns = [
        *("customer_key", "epoch", "action", "reward", "eligible_logged", "eligible_target", "propensity"),
        *("done", "contacts", "cost"),
        *(outcome.column for outcome in shape.outcomes),
        *(feature.column for feature in shape.features),
    ]
    query = database.statement(
        "transitions/load",
        table=shape.table,
        columns=columns,
        split=split[0],
        sample=_sample(connection, shape, split, max_customers),
        settled_on=shape.as_of - dt.timedelta(days=grid.settlement_lag_days),
        anchor=grid.anchor,
        interval=grid.interval_days,
    )
    data = _read(connection, query, [*columns, "last_epoch"])
    return Loaded(_arrays(data, shape), data["last_epoch"].to_numpy())


def _sample(connection: Connection, shape: Shape, split: Split, max_customers: int | None) -> int | None:
    """The part of 2³² whose customers are read; None for all."""
    if max_customers is None:
        return None
    table = database.quote_identifier(shape.table)
    count = f"select count(distinct customer_key) from {table} where split = '{split[0]}'"
    total = connection.exec_driver_sql(count).scalar_one()
    return None if total <= max_customers else int(max_customers / total * 2**32)


def _read(connection: Connection, query: str, columns: list[str]) -> pd.DataFrame:
    buffer = io.BytesIO()
    raw: Any = connection.connection.driver_connection
    with raw.cursor() as cursor:
        cursor.copy_expert(f"copy ({query}) to stdout with (format csv)", buffer)
    buffer.seek(0)
    integers = ("customer_key", "epoch", "eligible_logged", "eligible_target", "last_epoch")
    types: dict[str, Any] = dict.fromkeys(columns, np.float32)
    types |= dict.fromkeys(integers, np.int32) | {"done": str}
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
