"""Fitted Q iteration on extremely randomised trees with frozen structure: the default learner.

    Q_k = average over leaves of ( r + γ · max over allowed a' of Q_{k-1}(s', a') ),   Q_0 = 0

A few sweeps grow new trees on their targets; then the structure is kept and a sweep is only averages over leaves
(D. Ernst, P. Geurts, L. Wehenkel, "Tree-based batch mode reinforcement learning", JMLR 6, 2005). Such averages do not
expand distances, so the frozen sweeps converge for every γ < 1, and for γ = 1 where every trajectory ends.
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
from nba_tasks.learners.encoding import encode
from nba_tasks.learners.frozen import FrozenForest, LeafArray, LeafAverages, Values, grow, in_chunks, of_actions


@dataclass(frozen=True)
class ForestQ:
    """Expected discounted return of each action in a state, as the mean over trees of leaf values.

    Parameters
    ----------
    forest : FrozenForest
    leaf_values : array of shape (forest.n_leaves,)
    catalogue : Catalogue
    """

    forest: FrozenForest
    leaf_values: Values
    catalogue: Catalogue

    @property
    def n_features(self) -> int:
        """Length of a state."""
        return int(self.forest.forest.n_features_in_) - self.catalogue.features.shape[1]

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
            leaves = self.forest.leaves_of_chunk(state[start:stop], self.catalogue.features)
            found[start:stop] = self.forest.read(self.leaf_values, leaves).T

        in_chunks(len(state), work)
        return found

    def save(self, folder: Path) -> None:
        """Write the forest (skops), its leaf values (.npy) and the catalogue (JSON) into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        save_estimator(self.forest.forest, folder / "forest.skops")
        np.save(folder / "leaf_values.npy", self.leaf_values, allow_pickle=False)
        save_json(catalogue_to_json(self.catalogue), folder / "catalogue.json")

    @classmethod
    def load(cls, folder: Path) -> ForestQ:
        """Read what `save` wrote.

        Raises
        ------
        ArtefactError
            A file is missing or damaged, names a type that is not trusted, or does not fit the others.
        """
        forest = FrozenForest(load_estimator(folder / "forest.skops", ExtraTreesRegressor))
        values = load_array(folder / "leaf_values.npy")
        catalogue = catalogue_from_json(load_json(folder / "catalogue.json"))
        if values.shape != (forest.n_leaves,) or not np.isfinite(values).all():
            raise ArtefactError(f"{folder}: leaf_values.npy must hold one finite number for each of the forest's leaves")
        if catalogue.features.shape[1] >= forest.forest.n_features_in_:
            raise ArtefactError(f"{folder}: catalogue.json has more action features than the forest has columns")
        return cls(forest, values.astype(np.float64), catalogue)


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


@dataclass(frozen=True)
class _Problem:
    """What stays the same in every sweep."""

    state: FloatArray
    catalogue: Catalogue
    fitted: IntArray  # rows that have a target
    action: IntArray
    reward: NDArray[np.float64]
    successor: IntArray  # for each fitted row the row of its next state, -1 behind a terminal
    allowed: BoolArray  # (n, n_actions): what the backup may choose from
    discount: float

    def target(self, value: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bellman targets of the fitted rows, given the value of every row's state."""
        return self.reward + self.discount * np.where(self.successor >= 0, value[self.successor], 0.0)


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
    grow_rows: int | None = 500_000,
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
        Of the forest; leaves hold at least this many of the rows that the trees were grown on.
    refits : int
        Sweeps that grow new trees; the structure of the last is kept.
    max_sweeps : int
        Refits included.
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
    spread = float(np.std(problem.reward)) or float(np.abs(problem.reward).max()) or 1.0
    rows = encode(problem.state[problem.fitted], catalogue.features, problem.action)
    value = np.zeros(len(transitions))
    target = problem.target(value)
    residuals: list[float] = []
    converged = False
    for sweep in range(1, max_sweeps + 1):
        if sweep <= refits:
            leaves = averages = None  # free the old leaves before the new ones are made
            forest = FrozenForest(
                grow(
                    rows,
                    target,
                    trees=trees,
                    min_samples_leaf=min_samples_leaf,
                    seed=seed + sweep,
                    grow_rows=grow_rows,
                )
            )
            leaves = forest.leaves(problem.state, catalogue.features)
            averages = LeafAverages(forest, of_actions(leaves, problem.action, problem.fitted))
        leaf_values = averages(target)
        _back_up(problem, forest, leaves, leaf_values, value)
        target, previous = problem.target(value), target
        residuals.append(float(np.abs(target - previous).max()) / spread)
        if on_sweep:
            on_sweep(sweep, residuals[-1])
        converged = residuals[-1] <= tolerance
        if converged and (sweep >= refits or discount == 0):
            break
    return FittedQ(ForestQ(forest, leaf_values, catalogue), np.array(residuals), converged)


def _pose(
    transitions: Transitions, catalogue: Catalogue, discount: float, supported: BoolArray | None
) -> _Problem:
    allowed = transitions.eligible_target if supported is None else transitions.eligible_target & supported
    successor = transitions.next_row
    fitted = np.flatnonzero(~transitions.open & (transitions.done | (successor >= 0) | (discount == 0)))
    if len(fitted) == 0:
        raise DatasetError("no epoch has both an action and an end (a next state or `done`): there is nothing to learn")
    successor = successor[fitted]
    bare = ~allowed.any(axis=1)
    bare[np.setdiff1d(np.arange(len(transitions)), successor)] = False
    if discount > 0 and bare.any():
        row = int(np.flatnonzero(bare)[0])
        raise DatasetError(
            f"customer {transitions.customer[row]}, epoch {transitions.epoch[row]}: no action is both eligible and "
            "supported; let no_action always be both"
        )
    return _Problem(
        state=np.ascontiguousarray(transitions.state, dtype=np.float32),
        catalogue=catalogue,
        fitted=fitted,
        action=transitions.action[fitted],
        reward=transitions.reward[fitted].astype(np.float64),
        successor=successor,
        allowed=allowed,
        discount=discount,
    )


def _back_up(
    problem: _Problem, forest: FrozenForest, leaves: LeafArray, leaf_values: Values, value: NDArray[np.float64]
) -> None:
    """Overwrite the value of every row's state by the maximum of Q over its allowed actions."""

    def work(start: int, stop: int) -> None:
        q = forest.read(leaf_values, leaves[:, :, start:stop])
        q[~problem.allowed[start:stop].T] = -np.inf
        q.max(axis=0, out=value[start:stop])

    in_chunks(len(value), work)
