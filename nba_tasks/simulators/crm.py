"""Fills a CRM database that follows the contract (sql/crm/contract.sql) with a simulated history."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import Engine

from nba_tasks.database import statement
from nba_tasks.simulators.market import DEFAULT, Market

BLOCK = 50_000  # customers written at a time: what is in memory stays small however many are asked for


@dataclass(frozen=True)
class History:
    """One data frame per relation of the contract; columns are named as there, missing columns stay null.

    Instants are UTC. `decisions.eligible_actions` and `decisions.probabilities` are PostgreSQL array literals
    (`{no_action,email}`): a list object per row would cost more than all the rest. Ids may be integers: the
    contract's columns are text.
    """

    customers: pd.DataFrame
    contacts: pd.DataFrame
    events: pd.DataFrame
    actions: pd.DataFrame
    customer_changes: pd.DataFrame
    action_changes: pd.DataFrame
    decisions: pd.DataFrame


RELATIONS = tuple(f.name for f in fields(History))


def array_literals(
    actions: tuple[str, ...], eligible: NDArray[np.bool_], probabilities: NDArray[np.float64]
) -> dict[str, NDArray[Any]]:
    """The columns `eligible_actions` and `probabilities` of decisions, as PostgreSQL array literals.

    Parameters
    ----------
    eligible, probabilities : arrays of shape (n, n_actions)
    """
    # Policies give few distinct rows: each text is written once.
    keys = np.where(eligible, np.rint(probabilities * 1e9), -1).astype(np.int64)
    distinct, position = np.unique(keys, axis=0, return_inverse=True)
    names, shares = [], []
    for row in distinct.tolist():
        allowed = [i for i, share in enumerate(row) if share >= 0]
        names.append("{" + ",".join(actions[i] for i in allowed) + "}")
        shares.append("{" + ",".join(f"{row[i] / 1e9:.9g}" for i in allowed) + "}")
    return {
        "eligible_actions": np.array(names, dtype=object)[position],
        "probabilities": np.array(shares, dtype=object)[position],
    }


def catalogue_rows(
    actions: Sequence[str], channels: Sequence[str | None], costs: Sequence[float], since: dt.date
) -> pd.DataFrame:
    """The relation `actions`: every action active from `since` (UTC) on, without a capacity."""
    start = pd.Timestamp(since, tz="UTC")
    return pd.DataFrame({"action_id": actions, "channel": channels, "cost": costs, "active_from": start})


def no_changes(key: str) -> pd.DataFrame:
    """An empty `customer_changes` or `action_changes`."""
    return pd.DataFrame(columns=[key, "changed_at", "attribute", "value"])


def create_contract(engine: Engine, feature_columns: Mapping[str, str]) -> None:
    """Create the contract's relations and the customers' feature columns where they do not exist yet.

    Parameters
    ----------
    feature_columns : mapping of str to str
        PostgreSQL type of each feature column of `customers`.
    """
    with engine.begin() as connection:
        connection.exec_driver_sql(statement("crm/contract"))
        connection.exec_driver_sql(_published())
        for name, kind in feature_columns.items():
            connection.exec_driver_sql(f'alter table customers add column if not exists "{name}" {kind}')


def _published() -> str:
    """What the product adds to a CRM, `decisions` included."""
    return statement("crm/published", decisions="decisions", campaign_list="campaign_list", make_decisions=True)


def write_history(engine: Engine, history: History | Iterable[History], replace: bool = False) -> None:
    """Copy a history, or one block of customers after the other, into the contract's relations: all of it or nothing.

    The catalogue (actions and their changes) is taken from the first block.

    Parameters
    ----------
    replace : bool
        Empty the relations first.
    """
    blocks = [history] if isinstance(history, History) else history
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        if replace:
            cursor.execute(f"truncate {', '.join(RELATIONS)}")
        for number, block in enumerate(blocks):
            for relation in RELATIONS:
                if number == 0 or not relation.startswith("action"):
                    _copy(cursor, relation, getattr(block, relation))
        connection.commit()
    finally:
        connection.close()  # back to the pool; what was not committed is rolled back
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as maintenance:
        for relation in RELATIONS:
            maintenance.exec_driver_sql(f"analyze {relation}")


def _copy(cursor: Any, relation: str, rows: pd.DataFrame) -> None:
    """COPY a data frame into a relation; NaN and None become null."""
    if rows.empty:
        return
    texts: dict[str, Any] = {
        str(name): np.char.add(np.datetime_as_string(column.to_numpy("datetime64[s]")), "Z")
        for name, column in rows.items()
        if isinstance(column.dtype, pd.DatetimeTZDtype)
    }
    buffer = io.StringIO()
    rows.assign(**texts).to_csv(buffer, index=False, header=False)
    buffer.seek(0)
    columns = ", ".join(f'"{name}"' for name in rows.columns)
    cursor.copy_expert(f"copy {relation} ({columns}) from stdin with (format csv, null '')", buffer)


def simulate_to_crm(
    name: str, engine: Engine, as_of: dt.date, customers: int, seed: int, market: Market = DEFAULT
) -> None:
    """Fill the contract's relations, emptied first, with a simulated history up to `as_of`.

    Parameters
    ----------
    name : {'sales_channels', 'testbed'}
    market : Market
        How the customers of `sales_channels` behave.

    Raises
    ------
    ValueError
        No simulator has that name.
    """
    from nba_tasks.simulators import sales_channels, sales_channels_history, testbed  # they build on this module

    if name == "sales_channels":
        columns = sales_channels_history.FEATURE_COLUMNS
        simulations = (
            sales_channels.simulate(
                min(BLOCK, customers - first), seed + first, market, as_of=as_of, first_customer=first + 1
            )
            for first in range(0, customers, BLOCK)
        )
        blocks: Iterator[History] = map(sales_channels_history.to_history, simulations)
    elif name == "testbed":
        columns = testbed.FEATURE_COLUMNS
        blocks = iter((testbed.to_history(testbed.simulate(customers, seed), as_of),))
    else:
        raise ValueError(f"there is no simulator {name!r}; there are sales_channels and testbed")
    create_contract(engine, columns)
    write_history(engine, blocks, replace=True)
