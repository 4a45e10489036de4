"""Fitted Q iteration that trains a new regressor in every sweep: the classical form, for any regressor.

    Q_k = regression of ( r + γ · max over allowed a' of Q_{k-1}(s', a') ) on (s, a),   Q_0 = 0

(D. Ernst, P. Geurts, L. Wehenkel, "Tree-based batch mode reinforcement learning", JMLR 6, 2005, figure 1). A new
regressor is a new averaging each time, so nothing guarantees that the sweeps settle: the residual is recorded and the
number of sweeps is bounded. `fit_q` of `forest_q` is faster and converges; this one is for comparison, and for
regressors that no leaf averages can stand for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor

from nba_tasks.dataset import BoolArray, Catalogue, FloatArray, Transitions
from nba_tasks.learners.bellman import FittedQ, OnSweep, Problem, Sweeps
from nba_tasks.learners.encoding import each_action, encode

CHUNK = 500_000
"""States whose actions are predicted at once: bounds the memory."""


class Regressor(Protocol):
    """Whatever scikit-learn calls a regressor."""

    def fit(self, X: Any, y: Any) -> Any: ...

    def predict(self, X: Any) -> Any: ...


MakeRegressor = Callable[[int], Regressor]
"""From a seed to an unfitted regressor."""


def random_forest(seed: int, trees: int = 60, max_depth: int | None = None, min_samples_leaf: int = 50) -> Regressor:
    """A random forest; 10 trees of depth 4 with leaves of 1 are those of the tutorial [1]_.

    References
    ----------
    .. [1] Grid Dynamics: Building a next best action model using reinforcement learning. 2019.
    """
    made: Regressor = RandomForestRegressor(
        trees, max_depth=max_depth, min_samples_leaf=min_samples_leaf, random_state=seed
    )
    return made


def boosting(seed: int, trees: int = 60, min_samples_leaf: int = 200) -> Regressor:
    """Gradient boosting on histograms."""
    made: Regressor = HistGradientBoostingRegressor(
        max_iter=trees, min_samples_leaf=min_samples_leaf, max_leaf_nodes=31, early_stopping=False, random_state=seed
    )
    return made


@dataclass(frozen=True)
class RegressorQ:
    """A Q-function that is one regressor on states beside action features."""

    regressor: Regressor
    catalogue: Catalogue

    def values(self, state: FloatArray) -> NDArray[np.float32]:
        """Q of every action for states of shape (n, n_features); shape (n, n_actions)."""
        found = np.empty((len(state), len(self.catalogue)), dtype=np.float32)
        for start in range(0, len(state), CHUNK):
            chunk = state[start : start + CHUNK]
            for action, rows in enumerate(each_action(chunk, self.catalogue.features)):
                found[start : start + CHUNK, action] = self.regressor.predict(rows)
        return found


def fit_q_by_refits(
    transitions: Transitions,
    catalogue: Catalogue,
    *,
    discount: float,
    regressor: MakeRegressor = boosting,
    max_sweeps: int = 30,
    tolerance: float = 1e-2,
    supported: BoolArray | None = None,
    seed: int = 0,
    on_sweep: OnSweep | None = None,
) -> FittedQ[RegressorQ]:
    """Fitted Q iteration with a new regressor in every sweep.

    Parameters
    ----------
    transitions, catalogue, discount, supported, seed, on_sweep
        As for `forest_q.fit_q`.
    regressor : callable
        Makes an unfitted regressor; it gets the same seed in every sweep.
    max_sweeps : int ≥ 1
        1 regresses the reward alone.
    tolerance : float
        Stop at this Bellman residual.

    Raises
    ------
    DatasetError
        As for `forest_q.fit_q`.
    """
    problem = Problem.of(transitions, catalogue, discount, supported)
    rows = encode(problem.state[problem.fitted], catalogue.features, problem.action)
    sweeps = Sweeps(problem, tolerance, on_sweep)
    following = problem.successor[problem.successor >= 0]  # the only states whose values are asked for
    value = np.zeros(len(transitions))
    while True:
        model = regressor(seed)
        model.fit(rows, sweeps.target)
        q = RegressorQ(model, catalogue)
        if len(following):
            scores = np.where(problem.allowed[following], q.values(problem.state[following]), -np.inf)
            value[following] = scores.max(axis=1)
        if sweeps.move(value) or len(sweeps) >= max_sweeps or discount == 0:
            return sweeps.fitted(q)
