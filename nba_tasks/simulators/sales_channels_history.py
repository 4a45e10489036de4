"""A played sales-channels history as the CRM contract's relations."""

from __future__ import annotations

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nba_tasks.simulators import channels_world as world_
from nba_tasks.simulators.channels_world import ACTIONS, EVENTS
from nba_tasks.simulators.choice import Ints
from nba_tasks.simulators.clock import day_number, instants
from nba_tasks.simulators.crm import History, array_literals, catalogue_rows, no_changes
from nba_tasks.simulators.market import AGE_BANDS, CHANNELS, SEGMENTS
from nba_tasks.simulators.sales_channels import ANCHOR, Simulation

ZONE = ZoneInfo("Europe/Berlin")
FEATURE_COLUMNS = {
    "segment": "text",
    "age_band": "text",
    "online_affinity": "double precision",
    "basket": "double precision",
}
CREATED_AT = 8 * 3600  # wall-clock seconds
DECIDED_AT = 6 * 3600
CONTACTED_AT = 9 * 3600


def to_history(simulation: Simulation, *, log_decisions: bool = True) -> History:
    """The contract's relations, with rows from before local midnight of `as_of` only.

    A decision's id is customer id x 10,000 + epoch, its contact has the same id, and an event's id appends the
    position of its type: so histories of different customers never clash. Without `log_decisions` the CRM kept no
    propensities: `decisions` is empty, and contacts name none.
    """
    grid, today = simulation.grid, day_number(simulation.grid.as_of)
    row, column = np.nonzero(simulation.active)
    epoch = np.asarray(grid.epochs, dtype=np.int64)[column]
    start = day_number(ANCHOR) + grid.offset[row] + world_.INTERVAL * epoch
    row, column, epoch, start = (part[start < today] for part in (row, column, epoch, start))
    customer = grid.customer[row]
    decision = customer * 10_000 + epoch
    action = simulation.action[row, column].astype(np.int64)
    uniform = np.empty((len(row), 2))
    for j, number in enumerate(grid.epochs):
        here = column == j
        drawn = world_.draws(simulation.seed, number, len(grid.customer))[0][row[here]]
        uniform[here] = drawn[:, [world_.DRAW_DECIDED, world_.DRAW_CONTACTED]]
    second = np.floor(3600 * uniform).astype(np.int64)

    decisions = pd.DataFrame()
    if log_decisions:
        decisions = pd.DataFrame(
            {
                "decision_id": decision,
                "customer_id": customer,
                "decided_at": instants(start, DECIDED_AT + second[:, 0], ZONE),
                "action_id": np.array(ACTIONS, dtype=object)[action],
                **array_literals(ACTIONS, simulation.eligible[row, column], simulation.probabilities[row, column]),
            }
        )
    made = action > 0
    contacts = pd.DataFrame(
        {
            "contact_id": decision[made],
            "customer_id": customer[made],
            "contacted_at": instants(start[made], CONTACTED_AT + second[made, 1], ZONE),
            "action_id": np.array(ACTIONS, dtype=object)[action[made]],
            "decision_id": decision[made] if log_decisions else None,
        }
    )
    events, withdrawals = _answers(simulation, row, column, start, decision)
    return History(
        contacts=contacts,
        events=events,
        decisions=decisions,
        actions=catalogue_rows(
            ACTIONS, (None, *CHANNELS), (0.0, *simulation.market.cost), ANCHOR - dt.timedelta(days=1)
        ),
        action_changes=no_changes("action_id"),
        **_people(simulation, withdrawals),
    )


def _answers(
    simulation: Simulation, row: Ints, column: Ints, start: Ints, decision: Ints
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Events, and consents withdrawn with a complaint (with the customer's `row` and the number of the `channel`)."""
    grid = simulation.grid
    moment = simulation.moment[row, column].astype(np.int64)
    day, second = start[:, None] + moment // 86_400, moment % 86_400
    seen = simulation.occurred[row, column] & (day < day_number(grid.as_of))
    which, kind = np.nonzero(seen)
    value = simulation.value[row, column][which]
    events = pd.DataFrame(
        {
            "event_id": decision[which] * 10 + kind,
            "customer_id": grid.customer[row[which]],
            "occurred_at": instants(day[which, kind], second[which, kind], ZONE),
            "event_type": np.array(EVENTS, dtype=object)[kind],
            "value": np.where(kind == world_.PURCHASE, value, np.nan),
        }
    )
    gone = simulation.withdrawn[row, column] & seen[:, world_.COMPLAINT]
    withdrawals = pd.DataFrame(
        {
            "row": row[gone],
            "customer_id": grid.customer[row[gone]],
            "changed_at": instants(day[gone, world_.COMPLAINT], second[gone, world_.COMPLAINT], ZONE),
            "channel": simulation.action[row, column][gone].astype(np.int64) - 1,
        }
    )
    return events, withdrawals


def _people(simulation: Simulation, withdrawals: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Customers as they are today, and every value that a consent took."""
    grid, world = simulation.grid, simulation.start
    born = np.flatnonzero(grid.created < day_number(grid.as_of))
    created = instants(grid.created[born], CREATED_AT + grid.customer[born] % 36_000, ZONE)
    consent = world.consent.copy()
    first = [
        pd.DataFrame(
            {
                "customer_id": grid.customer[born],
                "changed_at": created,
                "attribute": f"consent_{channel}",
                "value": _words(consent[born, c]),
            }
        )
        for c, channel in enumerate(CHANNELS)
    ]
    later = pd.DataFrame(
        {
            "customer_id": withdrawals["customer_id"],
            "changed_at": withdrawals["changed_at"],
            "attribute": np.array([f"consent_{c}" for c in CHANNELS], dtype=object)[withdrawals["channel"]],
            "value": "false",
        }
    )
    consent[withdrawals["row"], withdrawals["channel"]] = False
    customers = pd.DataFrame(
        {
            "customer_id": grid.customer[born],
            "created_at": created,
            **{f"consent_{channel}": _words(consent[born, c]) for c, channel in enumerate(CHANNELS)},
            "segment": np.array(SEGMENTS, dtype=object)[world.segment[born]],
            "age_band": np.array(AGE_BANDS, dtype=object)[world.age_band[born]],
            "online_affinity": world.online_affinity[born],
            "basket": world.basket[born],
        }
    )
    return {"customers": customers, "customer_changes": pd.concat([*first, later], ignore_index=True)}


def _words(truth: NDArray[np.bool_]) -> NDArray[Any]:
    return np.where(truth, "true", "false").astype(object)
