"""Outcomes: a daily look at what the published lists earned, at the gate's promise, and at what has drifted."""

from __future__ import annotations

import datetime as dt
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from nba_tasks import database, ledger, realised, registry, rollout
from nba_tasks.arms import BUSINESS_AS_USUAL, HOLDOUT, SERVED, sample_ratio
from nba_tasks.dataset import FloatArray, Transitions
from nba_tasks.decided import (
    LATELY,
    InUse,
    arm_counts,
    in_use_before,
    incumbent_of,
    promise_of,
    read_decided,
    read_delivery,
)
from nba_tasks.drift import PSI, psi, psi_of_counts
from nba_tasks.loading import load
from nba_tasks.programme import CustomerFeature, Programme
from nba_tasks.realised import Decided, Promise
from nba_tasks.rollout import Progress
from nba_tasks.shape import Shape
from nba_tasks.train import reading

AGAIN = 28
"""Days before a demotion that somebody rejected is proposed anew."""


@dataclass(frozen=True)
class Outcome:
    """One day's look.

    Attributes
    ----------
    version : int
        The policy in use.
    content : dict
        Plain JSON values, as `nba.outcomes` keeps them.
    alerts : tuple of str
    demotion : str or None
        Why the policy in use should be taken out of it.
    rolling : Progress or None
        Of the roll-out, while there is one.
    """

    version: int
    content: dict[str, Any]
    alerts: tuple[str, ...]
    demotion: str | None
    rolling: Progress | None = None


def look(crm: Engine, programme: Programme, as_of: dt.date) -> Outcome | None:
    """Look at the decisions that have settled before a date; None where nothing was published yet.

    Raises
    ------
    BatchError, TransitionsError
        The date's history or transitions are missing.
    """
    in_use = in_use_before(crm, programme, as_of)
    if in_use is None:
        return None
    with reading(programme, as_of) as (connection, source):
        gate = ledger.gate_of_candidate(connection, programme, in_use.version)
        report = gate["report"] if gate else {}
        rolling = rollout.progress(connection, programme, source.batch, in_use.version, in_use.nights, report)
        promise, charge = promise_of(connection, programme, in_use.version)
        decided = read_decided(connection, source.shape, source.batch, in_use, charge)
        counts = arm_counts(connection, source.batch)
        delivery = read_delivery(connection, source.shape, source.batch, in_use)
        before = load(connection, source.shape, "select", programme.learning.max_customers).transitions
    incumbent = incumbent_of(source.shape, in_use, decided)
    return judge(programme, source.shape, in_use, decided, promise, counts, delivery, before, incumbent, rolling)


def judge(
    programme: Programme,
    shape: Shape,
    in_use: InUse,
    decided: Decided,
    promise: Promise | None,
    counts: dict[str, int],
    delivery: dict[str, int],
    before: Transitions,
    incumbent: FloatArray | None,
    rolling: Progress | None = None,
) -> Outcome:
    """The look itself, from arrays and counts.

    Parameters
    ----------
    counts : mapping of arm to customers
    delivery : mapping
        `listed`, `delivered`, `contacts`, `overrides`.
    before : Transitions
        What the policy was judged on: states before its first night.
    incumbent : array of shape (n, n_actions) or None
        Probabilities of the policy before in each decision.
    rolling : Progress, optional
        Of the roll-out, while there is one.
    """
    horizon, discount, alpha = programme.gate.horizon, programme.learning.discount, programme.outcomes.alpha
    found = realised.earned(decided, horizon, discount, programme.harms)
    shares = {
        "holdout": programme.arms.holdout,
        "business as usual": programme.arms.business_as_usual,
        "served policy": 1 - programme.arms.holdout - programme.arms.business_as_usual,
    }
    ratio = sample_ratio(counts, shares)
    usual, nobody = (found.over(arm) for arm in (BUSINESS_AS_USUAL, HOLDOUT))
    drift, mix = _drift(shape, decided, before, in_use)
    promises = realised.promise_table(found, promise, alpha)
    demotion = None
    # Weekly looks (nightly ones would spend α sevenfold), counted from the first that can see a whole window.
    grid = programme.grid
    days = (shape.as_of - in_use.since).days - (horizon * grid.interval_days + grid.settlement_lag_days)
    if days >= 0 and days % 7 == 0:
        gain = None
        if incumbent is not None:
            gain = realised.incumbents_gain(decided, incumbent, horizon, discount, programme.gate.min_effective_size)
        demotion = realised.demotion(found, gain, days // 7 + 1, programme.gate.alpha)
    if demotion is None and rolling is not None and rolling.alarms:
        demotion = "while it is rolled out, it surely does more harm: " + "; ".join(map(str, rolling.alarms))
    differing = float(decided.differs.mean()) if len(decided.differs) else 0.0
    content = {
        "as_of": shape.as_of.isoformat(),
        "policy_version": in_use.version,
        "since": in_use.since.isoformat(),
        "nights": len(in_use.nights),
        "decisions": len(decided.data),
        "horizon": horizon,
        "arms": realised.arms_table(found, alpha),
        "over_business_as_usual": realised.interval(usual, alpha) if usual else None,
        "over_holdout": realised.interval(nobody, alpha) if nobody else None,
        "rollout": rolling.to_dict() if rolling else None,
        "promises": promises,
        "sample_ratio": {"counts": counts, "shares": shares, "evidence": min(ratio.evidence, 1e300)},
        "actions": realised.actions_table(decided, tuple(a.action_id for a in shape.actions), alpha),
        "segments": _segments(programme, decided, alpha),
        "drift": {name: _plain(value) for name, value in drift.items()},
        "action_mix": _plain(mix),
        "differing_share": differing,
        "delivery": delivery,
        "demotion": demotion,
    }
    return Outcome(
        version=in_use.version,
        content=content,
        alerts=tuple(_alerts(programme, ratio.broken(0.01), promises, drift, mix, differing, delivery, demotion)),
        demotion=demotion,
        rolling=rolling,
    )


def _alerts(
    programme: Programme,
    ratio_broken: bool,
    promises: list[dict[str, Any]],
    drift: dict[str, PSI],
    mix: PSI | None,
    differing: float,
    delivery: dict[str, int],
    demotion: str | None,
) -> list[str]:
    """What somebody should look at, in words."""
    limits, alerts = programme.outcomes, []
    if ratio_broken:
        alerts.append("the arms are not of the sizes that the file states: what they show of the lift may be wrong")
    alerts += [
        f"the gate's promise is broken: {row['figure']} is {row['found']['value']:.2f}, surely below the promised "
        f"{row['promised']['lower']:.2f}"
        for row in promises
        if row["kept"] == "broken"
    ]
    alerts += [f"{name} has drifted (PSI {value.value:.2f})" for name, value in drift.items() if value.alarming]
    if mix is not None and mix.alarming:
        alerts.append(f"the mix of actions has drifted (PSI {mix.value:.2f})")
    if differing > limits.max_differing_share:
        alerts.append(f"{differing:.0%} of the decisions rest on a state that is known otherwise by now: late data")
    if delivery["listed"] and delivery["delivered"] < limits.min_delivered_share * delivery["listed"]:
        alerts.append(f"{delivery['delivered']:,} of {delivery['listed']:,} listed contacts were made")
    if delivery["contacts"] and delivery["overrides"] > limits.max_override_share * delivery["contacts"]:
        alerts.append(f"{delivery['overrides']:,} of {delivery['contacts']:,} contacts were nobody's decision")
    if demotion:
        alerts.append(f"taking the policy out of use is proposed: {demotion}")
    return alerts


def record(
    warehouse: Engine, programme: Programme, as_of: dt.date, outcome: Outcome, dag_run_id: str | None = None
) -> int | None:
    """Keep a look, a repeated one in its place; returns the id of a demotion that it proposes anew."""
    with warehouse.begin() as connection:
        database.lock(connection, "outcomes", programme.programme)
        key = {"programme": programme.programme, "as_of": as_of, "version": outcome.version, "dag_run_id": dag_run_id}
        connection.execute(
            sa.text(
                """
                insert into nba.outcomes (programme_id, as_of, policy_version, content, alerts, dag_run_id)
                select programme_id, :as_of, :version, cast(:content as jsonb), :alerts, :dag_run_id
                from nba.programmes where programme = :programme
                on conflict (programme_id, as_of) do update
                set policy_version = excluded.policy_version, content = excluded.content, alerts = excluded.alerts,
                    dag_run_id = excluded.dag_run_id, looked_at = now()
                """
            ),
            key | {"content": json.dumps(outcome.content, allow_nan=False), "alerts": list(outcome.alerts)},
        )
        back = registry.version_of(programme, "previous")
        in_use = registry.version_of(programme, "champion")
        if outcome.demotion is None or back is None or in_use != outcome.version:
            return None
        return ledger.propose_demotion(
            connection, programme, as_of, outcome.version, back, outcome.demotion, dt.timedelta(days=AGAIN)
        )


def _drift(shape: Shape, decided: Decided, before: Transitions, in_use: InUse) -> tuple[dict[str, PSI], PSI | None]:
    """Features against what the policy was judged on; the actions of late against those of its first weeks."""
    data = decided.data
    if not len(data):
        return {}, None
    interval = shape.programme.grid.interval_days
    epochs = max(1, math.ceil(LATELY / interval))
    late = data.epoch > int(data.epoch.max()) - epochs
    early = before.epoch < int(data.epoch.min())
    drift = {}
    if early.any():
        drift = {
            feature.name: psi(before.state[early, position], data.state[late, position])
            for position, feature in enumerate(shape.features)
        }
    first = (data.epoch < int(data.epoch.min()) + epochs) & ~late
    served = decided.arm == SERVED
    if not (first & served).any():
        return drift, None
    counts = [np.bincount(data.action[rows & served], minlength=data.n_actions) for rows in (first, late)]
    return drift, psi_of_counts(counts[0], counts[1])


def _segments(programme: Programme, decided: Decided, alpha: float) -> list[dict[str, Any]]:
    """By each of the customers' own categories."""
    rows = []
    for position, feature in enumerate(programme.state):
        if isinstance(feature, CustomerFeature) and feature.categories:
            table = realised.segments_table(
                decided, position, feature.categories, programme.gate.horizon, programme.learning.discount, alpha
            )
            rows += [{"feature": feature.name, **row} for row in table]
    return rows


def _plain(value: PSI | None) -> dict[str, float | bool] | None:
    if value is None:
        return None
    chance = value.by_chance if math.isfinite(value.by_chance) else 0.0
    return {"psi": value.value, "by_chance": chance, "moved": value.moved, "alarming": value.alarming}
