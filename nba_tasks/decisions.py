"""A night's rows: one decision per due customer, and the part of them that is to be sent, as the CRM keeps them.

By column, without a Python object a value: a list of millions is made of arrays.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from nba_tasks import reasons
from nba_tasks.arms import NAMES, PREVIOUS
from nba_tasks.bulk import array_literals, chosen, joined, name_literals
from nba_tasks.dataset import BoolArray, FloatArray, IntArray
from nba_tasks.policy import Floats
from nba_tasks.shape import Shape
from nba_tasks.tonight import Night


@dataclass(frozen=True)
class Scored:
    """The customers of a night, n of them.

    Attributes
    ----------
    customer_key : int array of shape (n,)
    customer_id : pyarrow text array of length n
    arm : text array of shape (n,)
    eligible : bool array of shape (n, n_actions)
    uniform : array of shape (n,)
        In [0, 1): decides the draw.
    state : float32 array of shape (n, n_features)
    value : float64 array of shape (n, n_actions)
        Expected value of each action; NaN where the policy knows none.
    probability : float64 array of shape (n, n_actions)
    """

    customer_key: IntArray
    customer_id: pa.Array
    arm: NDArray[np.str_]
    eligible: BoolArray
    uniform: Floats
    state: NDArray[np.float32]
    value: Floats
    probability: Floats

    def __len__(self) -> int:
        return len(self.customer_key)

    def without(self, gone: BoolArray) -> Scored:
        """All but some customers; `gone` has shape (n,)."""
        if not gone.any():
            return self
        arrays = ("customer_key", "arm", "eligible", "uniform", "state", "value", "probability")
        kept = {name: getattr(self, name)[~gone] for name in arrays}
        return replace(self, customer_id=self.customer_id.filter(pa.array(~gone)), **kept)


@dataclass(frozen=True)
class Decisions:
    """What is written into the CRM, by column.

    Attributes
    ----------
    decisions : mapping of str to array, or to one value for every row
    to_send : the same
        The part of the decisions that is a contact.
    drawn : DataFrame of n rows
        What a summary counts: `index` of the action, `expected`, `over` (doing nothing), `explored`, `arm`.
    """

    decisions: Mapping[str, Any]
    to_send: Mapping[str, Any]
    drawn: pd.DataFrame

    @property
    def n_decisions(self) -> int:
        return len(self.drawn)

    @property
    def n_to_send(self) -> int:
        return int((self.drawn["index"] > 0).sum())


def decisions_of(
    shape: Shape,
    run_id: str,
    versions: tuple[int, int],
    scored: Scored,
    wished: Floats,
    night: Night,
    new: BoolArray,
    moved: NDArray[np.int16],
) -> Decisions:
    """The rows of the CRM's `decisions` and of the campaign list.

    Parameters
    ----------
    versions : (int, int)
        Of the policy in use, and of the one that still decides for customers whom its roll-out has not reached.
    scored : Scored
        With what is eligible now.
    wished : array of shape (n, n_actions)
        The probabilities before tonight's limits.
    night : Night
    new : bool array of shape (n, n_actions)
        New actions with their carve-out.
    moved : int16 array of shape (n, 3)
        What moved each draw, see `reasons.moved_most`.
    """
    programme, as_of = shape.programme, shape.as_of
    ids = [action.action_id for action in shape.actions]
    index, probability, value = night.action, night.probability, scored.value
    rows = np.arange(len(index))
    # As the contract has it, only what had a chance: an action without support is as good as forbidden.
    possible = probability > 0
    expected = value[rows, index]
    over = expected - np.where(scored.eligible[:, 0], value[:, 0], np.nan)
    explored = index != probability.argmax(axis=1)
    arm = np.select([scored.arm == code for code in NAMES], list(range(len(NAMES)))).astype(np.int8)
    version = chosen([str(one) for one in versions], (scored.arm == PREVIOUS).astype(np.int8))
    because = reasons.named(moved, scored.state, programme.state)
    reason = reasons.sentences(ids, index, value, scored.eligible, scored.arm, because, probability < wished, new)
    decisions = {
        "decision_id": joined(f"{programme.programme}/{as_of}/", scored.customer_id),
        "programme": programme.programme,
        "customer_id": scored.customer_id,
        "decided_at": dt.datetime.combine(as_of, dt.time(), programme.grid.zone).isoformat(),
        "action_id": chosen(ids, index),
        "eligible_actions": name_literals(ids, possible),
        "probabilities": array_literals(probability, possible),
        "expected_values": array_literals(value, possible),
        "reason": pa.array(reason, pa.string()),
        "explored": explored,
        "arm": chosen(list(NAMES.values()), arm),
        "policy_version": version,
        "run_id": run_id,
        "published_at": dt.datetime.now(dt.UTC).isoformat(),
    }
    sent = index > 0
    to_send = {
        **{name: decisions[name].filter(pa.array(sent)) for name in ("decision_id", "customer_id", "action_id")},
        "programme": programme.programme,
        "list_date": as_of.isoformat(),
        "channel": chosen([action.channel for action in shape.actions], index[sent]),
        "expected_value": _known(expected[sent]),
        "value_over_no_action": _known(over[sent]),
        "reason": decisions["reason"].filter(pa.array(sent)),
        "policy_version": version.filter(pa.array(sent)),
    }
    names = pd.Categorical.from_codes(arm, pd.Index(list(NAMES.values())))
    drawn = {"index": index, "expected": expected, "over": over, "explored": explored, "arm": names}
    return Decisions(decisions, to_send, pd.DataFrame(drawn))


def _known(values: FloatArray) -> pa.Array:
    return pa.array(values, mask=np.isnan(values))
