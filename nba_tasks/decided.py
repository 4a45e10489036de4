"""Published decisions out of the databases: of the policy in use, with what came of them and what the gate promised."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from nba_tasks import database, ledger, publish, registry
from nba_tasks.arms import BUSINESS_AS_USUAL, HOLDOUT, NAMES, SERVED
from nba_tasks.average_night import evenly, scaled
from nba_tasks.batches import Batch
from nba_tasks.capacity import movable, solve_prices
from nba_tasks.critics import Loss
from nba_tasks.dataset import FloatArray, Transitions
from nba_tasks.policy import carve_out
from nba_tasks.programme import Programme
from nba_tasks.realised import Decided, Promise
from nba_tasks.shape import Shape
from nba_tasks.tonight import limits_of

LATELY = 28
"""Days of decisions that delivery and drift are looked for in."""


@dataclass(frozen=True)
class InUse:
    """The policy of the newest lists: its version, its nights, and the first of them."""

    version: int
    nights: tuple[dt.date, ...]

    @property
    def since(self) -> dt.date:
        return self.nights[0]


def in_use_before(crm: Engine, programme: Programme, as_of: dt.date) -> InUse | None:
    """The version of the newest lists before a date, and its unbroken run of nights."""
    with crm.begin() as connection:
        publish.ensure_tables(connection, programme)
        rows = connection.execute(
            sa.text(
                """
                select list_date, policy_version from publications
                where programme = :programme and list_date < :as_of order by list_date desc
                """
            ),
            {"programme": programme.programme, "as_of": as_of},
        ).all()
    if not rows:
        return None
    version = rows[0].policy_version
    nights = []
    for row in rows:
        if row.policy_version != version:
            break
        nights.append(row.list_date)
    return InUse(int(version), tuple(reversed(nights)))


def promise_of(connection: Connection, programme: Programme, version: int) -> tuple[Promise | None, Loss]:
    """What the gate said of a version, and what it charged for a lost customer."""
    gate = ledger.gate_of_candidate(connection, programme, version)
    horizon, discount = programme.gate.horizon, programme.learning.discount
    configured = programme.reward.lost_customer_value
    report = gate["report"] if gate else {}
    value = configured if configured is not None else float(report.get("lost_customer_value") or 0.0)
    loss = Loss(value, horizon, discount, configured is not None)
    if gate is None or not report.get("deciding"):
        return None, loss
    estimator = report["deciding"]["estimator"]
    judged = next((f for f in report["estimates"] if f["estimator"] == estimator and f["policy"] == "candidate"), None)
    if judged is None:
        return None, loss
    over_version_0 = gate["incumbent_version"] == registry.version_of(programme, "version_0")
    value_of = (judged["value"], judged["lower"], judged["upper"])
    gain = (gate["delta"], gate["lower_bound"], gate["upper_bound"])
    return Promise(int(gate["gate_id"]), value_of, gain, over_version_0), loss


def read_decided(connection: Connection, shape: Shape, batch: Batch, in_use: InUse, loss: Loss) -> Decided:
    """Its decisions whose epochs have settled."""
    grid = shape.programme.grid
    outcomes = [o.column for o in shape.outcomes]
    query = database.statement(
        "outcomes/decisions",
        table=shape.table,
        columns=[*outcomes, *(f.column for f in shape.features)],
        features=shape.features,
        logged_mask=shape.mask("logged"),
        target_mask=shape.mask("target"),
        settled_on=shape.as_of - dt.timedelta(days=grid.settlement_lag_days),
        anchor=grid.anchor,
        interval=grid.interval_days,
    )
    parameters = {
        "programme_id": batch.programme_id,
        "list_dates": list(in_use.nights),
        "policy_versions": [in_use.version] * len(in_use.nights),
    }
    rows = database.frame(connection, query, parameters)
    data = _transitions(rows, shape)
    return Decided(
        data=data,
        arm=rows["arm"].to_numpy(str),
        last_epoch=rows["last_epoch"].to_numpy(np.int64),
        differs=rows["differs"].to_numpy(bool),
        charge=loss.charge(data),
    )


def _transitions(rows: pd.DataFrame, shape: Shape) -> Transitions:
    bits = np.int64(1) << np.arange(len(shape.actions))
    outcomes = [*(o.column for o in shape.outcomes), "contacts", "cost"]
    done = rows["done"].to_numpy(bool)
    return Transitions(
        customer=rows["customer_key"].to_numpy(np.int64),
        epoch=rows["epoch"].to_numpy(np.int64),
        state=rows[[f.column for f in shape.features]].to_numpy(np.float32),
        action=rows["action"].to_numpy(np.int64),
        reward=rows["reward"].to_numpy(np.float64),
        outcomes=rows[outcomes].fillna(0).to_numpy(np.float64),
        eligible_logged=(rows["eligible_logged"].to_numpy(np.int64)[:, None] & bits) != 0,
        eligible_target=(rows["eligible_target"].to_numpy(np.int64)[:, None] & bits) != 0,
        propensity=rows["propensity"].to_numpy(np.float64),
        done=done,
        lost=done.copy(),
        outcome_names=shape.outcome_names,
    )


def arm_counts(connection: Connection, batch: Batch) -> dict[str, int]:
    """Customers of each arm: everyone whom the history has seen."""
    rows = connection.execute(
        sa.text(
            """
            select arm, count(*) from history.customers
            where programme_id = :programme_id and batch_id <= :batch_id group by arm
            """
        ),
        {"programme_id": batch.programme_id, "batch_id": batch.batch_id},
    )
    found = {arm: int(count) for arm, count in rows}
    return {NAMES[arm]: found.get(arm, 0) for arm in (HOLDOUT, BUSINESS_AS_USUAL, SERVED)}


def read_delivery(connection: Connection, shape: Shape, batch: Batch, in_use: InUse) -> dict[str, int]:
    """Of late: contacts `listed` and `delivered`, all `contacts`, and the `overrides` among them."""
    grid = shape.programme.grid
    until = shape.as_of - dt.timedelta(days=grid.settlement_lag_days)
    since = max(in_use.since, until - dt.timedelta(days=LATELY))

    def midnight(day: dt.date) -> dt.datetime:
        return dt.datetime.combine(day, dt.time(), grid.zone)

    row = database.execute(
        connection,
        "outcomes/delivery",
        {
            "programme": shape.programme.programme,
            "programme_id": batch.programme_id,
            "batch_id": batch.batch_id,
            "since": midnight(since),
            "until": midnight(until),
        },
    ).one()
    return {name: int(value) for name, value in row._mapping.items()}


def incumbent_of(shape: Shape, in_use: InUse, decided: Decided) -> FloatArray | None:
    """Probabilities of the policy that the one in use replaced, as it would be published: within an average night's
    limits."""
    programme, version = shape.programme, in_use.version
    before = registry.version_of(programme, "previous")
    if before is None or before == version or not len(decided.data):
        return None
    stored = registry.load(programme, before)
    if stored.features != programme.feature_names:
        return None
    eligible = decided.data.eligible_target.copy()
    eligible[~eligible.any(axis=1), 0] = True
    state, contacted = decided.data.state, decided.arm != HOLDOUT
    value = stored.values(state, eligible.shape[1])
    known = eligible & ~stored.newcomers(shape)
    known[~known.any(axis=1), 0] = True
    wished = stored.probabilities(state, known)
    # New actions get their share whatever the policy: those that the one in use knows little of had it when they could.
    new = registry.load(programme, version).newcomers(shape) & decided.data.eligible_logged & eligible
    wished = carve_out(wished, new & (decided.arm != BUSINESS_AS_USUAL)[:, None], programme.layers.carve_out)
    age = dt.timedelta(days=programme.grid.interval_days + programme.grid.settlement_lag_days)
    settled = sum(night + age <= shape.as_of for night in in_use.nights)
    if not (limits := limits_of(shape)) or not contacted.any() or not settled:
        return wished
    rows = evenly(np.flatnonzero(contacted))
    its = scaled(limits, len(rows), contacted.sum() / settled)
    may = movable(wished[rows], value[rows])
    prices = solve_prices(wished[rows], value[rows], may, its, even_share=programme.layers.even_share)
    return prices.within(wished, value)
