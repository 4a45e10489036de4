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
from nba_tasks.estimators import on_windows, previous_weights
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
    alive = sample.windows.alive
    action = np.where(alive, on_windows(sample.action, sample.windows), -1)
    total_variance = 0.0
    tests: list[MeanWeight] = []
    for step in range(weight.shape[1]):
        rows = sample.windows.rows[alive[:, step], step]
        for a in range(probabilities.shape[1]):
            expected, spread = np.zeros(len(weight)), np.zeros(len(weight))
            target, behaviour = probabilities[rows, a], sample.behaviour[rows, a]
            earlier = before[alive[:, step], step]
            expected[alive[:, step]] = earlier * target
            second = np.divide(target**2, behaviour, out=np.zeros(len(rows)), where=behaviour > 0)
            spread[alive[:, step]] = earlier**2 * np.maximum(second - target**2, 0.0)
            size = float((earlier * target).sum()) ** 2 / max(float((earlier**2 * second).sum()), 1e-300)
            if size < MIN_CELL_SIZE:
                continue
            observed = np.where(action[:, step] == a, weight[:, step], 0.0)
            p_value = _p_value(sample, observed - expected, float(spread.sum()))
            tests.append(MeanWeight(step, a, float(observed.mean() / expected.mean()), p_value))
        rho = _second_moment(sample, probabilities, rows)
        total_variance += float((before[alive[:, step], step] ** 2 * np.maximum(rho - 1, 0.0)).sum())
        p_value = _p_value(sample, weight[:, step] - 1.0, total_variance)
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


def _second_moment(sample: Sample, probabilities: FloatArray, rows: NDArray[np.int64]) -> Floats:
    """E[ρ_t² | s_t] = Σ_a π(a|s)² / π_b(a|s) in the given rows, over actions that the log can take."""
    target, behaviour = probabilities[rows], sample.behaviour[rows]
    return np.asarray(np.divide(target**2, behaviour, out=np.zeros(target.shape), where=behaviour > 0).sum(axis=1))


def _p_value(sample: Sample, difference: Floats, null_variance: float) -> float:
    """Two-sided p-value of a mean difference of 0."""
    estimate = sample.clusters.mean(difference)
    if abs(estimate.value) < 1e-9:
        return 1.0
    error = max(estimate.standard_error, float(np.sqrt(null_variance)) / len(difference))
    return float(2 * ndtr(-abs(estimate.value) / error)) if error > 0 else 0.0
