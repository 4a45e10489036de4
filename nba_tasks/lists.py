"""A night's list as a whole: how many of what for whom. Kept for every run that made one, dry runs included."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Engine

from nba_tasks.dataset import BoolArray, FloatArray
from nba_tasks.policy import Floats
from nba_tasks.programme import CustomerFeature
from nba_tasks.shape import Shape
from nba_tasks.tonight import Night

HeldBack = list[dict[str, Any]]
"""What each rule forbade; see `eligibility.held_back`."""


def summarise(
    shape: Shape, decisions: pd.DataFrame, state: FloatArray, eligible: BoolArray, night: Night
) -> dict[str, Any]:
    """Counts and averages of a list, in plain JSON values.

    Parameters
    ----------
    decisions : DataFrame of n rows
        With `index` (the action drawn), `expected`, `over`, `explored` and `arm`.
    state : array of shape (n, n_features)
    eligible : array of shape (n, n_actions)
    night : Night
    """
    if decisions.empty:
        return {"decisions": 0, "to_send": 0, "explored": None, "expected_value": None, "value_over_no_action": None,
                "arms": [], "actions": [], "segments": [], "limits": []}  # fmt: skip
    drawn = decisions["index"].to_numpy()
    value = decisions["expected"].to_numpy(np.float64)
    return {
        "decisions": len(decisions),
        "to_send": int((drawn > 0).sum()),
        "explored": float(decisions["explored"].mean()),
        "expected_value": _mean(value),
        "value_over_no_action": _mean(decisions["over"].to_numpy(np.float64)),
        "arms": [
            {"arm": str(arm), **_counts(drawn, value, (decisions["arm"] == arm).to_numpy())}
            for arm in sorted(decisions["arm"].unique())
        ],
        "actions": [
            {
                "action_id": action.action_id,
                "channel": action.channel,
                "decisions": int((drawn == action.index).sum()),
                "chances": float(night.probability[:, action.index].sum()),
                "allowed": int(eligible[:, action.index].sum()),
                "expected_value": _mean(value[drawn == action.index]),
            }
            for action in shape.actions
        ],
        "segments": _segments(shape, drawn, value, state),
        "limits": [use.to_dict() for use in night.uses],
    }


def in_all(shards: Iterable[HeldBack]) -> HeldBack:
    """What each rule forbade to anybody, from what it forbade in each shard."""
    customers: Counter[str] = Counter()
    actions: dict[str, Counter[str]] = {}
    for row in (row for shard in shards for row in shard):
        customers[row["rule"]] += row["customers"]
        actions.setdefault(row["rule"], Counter()).update(row["actions"])
    return [{"rule": rule, "customers": customers[rule], "actions": dict(each)} for rule, each in actions.items()]


def _segments(shape: Shape, drawn: NDArray[np.int64], value: Floats, state: FloatArray) -> list[dict[str, Any]]:
    """Counts by each of the customers' own categories."""
    rows = []
    for position, feature in enumerate(shape.programme.state):
        if isinstance(feature, CustomerFeature) and feature.categories:
            codes = state[:, position]
            for code, label in enumerate(feature.categories):
                if (members := codes == code).any():
                    rows.append({"feature": feature.name, "label": label, **_counts(drawn, value, members)})
    return rows


def _counts(drawn: NDArray[np.int64], value: Floats, members: NDArray[np.bool_]) -> dict[str, Any]:
    return {
        "decisions": int(members.sum()),
        "to_send": int((drawn[members] > 0).sum()),
        "expected_value": _mean(value[members]),
    }


def _mean(values: Floats) -> float | None:
    """Over what is known; version 0 values nothing."""
    known = values[~np.isnan(values)]
    mean = float(known.mean()) if len(known) else math.nan
    return mean if math.isfinite(mean) else None


def record(
    warehouse: Engine,
    programme_id: int,
    list_date: dt.date,
    run_id: str,
    policy_version: int,
    summary: dict[str, Any],
    *,
    dry_run: bool,
) -> None:
    """Keep what a run's list looked like; a repeated run replaces its own row."""
    with warehouse.begin() as connection:
        connection.execute(
            sa.text(
                """
                insert into nba.lists (programme_id, list_date, run_id, policy_version, dry_run, summary)
                values (:programme_id, :list_date, :run_id, :policy_version, :dry_run, cast(:summary as jsonb))
                on conflict (programme_id, list_date, run_id) do update
                set policy_version = excluded.policy_version, dry_run = excluded.dry_run,
                    summary = excluded.summary, made_at = excluded.made_at
                -- What was published stays as it is, whatever a later dry try of the same run finds.
                where nba.lists.dry_run or not excluded.dry_run
                """
            ),
            {
                "programme_id": programme_id,
                "list_date": list_date,
                "run_id": run_id,
                "policy_version": policy_version,
                "dry_run": dry_run,
                "summary": json.dumps(summary),
            },
        )
