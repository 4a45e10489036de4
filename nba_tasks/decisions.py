"""A night's rows: one decision per due customer, and the part of them that is to be sent, as the CRM keeps them."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd

from nba_tasks import reasons
from nba_tasks.arms import BUSINESS_AS_USUAL, HOLDOUT, SERVED
from nba_tasks.dataset import BoolArray
from nba_tasks.policy import Floats
from nba_tasks.shape import Shape
from nba_tasks.tonight import Night

ARMS = {HOLDOUT: "holdout", BUSINESS_AS_USUAL: "business as usual", SERVED: "served policy"}

OWN = ("index", "expected", "over")
"""Columns that the CRM does not keep."""


def decisions_of(
    shape: Shape, run_id: str, scores: pd.DataFrame, eligible: BoolArray, wished: Floats, night: Night
) -> pd.DataFrame:
    """One row per due customer, in the columns of the CRM's `decisions`, and `index`, the action's number.

    Parameters
    ----------
    scores : DataFrame of n rows
        As `sql/publish/scores.sql` gives them.
    eligible, wished : arrays of shape (n, n_actions)
        What is allowed, and the probabilities before tonight's limits.
    night : Night
    """
    programme, as_of = shape.programme, shape.as_of
    ids = np.array([a.action_id for a in shape.actions], dtype=object)
    if scores.empty:
        return pd.DataFrame(
            {"decision_id": [], "customer_id": [], "index": [], "expected": [], "over": [], "reason": []}
        )
    index, probability = night.action, night.probability
    rows = np.arange(len(index))
    value = np.array(scores["expected_value"].tolist(), dtype=np.float64)
    possible = probability > 0
    expected, nothing = value[rows, index], np.where(eligible[:, 0], value[:, 0], np.nan)
    return pd.DataFrame(
        {
            "decision_id": f"{programme.programme}/{as_of}/" + scores["customer_id"],
            "programme": programme.programme,
            "customer_id": scores["customer_id"],
            "decided_at": dt.datetime.combine(as_of, dt.time(), programme.grid.zone),
            "action_id": ids[index],
            # As the contract has it, only what had a chance: an action without support is as good as forbidden.
            "eligible_actions": ["{" + ",".join(f'"{i}"' for i in ids[row]) + "}" for row in possible],
            "probabilities": _over_eligible(probability, possible),
            "expected_values": _over_eligible(value, possible),
            "reason": reasons.sentences(
                [a.action_id for a in shape.actions],
                index,
                value,
                eligible,
                scores["arm"].to_numpy(str),
                _because(shape, scores, eligible),
                short=probability < wished,
            ),
            "explored": index != probability.argmax(axis=1),
            "arm": scores["arm"].map(ARMS),
            "policy_version": scores["policy_version"].astype(str),
            "run_id": run_id,
            "published_at": dt.datetime.now(dt.UTC),
            "index": index,
            "expected": expected,
            "over": expected - nothing,
        }
    )


def _because(shape: Shape, scores: pd.DataFrame, eligible: BoolArray) -> reasons.Words:
    """What moved each choice, in words; empty where other actions are allowed now than when it was scored."""
    moved = np.array(scores["moved"].tolist(), dtype=np.int16).reshape(len(scores), -1)
    packed = (eligible * (1 << np.arange(eligible.shape[1]))).sum(axis=1)
    moved[packed != scores["eligible"].to_numpy()] = -1
    state = np.array(scores["state"].tolist(), dtype=np.float64).reshape(len(scores), -1)
    return reasons.named(moved, state, shape.programme.state)


def _over_eligible(values: Floats, eligible: BoolArray) -> list[str]:
    """Array literals over each row's eligible actions; a value that is not known is null."""
    texts = values.astype(str).astype(object)
    texts[np.isnan(values)] = "NULL"
    return ["{" + ",".join(row[allowed]) + "}" for row, allowed in zip(texts, eligible, strict=True)]


def to_send(shape: Shape, decisions: pd.DataFrame) -> pd.DataFrame:
    """The part of the decisions that is a contact, in the columns of the campaign list."""
    if decisions.empty:
        return decisions
    chosen = decisions[decisions["index"] > 0]
    return pd.DataFrame(
        {
            "decision_id": chosen["decision_id"],
            "programme": chosen["programme"],
            "list_date": shape.as_of,
            "customer_id": chosen["customer_id"],
            "action_id": chosen["action_id"],
            "channel": chosen["action_id"].map({a.action_id: a.channel for a in shape.actions}),
            "expected_value": chosen["expected"],
            "value_over_no_action": chosen["over"],
            "reason": chosen["reason"],
            "policy_version": chosen["policy_version"],
        }
    )
