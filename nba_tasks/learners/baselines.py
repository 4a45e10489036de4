"""What a learned policy must beat: simple policies under the one interface of all policies.

The myopic look-alike needs no code of its own: it is `fit_q` with `discount` 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nba_tasks.dataset import BoolArray, Catalogue, DatasetError, FloatArray, Transitions
from nba_tasks.learners.bellman import QFunction
from nba_tasks.learners.fqe import fit_fqe_of_several
from nba_tasks.learners.frozen import FrozenForest


class Policy(Protocol):
    """Probabilities of actions."""

    def probabilities(self, state: FloatArray, eligible: BoolArray) -> NDArray[np.float64]:
        """Shape (n, n_actions); rows sum to 1, 0 for an action that is not eligible."""
        ...


@dataclass(frozen=True)
class Greedy:
    """The eligible action of the highest value; of equal ones the first."""

    q: QFunction

    def probabilities(self, state: FloatArray, eligible: BoolArray) -> NDArray[np.float64]:
        return surest(self.q.values(state), eligible)


@dataclass(frozen=True)
class BehaviourCloning:
    """What the log would most likely do."""

    model: Policy

    def probabilities(self, state: FloatArray, eligible: BoolArray) -> NDArray[np.float64]:
        return surest(self.model.probabilities(state, eligible), eligible)


@dataclass(frozen=True)
class Preference:
    """The first eligible action of a fixed order.

    Parameters
    ----------
    order : sequence of int
        Action indices; actions left out come last, in index order.
    """

    order: Sequence[int]

    def probabilities(self, state: FloatArray, eligible: BoolArray) -> NDArray[np.float64]:
        score = -np.arange(eligible.shape[1], dtype=np.float64)
        score[list(self.order)] = len(self.order) - np.arange(len(self.order))
        return surest(np.broadcast_to(score, eligible.shape), eligible)


def no_contact() -> Preference:
    """`no_action` (index 0) wherever it is eligible."""
    return Preference([0])


def best_single_action(
    transitions: Transitions, catalogue: Catalogue, *, horizon: int, discount: float, forest: FrozenForest
) -> Preference:
    """Always the same action where it is eligible, else `no_action` (index 0): the best such policy by `fit_fqe`.

    Parameters
    ----------
    transitions, catalogue, horizon, discount, forest
        As for `fit_fqe`.
    """
    candidates = [Preference([action, 0]) for action in range(len(catalogue))]
    policies = [p.probabilities(transitions.state, transitions.eligible_target) for p in candidates]
    models = fit_fqe_of_several(transitions, catalogue, policies, horizon=horizon, discount=discount, forest=forest)
    mean = [
        float((model.values(transitions.state, horizon) * policy).sum(axis=1).mean())
        for model, policy in zip(models, policies, strict=True)
    ]
    return candidates[int(np.argmax(mean))]


def with_returns_as_reward(transitions: Transitions, discount: float) -> Transitions:
    """The log with each epoch's reward replaced by the discounted return from it on.

    `fit_q` on it with `discount` 0 is the look-alike on long-run value: it credits an action with whatever the old
    policy did afterwards. Returns are cut short where the log ends.
    """
    successor = transitions.next_row
    returns = np.array(transitions.reward, dtype=np.float64)
    ends = np.flatnonzero(successor < 0)
    after = ends[np.searchsorted(ends, np.arange(len(returns)))] - np.arange(
        len(returns)
    )  # rows to the trajectory's end
    by_steps = np.argsort(after, kind="stable")
    first = np.searchsorted(after[by_steps], np.arange(int(after.max(initial=0)) + 2))
    for steps in range(1, int(after.max(initial=0)) + 1):
        rows = by_steps[first[steps] : first[steps + 1]]
        returns[rows] += discount * returns[rows + 1]
    return replace(transitions, reward=returns)


def surest(score: FloatArray, eligible: BoolArray) -> NDArray[np.float64]:
    """Probability 1 for the eligible action of the highest score.

    Raises
    ------
    DatasetError
        A row has no eligible action.
    """
    if (bare := ~eligible.any(axis=1)).any():
        raise DatasetError(f"row {int(np.argmax(bare))} has no eligible action")
    found = np.zeros(eligible.shape)
    found[np.arange(len(found)), np.where(eligible, score, -np.inf).argmax(axis=1)] = 1.0
    return found
