r"""The sanity check of the weights: under the right propensities they average 1, at each step and for each action.

Given everything before it, the logged decision of step t averages to the target's own probability:

.. math:: E[1\{a_t = a\} \rho_{0:t} - \rho_{0:t-1} \pi(a|s_t)] = 0, \qquad E[\rho_{0:t}] = 1.

The first holds for each action wherever the log could take it (mass of the target where it could not shows up as a
shortfall, rightly). The differences are martingale increments, so that their variance under the null hypothesis is
known, :math:`\rho_{0:t-1}^2 (\pi(a|s_t)^2 / \pi_b(a|s_t) - \pi(a|s_t)^2)` each. The larger of that and the observed,
customer-clustered variance is used: with few, heavy weights an observed variance is small exactly when the mean is,
and the check would accuse sound propensities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from nba_tasks.dataset import FloatArray
from nba_tasks.estimators import previous_weights
from nba_tasks.gate.sample import Sample

Floats = NDArray[np.float64]

MIN_CELL_SIZE = 50.0
"""A step and action is tested only if this many effective observations of it are expected."""


@dataclass(frozen=True)
class MeanWeight:
    """One tested mean weight.

    Attributes
    ----------
    step : int
    action : int or None
        None: over all actions.
    mean : float
        Mean weight as a share of its expectation; 1 if the propensities are right.
    p_value : float
        Two-sided.
    """

    step: int
    action: int | None
    mean: float
    p_value: float


def mean_weights(sample: Sample, probabilities: FloatArray, weight: Floats) -> tuple[MeanWeight, ...]:
    """Test every step, and every action of every step, of one policy.

    Parameters
    ----------
    sample : Sample
    probabilities : array of shape (n, n_actions)
        The policy's.
    weight : array of shape (n_windows, horizon)
        Its weights.

    Returns
    -------
    tuple of MeanWeight
        Cells with too little expected data to be tested are left out.
    """
    before = previous_weights(weight)
    variance = 0.0
    tests: list[MeanWeight] = []
    for step in range(weight.shape[1]):
        decided = np.flatnonzero(sample.windows.alive[:, step])
        rows, earlier = sample.windows.rows[decided, step], before[decided, step]
        logged, now = sample.action[rows], weight[decided, step]
        # One row an action, so that each action's values lie together.
        target, behaviour = probabilities[rows].T, sample.behaviour[rows].T
        expected = earlier * target
        # Second moments of the weights, over what the log can do.
        second = np.divide(expected**2, behaviour, out=np.zeros(expected.shape), where=behaviour > 0)
        for action in range(len(target)):
            total, squares = float(expected[action].sum()), float(second[action].sum())
            if squares <= 0 or total**2 / squares < MIN_CELL_SIZE:
                continue
            observed = np.where(logged == action, now, 0.0)
            spread = float(np.maximum(second[action] - expected[action] ** 2, 0.0).sum())
            p_value = _p_value(sample, decided, observed - expected[action], spread)
            tests.append(MeanWeight(step, action, float(observed.sum()) / total, p_value))
        variance += float(np.maximum(second.sum(axis=0) - earlier**2, 0.0).sum())
        everyone = np.arange(len(weight))
        p_value = _p_value(sample, everyone, weight[:, step] - 1.0, variance)
        tests.append(MeanWeight(step, None, float(weight[:, step].mean()), p_value))
    return tuple(tests)


def unsupported_mass(sample: Sample, probabilities: FloatArray, min_propensity: float) -> float:
    """Share of a policy's decisions on actions that the log all but never takes.

    Counted where the policy gives an action `min_propensity` or more and the behaviour policy less: what a mixture
    inherits of the incumbent's own faint probabilities is not the candidate's doing.
    """
    target, behaviour = probabilities[sample.rows], sample.behaviour[sample.rows]
    acts = (target >= min_propensity) & (behaviour < min_propensity)
    return float(np.where(acts, target, 0.0).sum() / len(sample.rows))


def _p_value(sample: Sample, windows: NDArray[np.int64], difference: Floats, null_variance: float) -> float:
    """Two-sided p-value of a mean difference of 0 over all windows; it is 0 outside the given ones."""
    everywhere = np.zeros(len(sample.windows))
    everywhere[windows] = difference
    estimate = sample.clusters.mean(everywhere)
    if abs(estimate.value) < 1e-9:
        return 1.0
    error = max(estimate.standard_error, float(np.sqrt(null_variance)) / len(everywhere))
    return float(2 * ndtr(-abs(estimate.value) / error)) if error > 0 else 0.0
