"""Fitted Q iteration on extremely randomised trees with frozen structure: the default learner.

    target = r + γ · max over allowed a' of Q(s', a')
    Q(s, a) = level(s) + effect(s, a)
    level(s) = average of targets over the leaves of s
    effect(s, a) = average of (target - level) over the leaves of (s, a)

1. Sweep with one forest on (s, a) alone, its trees grown anew a few times, for a first estimate of the targets. It is
   there to grow trees only, so that a sample of the customers is enough.
2. Grow `level` on them and `effect` on what it leaves unexplained; sweep, averaging both anew each time.
3. Keep `level` as it is and sweep on.

From 2 on, targets may have a trace λ (see `bellman`). Trees are grown on targets without one, which are less noisy;
their averages, with every row in them, can afford its noise and need what it brings where contacts work late: averages
over leaves blur that from sweep to sweep. With λ = 0.7 the same trees earned 4 to 20% more in four simulated markets,
and contacted more (docs/studies/learning.md).

After the trees are grown a sweep is only averages over leaves (D. Ernst, P. Geurts, L. Wehenkel, "Tree-based batch mode
reinforcement learning", JMLR 6, 2005). Such averages do not expand distances, and `level` is a constant in phase 3, so
that phases 1 and 3 converge for every γ < 1, and for γ = 1 where every trajectory ends; phase 2, where a difference is
averaged, comes with no such proof and gets a share of the sweeps only.

Why two parts: what a contact changes is a few percent of what customers differ in. Trees grown on the target spend
their splits on customers and blur actions; trees grown on what the state leaves unexplained split on the effect (the
residual of P. Robinson, Econometrica 56, 1988). Why both anew in every sweep: the better the policy, the more a good
customer gains by it. Left in the residual that gain looks like an effect of whatever good customers usually get.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor

from nba_tasks.dataset import BoolArray, Catalogue, DatasetError, FloatArray, Transitions
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
from nba_tasks.learners.bellman import FittedQ, OnSweep, Problem, Sweeps
from nba_tasks.learners.encoding import Rows, encode
from nba_tasks.learners.frozen import (
    FrozenForest,
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

SAMPLED = 5
"""Trees are grown among customers who have this many times `grow_rows` rows; targets settle there alone until then."""

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
        return self.values_beside(state, self.catalogue.features)

    def values_beside(self, state: FloatArray, features: FloatArray) -> NDArray[np.float32]:
        """Q of actions by their features (n_actions, n_action_features): one that is new borrows from its likes.

        Returns
        -------
        float32 array of shape (n, n_actions)
        """
        if state.ndim != 2 or state.shape[1] != self.n_features:
            raise DatasetError(f"states of shape {state.shape} where the Q-function knows (n, {self.n_features})")
        found = np.empty((len(state), len(features)), dtype=np.float32)

        def work(start: int, stop: int) -> None:
            chunk = state[start:stop]
            found[start:stop] = (self.level.read(chunk, STATE_ONLY) + self.effect.read(chunk, features)).T

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
    trace: float = 0.0,
    supported: BoolArray | None = None,
    seed: int = 0,
    grow_rows: int | None = 200_000,
    on_sweep: OnSweep | None = None,
) -> FittedQ[ForestQ]:
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
        Times that trees are grown: all but the last in phase 1, the last one grows level and effect. With one refit, or
        `discount` 0, there are no phases 1 and 2.
    max_sweeps : int
        Phase 1 settles and phase 2 runs within a quarter of them each.
    tolerance : float
        Stop at this Bellman residual (see `FittedQ`).
    trace : float in [0, 1]
        λ of the targets once the last trees are grown; 0 bootstraps at every decision, 1 never.
    supported : bool array of shape (n, n_actions), optional
        Actions that the log supports in each state; the backup's maximum is over eligible and supported ones.
    seed : int
    grow_rows : int, optional
        Grow each tree on this many rows, drawn from whole customers with `SAMPLED` times as many; phase 1 sweeps over
        these customers alone (None: everything on all rows). The averages of phases 2 and 3 use every row.
    on_sweep : callable, optional
        Called with the sweep's number (from 1) and its residual.

    Raises
    ------
    DatasetError
        No row has a target, or a next state has no action that is both eligible and supported.
    """
    problem = Problem.of(transitions, catalogue, discount, supported)
    few = problem
    if grow_rows is not None and len(transitions) > SAMPLED * grow_rows:
        some = transitions.whole_customers(SAMPLED * grow_rows)
        few = Problem.of(transitions.rows(some), catalogue, discount, None if supported is None else supported[some])
    first = refits - 1 if discount > 0 else 0
    sweeps = Sweeps(few, tolerance, on_sweep)
    forests = _grown(
        sweeps,
        catalogue,
        first=first,
        at_most=max(1, max_sweeps // 4),
        trees=trees,
        min_samples_leaf=min_samples_leaf,
        grow_rows=grow_rows,
        seed=seed,
    )
    level, effect = (_Part(problem, forest, by_action=i == 1) for i, forest in enumerate(forests))
    if few is not problem:
        level.read(level.forest.grown_values())
        effect.read(effect.forest.grown_values())
        sweeps = sweeps.of(problem, level.value + effect.value)
    sweeps.trace = trace
    if first:
        _sweep(sweeps, level, effect, at_most=max(1, max_sweeps // 4))
    else:
        level.average(sweeps.target)
    kept, level_model = level.value, level.model()
    del level  # its leaves are not needed any more
    _sweep(sweeps, None, effect, at_most=max(1, max_sweeps - len(sweeps)), kept=kept)
    return sweeps.fitted(ForestQ(level_model, effect.model(), catalogue))


def _grown(
    sweeps: Sweeps,
    catalogue: Catalogue,
    *,
    first: int,
    at_most: int,
    trees: int,
    min_samples_leaf: int,
    grow_rows: int | None,
    seed: int,
) -> tuple[FrozenForest, FrozenForest]:
    """Phase 1, `first` times grown anew and at last swept `at_most` times; then the trees of level and effect."""
    few = sweeps.problem
    grown_on = min(len(few.fitted), grow_rows or len(few.fitted))
    leaf = max(1, min(min_samples_leaf, grown_on // MIN_LEAVES))
    state = few.state[few.fitted]
    rows = encode(state, catalogue.features, few.action)

    def new(rows: Rows, target: NDArray[np.float64], leaf: int, salt: int) -> FrozenForest:
        grown = grow(rows, target, trees=trees, min_samples_leaf=leaf, seed=seed + salt, grow_rows=grow_rows)
        return FrozenForest(grown)

    for refit in range(first):
        forest = new(rows, sweeps.target, leaf, refit)
        _sweep(sweeps, None, _Part(few, forest, by_action=True), at_most=1 if refit < first - 1 else at_most)
    level = _Part(few, new(state, sweeps.target, leaf, first + 1), by_action=False)
    level.average(sweeps.target)
    residual = sweeps.target - level.value[few.fitted]
    return level.forest, new(rows, residual, EFFECT_LEAF * leaf, first + 2)


def _sweep(
    sweeps: Sweeps,
    level: _Part | None,
    effect: _Part | None,
    *,
    at_most: int,
    kept: NDArray[np.float64] | None = None,
) -> None:
    """Sweep until targets settle: averages of whichever part is given, beside a `kept` value of every row's state."""
    fitted = sweeps.problem.fitted
    value = np.zeros(len(sweeps.problem.state)) if kept is None else kept
    for _ in range(at_most):
        if level:
            level.average(sweeps.target)
            value = level.value
        total = value
        if effect:
            effect.average(sweeps.target - value[fitted])
            total = value + effect.value
        if sweeps.move(total):
            break


class _Part:
    """Averages of a target over leaves, and what they give every row's state: the best of its allowed actions.

    Parameters
    ----------
    by_action : bool
        False: the forest knows states alone, as if there was one action only, of which there is nothing to tell.
    """

    def __init__(self, problem: Problem, forest: FrozenForest, *, by_action: bool) -> None:
        n = len(problem.state)
        self.forest = forest
        self.value = np.empty(n)
        self._allowed = problem.allowed if by_action else np.ones((n, 1), dtype=np.bool_)
        self._leaves = forest.leaves(problem.state, problem.features if by_action else STATE_ONLY)
        action = problem.action if by_action else np.zeros_like(problem.action)
        self._averages = LeafAverages(forest, of_actions(self._leaves, action, problem.fitted))

    def average(self, target: NDArray[np.float64]) -> None:
        """Take new targets of the fitted rows."""
        self.read(self._averages(target))

    def read(self, leaf_values: Values) -> None:
        """Take leaf values as they are."""
        self.leaf_values = leaf_values

        def work(start: int, stop: int) -> None:
            q = self.forest.read(leaf_values, self._leaves[:, :, start:stop])
            np.where(self._allowed[start:stop].T, q, -np.inf).max(axis=0, out=self.value[start:stop])

        in_chunks(len(self.value), work)

    def model(self) -> LeafModel:
        return LeafModel(self.forest, self.leaf_values)
