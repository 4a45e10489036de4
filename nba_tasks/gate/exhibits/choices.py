"""What the policies do: shares of the actions, and the learned policy's choice over a map of states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nba_tasks.dataset import FloatArray, IntArray
from nba_tasks.gate.exhibits.bands import StateFeature, banded, strongest_pair
from nba_tasks.gate.sample import Sample


@dataclass(frozen=True)
class ActionShare:
    """One action's share of the decisions: as logged, and as either policy would choose in the same states."""

    action_id: str
    log: float
    incumbent: float
    candidate: float


@dataclass(frozen=True)
class Axis:
    """One side of the map: a feature of the state and its bands."""

    feature: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """The states of one field of the map.

    Attributes
    ----------
    x, y : int
        Positions of the labels.
    decisions : int
    value : float
        Mean learned value of the chosen actions, in reward units.
    action_id : str
        What the learned policy chooses most often.
    share : float
        How often.
    """

    x: int
    y: int
    decisions: int
    value: float
    action_id: str
    share: float


@dataclass(frozen=True)
class StateMap:
    """Value and chosen action over the two features that tell most of what the learned policy chooses, if it may."""

    x: Axis
    y: Axis
    cells: tuple[Cell, ...]


def action_mix(sample: Sample, candidate: FloatArray, action_ids: Sequence[str]) -> tuple[ActionShare, ...]:
    """Shares of decisions in the windows' states; `candidate` gives probabilities of shape (n, n_actions)."""
    rows = sample.rows
    log = np.bincount(sample.action[rows], minlength=len(action_ids)) / len(rows)
    incumbent, chosen = sample.incumbent[rows].mean(axis=0), candidate[rows].mean(axis=0)
    shares = zip(action_ids, log.tolist(), incumbent.tolist(), chosen.tolist(), strict=True)
    return tuple(ActionShare(*share) for share in shares)


def state_map(
    state: FloatArray,
    features: Sequence[StateFeature],
    choice: IntArray,
    eligible: IntArray,
    value: FloatArray,
    action_ids: Sequence[str],
) -> StateMap | None:
    """Where the learned policy chooses what; None where the state has fewer than two features that vary.

    Parameters
    ----------
    state : array of shape (n, n_features)
        Of the decisions to show.
    features : sequence of StateFeature, length n_features
    choice : int array of shape (n,)
        The action that the learned policy prefers.
    eligible : int array of shape (n,)
        A code for the set of actions that the rules allow: what it settles by itself moves no choice.
    value : array of shape (n,)
        What it expects of it.
    action_ids : sequence of str
    """
    columns = [banded(state[:, i], feature) for i, feature in enumerate(features)]
    columns = [column for column in columns if len(column.labels) > 1]
    pair = strongest_pair(columns, choice, eligible)
    if pair is None:
        return None
    x, y = columns[pair[0]], columns[pair[1]]
    shape = (len(x.labels), len(y.labels), len(action_ids))
    count = np.zeros(shape)
    np.add.at(count, (x.code, y.code, choice), 1.0)
    total = np.zeros(shape[:2])
    np.add.at(total, (x.code, y.code), value)
    size = count.sum(axis=2)
    cells = tuple(
        Cell(
            int(i),
            int(j),
            int(size[i, j]),
            float(total[i, j] / size[i, j]),
            action_ids[int(count[i, j].argmax())],
            float(count[i, j].max() / size[i, j]),
        )
        for i, j in zip(*np.nonzero(size), strict=True)
    )
    return StateMap(Axis(x.feature, x.labels), Axis(y.feature, y.labels), cells)
