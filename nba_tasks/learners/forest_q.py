"""Fitted Q iteration on extremely randomised trees with frozen structure: the default learner.

    target = r + γ · max over allowed a' of Q(s', a')
    1. Q(s, a) = average of targets over the leaves of (s, a)
    2. Q(s, a) = level(s) + average of (target - level) over the leaves of (s, a), with level(s) fixed

A few sweeps grow new trees on their targets; then the structure is kept and a sweep is only averages over leaves
(D. Ernst, P. Geurts, L. Wehenkel, "Tree-based batch mode reinforcement learning", JMLR 6, 2005). Such averages do not
expand distances, and `level` is a constant in them, so the frozen sweeps of either phase converge for every γ < 1, and
for γ = 1 where every trajectory ends.

Why a second phase: what a contact changes is a few percent of what customers differ in. Trees grown on the target spend
their splits on customers and blur actions; trees grown on what the state leaves unexplained split on the effect (the
residual of P. Robinson, Econometrica 56, 1988). `level` is a forest on the state alone, fitted to phase 1's targets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor

from nba_tasks.dataset import BoolArray, Catalogue, DatasetError, FloatArray, IntArray, Transitions
from nba_tasks.learners.artefacts import (
    ArtefactError,
    catalogue_from_json,
    catalogue_to_json,
    load_array,
    load_estimator,
    load_json,
    save_estimator,
    save_json,
)
from nba_tasks.learners.encoding import Rows, encode
from nba_tasks.learners.frozen import (
    FrozenForest,
    LeafArray,
    LeafAverages,
    LeafModel,
    Values,
    grow,
    in_chunks,
    of_actions,
)

STATE_ONLY = np.empty((1, 0), dtype=np.float32)
"""The features of a catalogue that has nothing to tell: a forest on states alone sees one such action."""

EFFECT_LEAF = 4
"""Leaves of the effect hold this many times `min_samples_leaf`: what they average is mostly noise."""

MIN_LEAVES = 200
"""Small logs get smaller leaves than asked for, so that this many could be filled."""


@dataclass(frozen=True)
class ForestQ:
    """Expected discounted return of each action in a state: its level plus the action's effect.

    Parameters
    ----------
    level : LeafModel
        On states.
    effect : LeafModel
        On states beside action features.
    catalogue : Catalogue
    """

    level: LeafModel
    effect: LeafModel
    catalogue: Catalogue

    @property
    def n_features(self) -> int:
        """Length of a state."""
        return self.level.forest.n_columns

    def values(self, state: FloatArray) -> NDArray[np.float32]:
        """Q of every action.

        Parameters
        ----------
        state : array of shape (n, n_features)

        Returns
        -------
        float32 array of shape (n, n_actions), in reward units
        """
        if state.ndim != 2 or state.shape[1] != self.n_features:
            raise DatasetError(f"states of shape {state.shape} where the Q-function knows (n, {self.n_features})")
        found = np.empty((len(state), len(self.catalogue)), dtype=np.float32)

        def work(start: int, stop: int) -> None:
            chunk = state[start:stop]
            found[start:stop] = (
                self.level.read(chunk, STATE_ONLY) + self.effect.read(chunk, self.catalogue.features)
            ).T

        in_chunks(len(state), work)
        return found

    def save(self, folder: Path) -> None:
        """Write the forests (skops), their leaf values (.npy) and the catalogue (JSON) into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, part in (("level", self.level), ("effect", self.effect)):
            save_estimator(part.forest.forest, folder / f"{name}.skops")
            np.save(folder / f"{name}.npy", part.leaf_values, allow_pickle=False)
        save_json(catalogue_to_json(self.catalogue), folder / "catalogue.json")

    @classmethod
    def load(cls, folder: Path) -> ForestQ:
        """Read what `save` wrote.

        Raises
        ------
        ArtefactError
            A file is missing or damaged, names a type that is not trusted, or does not fit the others.
        """
        catalogue = catalogue_from_json(load_json(folder / "catalogue.json"))
        level, effect = (_load_part(folder, name) for name in ("level", "effect"))
        if level.forest.n_columns + catalogue.features.shape[1] != effect.forest.n_columns:
            raise ArtefactError(f"{folder}: level, effect and catalogue do not have the columns of one Q-function")
        return cls(level, effect, catalogue)


def _load_part(folder: Path, name: str) -> LeafModel:
    forest = FrozenForest(load_estimator(folder / f"{name}.skops", ExtraTreesRegressor))
    values = load_array(folder / f"{name}.npy")
    if values.dtype != np.float64 or values.shape != (forest.n_leaves,) or not np.isfinite(values).all():
        raise ArtefactError(f"{folder / name}.npy: must hold one finite number for each of the forest's leaves")
    return LeafModel(forest, values.astype(np.float64))


@dataclass(frozen=True)
class FittedQ:
    """A learned Q-function and how it got there.

    Attributes
    ----------
    q : ForestQ
    residuals : array of shape (sweeps,)
        Bellman residual of each sweep: the largest change of a target, as a share of the reward's standard deviation.
        (The maximum, because it cannot grow from one frozen sweep to the next; the root mean square can.)
    converged : bool
        The last residual is below the tolerance.
    """

    q: ForestQ
    residuals: NDArray[np.float64]
    converged: bool


def fit_q(
    transitions: Transitions,
    catalogue: Catalogue,
    *,
    discount: float,
    trees: int = 60,
    min_samples_leaf: int = 50,
    refits: int = 3,
    max_sweeps: int = 500,
    tolerance: float = 1e-3,
    supported: BoolArray | None = None,
    seed: int = 0,
    grow_rows: int | None = 200_000,
    on_sweep: Callable[[int, float], None] | None = None,
) -> FittedQ:
    """Fitted Q iteration.

    Parameters
    ----------
    transitions : Transitions
        Rows without a successor that are not `done` have no target and are left out (but for `discount` 0, which needs
        none); open rows serve as next states.
    catalogue : Catalogue
    discount : float in [0, 1]
        γ per decision interval; 0 makes this a plain regression of the reward.
    trees, min_samples_leaf : int
        Of each forest. Leaves hold this many of the rows grown on, the effect's `EFFECT_LEAF` times as many; fewer in
        small logs (`MIN_LEAVES`).
    refits : int
        Sweeps that grow new trees: all but the last in phase 1, the last one grows level and effect. With one refit, or
        `discount` 0, there is no phase 1.
    max_sweeps : int
        Refits included; phase 1 gets at most half.
    tolerance : float
        Stop at this Bellman residual (see `FittedQ`).
    supported : bool array of shape (n, n_actions), optional
        Actions that the log supports in each state; the backup's maximum is over eligible and supported ones.
    seed : int
    grow_rows : int, optional
        Grow structure on a sample of this many rows (None: on all). Leaf averages always use every row.
    on_sweep : callable, optional
        Called with the sweep's number (from 1) and its residual.

    Raises
    ------
    DatasetError
        No row has a target, or a next state has no action that is both eligible and supported.
    """
    problem = _pose(transitions, catalogue, discount, supported)
    grown_on = min(len(problem.fitted), grow_rows or len(problem.fitted))
    leaf = max(1, min(min_samples_leaf, grown_on // MIN_LEAVES))
    state = problem.state[problem.fitted]
    rows = encode(state, catalogue.features, problem.action)
    sweeps = _Sweeps(problem, tolerance, on_sweep)
    zero = np.zeros(len(transitions))

    def new(rows: Rows, target: NDArray[np.float64], leaf: int, salt: int) -> FrozenForest:
        grown = grow(rows, target, trees=trees, min_samples_leaf=leaf, seed=seed + salt, grow_rows=grow_rows)
        return FrozenForest(grown)

    for refit in range(1, refits if discount > 0 else 1):
        last = refit == refits - 1
        sweeps.run(new(rows, sweeps.target, leaf, refit), zero, max_sweeps // 2 - sweeps.count if last else 1)
    level, level_value = _fit_level(problem, new(state, sweeps.target, leaf, refits), sweeps.target)
    residual = sweeps.target - level_value[problem.fitted]
    effect = new(rows, residual, EFFECT_LEAF * leaf, refits + 1)
    leaf_values = sweeps.run(effect, level_value, max_sweeps - sweeps.count)
    q = ForestQ(level, LeafModel(effect, leaf_values), catalogue)
    return FittedQ(q, np.array(sweeps.residuals), sweeps.converged)


@dataclass(frozen=True)
class _Problem:
    """What stays the same in every sweep."""

    state: NDArray[np.float32]
    features: FloatArray
    fitted: IntArray  # rows that have a target
    action: IntArray
    reward: NDArray[np.float64]
    successor: IntArray  # for each fitted row the row of its next state, -1 behind a terminal
    allowed: BoolArray  # (n, n_actions): what the backup may choose from
    discount: float

    def target(self, value: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bellman targets of the fitted rows, given the value of every row's state."""
        return self.reward + self.discount * np.where(self.successor >= 0, value[self.successor], 0.0)


def _pose(transitions: Transitions, catalogue: Catalogue, discount: float, supported: BoolArray | None) -> _Problem:
    allowed = np.asarray(transitions.eligible_target)
    if supported is not None:
        allowed = allowed & supported
    successor = transitions.next_row
    if discount == 0:
        fitted = np.flatnonzero(~transitions.open)
        successor = np.full(len(transitions), -1)
    else:
        fitted = np.flatnonzero(~transitions.open & (transitions.done | (successor >= 0)))
    if len(fitted) == 0:
        raise DatasetError("no epoch has both an action and an end (a next state or `done`): there is nothing to learn")
    successor = successor[fitted]
    bare = successor[(successor >= 0) & ~allowed[successor].any(axis=1)]
    if len(bare):
        raise DatasetError(
            f"customer {transitions.customer[bare[0]]}, epoch {transitions.epoch[bare[0]]}: no action is both eligible "
            "and supported; let no_action always be both"
        )
    return _Problem(
        state=np.ascontiguousarray(transitions.state, dtype=np.float32),
        features=catalogue.features,
        fitted=fitted,
        action=transitions.action[fitted],
        reward=transitions.reward[fitted].astype(np.float64),
        successor=successor,
        allowed=allowed,
        discount=discount,
    )


class _Sweeps:
    """Frozen sweeps of one structure after the other, from where the last one stopped."""

    def __init__(self, problem: _Problem, tolerance: float, on_sweep: Callable[[int, float], None] | None) -> None:
        self.problem, self.tolerance, self.on_sweep = problem, tolerance, on_sweep
        self.spread = float(np.std(problem.reward)) or float(np.abs(problem.reward).max()) or 1.0
        self.target = problem.reward
        self.residuals: list[float] = []
        self.converged = False

    @property
    def count(self) -> int:
        return len(self.residuals)

    def run(self, forest: FrozenForest, level: NDArray[np.float64], at_most: int) -> Values:
        """Sweep until convergence: `target` moves on; the last sweep's leaf values are returned.

        Parameters
        ----------
        forest : FrozenForest
        level : array of shape (n,)
            The part of every row's value that stays as it is.
        at_most : int
            One sweep is made in any case.
        """
        problem = self.problem
        leaves = forest.leaves(problem.state, problem.features)
        averages = LeafAverages(forest, of_actions(leaves, problem.action, problem.fitted))
        fitted_level = level[problem.fitted]
        value = np.empty(len(level))
        for _ in range(max(at_most, 1)):
            leaf_values = averages(self.target - fitted_level)
            _back_up(forest, leaves, leaf_values, problem.allowed, value)
            value += level
            target = problem.target(value)
            residual = float(np.abs(target - self.target).max()) / self.spread
            self.target = target
            self.residuals.append(residual)
            if self.on_sweep:
                self.on_sweep(self.count, residual)
            self.converged = residual <= self.tolerance
            if self.converged:
                break
        return leaf_values


def _fit_level(
    problem: _Problem, forest: FrozenForest, target: NDArray[np.float64]
) -> tuple[LeafModel, NDArray[np.float64]]:
    """What the state alone tells of the target, and its value in every row's state, shape (n,)."""
    value = np.empty(len(problem.state))
    rows = np.empty((len(forest.trees), len(value)), dtype=forest.dtype)

    def find(start: int, stop: int) -> None:
        rows[:, start:stop] = forest.leaves_of_chunk(problem.state[start:stop], STATE_ONLY)[:, 0]

    in_chunks(len(value), find)
    leaf_values = LeafAverages(forest, rows[:, problem.fitted])(target)

    def read(start: int, stop: int) -> None:
        value[start:stop] = forest.read(leaf_values, rows[:, start:stop])

    in_chunks(len(value), read)
    return LeafModel(forest, leaf_values), value


def _back_up(
    forest: FrozenForest, leaves: LeafArray, leaf_values: Values, allowed: BoolArray, value: NDArray[np.float64]
) -> None:
    """Overwrite every row's value by the maximum over its allowed actions."""

    def work(start: int, stop: int) -> None:
        q = forest.read(leaf_values, leaves[:, :, start:stop])
        np.where(allowed[start:stop].T, q, -np.inf).max(axis=0, out=value[start:stop])

    in_chunks(len(value), work)
