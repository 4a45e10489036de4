r"""Off-policy estimators: what a policy would earn in a window, from windows that another policy logged.

Every estimator returns one *influence value* per window, whose mean is the estimate. Pairing two policies is then a
subtraction, and every interval is one of a mean (see `nba_tasks.bounds`). With the ratio of step t,
:math:`\rho_t = \pi(a_t|s_t) / \pi_b(a_t|s_t)`, and :math:`\rho_{0:t} = \prod_{k \le t} \rho_k`:

=============  =====================================================================================================
IS             :math:`\rho_{0:h-1} \sum_t \gamma^t r_t`
WIS            the same, self-normalised
PDIS           :math:`\sum_t \gamma^t \rho_{0:t} r_t`
SN-PDIS        the same, self-normalised step by step
DM             :math:`\hat V(s_0)`
DR             :math:`\hat V(s_0) + \sum_t \gamma^t \rho_{0:t} (r_t + \gamma \hat V(s_{t+1}) - \hat Q(s_t, a_t))`
WDR            :math:`\sum_t \gamma^t (\rho_{0:t} (r_t - \hat Q(s_t, a_t)) + \rho_{0:t-1} \hat V(s_t))`, self-normalised
=============  =====================================================================================================

After the end of a relationship rewards and :math:`\hat Q, \hat V` are 0 and ratios 1. Nothing else forces a ratio: a
step at which the rules of the day *and* tonight's leave one action has ratio 1 by itself, and an action that tonight's
rules forbid has ratio 0.

References
----------
Precup, Sutton, Singh (2000), Eligibility traces for off-policy policy evaluation; Jiang, Li (2016), Doubly robust
off-policy value evaluation, arXiv 1511.03722; Thomas, Brunskill (2016), Data-efficient off-policy policy evaluation,
arXiv 1604.00923.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nba_tasks.dataset import BoolArray, FloatArray, IntArray
from nba_tasks.windows import PADDING, Windows

Floats = NDArray[np.float64]


class EstimatorError(ValueError):
    """Arrays from which nothing can be estimated; the message says which."""


@dataclass(frozen=True)
class Critic:
    r"""A model of one policy's value in the rest of a window, learned on *other* customers.

    Attributes
    ----------
    value : float array of shape (n_windows, horizon)
        :math:`\hat V_{h-t}(s_t) = \sum_a \pi(a|s_t) \hat Q_{h-t}(s_t, a)`, with h − t decisions to go.
    action_value : float array of shape (n_windows, horizon)
        :math:`\hat Q_{h-t}(s_t, a_t)` of the logged action.

    Entries after the end of a relationship are ignored. A sound model makes estimates precise; a poor one leaves
    them unbiased, as long as it never saw the customers it is applied to *and* its value is its own action values'
    mean under the evaluated policy: the value of another policy biases DR silently. `Critic.of` keeps the two together.
    """

    value: Floats
    action_value: Floats

    @classmethod
    def of(
        cls,
        q_to_go: Callable[[int], FloatArray],
        probabilities: FloatArray,
        action: IntArray,
        windows: Windows,
    ) -> Critic:
        """The critic of a policy from any model of action values.

        Parameters
        ----------
        q_to_go : callable
            From k = 1 … horizon to Q̂ with k decisions to go, of shape (n, n_actions).
        probabilities : array of shape (n, n_actions)
            Of the evaluated policy.
        action : int array of shape (n,)
            The logged actions.
        windows : Windows
        """
        value, action_value = np.zeros(windows.rows.shape), np.zeros(windows.rows.shape)
        for step in range(windows.horizon):
            alive = windows.rows[:, step] != PADDING
            rows = windows.rows[alive, step]
            q, chance = q_to_go(windows.horizon - step)[rows], probabilities[rows]
            # A forbidden action may have no value; it has no chance either.
            value[alive, step] = (chance * np.where(chance > 0, q, 0.0)).sum(axis=1)
            action_value[alive, step] = q[np.arange(len(rows)), action[rows]]
        return cls(value, action_value)


def on_windows(column: FloatArray | IntArray | BoolArray, windows: Windows) -> Floats:
    """A column of the transitions at the steps of windows, 0 after the end; shape (n_windows, horizon)."""
    if len(windows) == 0:
        return np.zeros(windows.rows.shape)
    return np.where(windows.alive, np.asarray(column, dtype=np.float64)[windows.rows], 0.0)


def charged(reward: FloatArray, lost: BoolArray, charge: FloatArray | float) -> Floats:
    """Rewards after charging the loss of a customer to the step at which it happened.

    Parameters
    ----------
    reward : array of shape (n,)
    lost : bool array of shape (n,)
    charge : float or array of shape (n,)
        What a lost customer would still have been worth, in reward units.
    """
    return np.asarray(reward, dtype=np.float64) - np.where(lost, charge, 0.0)


def cumulative_weights(target: FloatArray, behaviour: FloatArray, windows: Windows) -> Floats:
    r"""The weights :math:`\rho_{0:t}`, multiplied in log space.

    Parameters
    ----------
    target, behaviour : arrays of shape (n,)
        Probability of each row's logged action under the policy to be judged and under the one that logged it.
    windows : Windows

    Returns
    -------
    array of shape (n_windows, horizon)
        Constant after the end of a relationship.

    Raises
    ------
    EstimatorError
        A behaviour propensity is missing, not positive or above 1, or a target probability is outside [0, 1].
    """
    alive = windows.alive
    rows = windows.rows[alive]
    above, below = np.asarray(target, np.float64)[rows], np.asarray(behaviour, np.float64)[rows]
    # A probability summed from parts may exceed 1 by rounding.
    if not ((below > 0) & (below <= 1 + 1e-9)).all():
        raise EstimatorError("a behaviour propensity in a window is missing or outside (0, 1]")
    if not ((above >= 0) & (above <= 1 + 1e-9)).all():
        raise EstimatorError("a target probability in a window is missing or outside [0, 1]")
    log_ratio = np.zeros(windows.rows.shape)
    with np.errstate(divide="ignore"):
        log_ratio[alive] = np.log(above) - np.log(below)
    return np.exp(np.cumsum(log_ratio, axis=1))


def previous_weights(weight: Floats) -> Floats:
    r"""The weights of the step before, :math:`\rho_{0:t-1}` with :math:`\rho_{0:-1} = 1`."""
    return np.concatenate([np.ones((len(weight), 1)), weight[:, :-1]], axis=1)


def discounts(horizon: int, discount: float) -> Floats:
    """γ^t for t = 0, …, h − 1."""
    return np.power(float(discount), np.arange(horizon))


def importance_sampling(weight: Floats, reward: Floats, discount: float) -> Floats:
    """Trajectory-wise importance sampling (IS); arrays of shape (n_windows, horizon), one influence value a window."""
    return weight[:, -1] * _returns(reward, discount)


def weighted_importance_sampling(weight: Floats, reward: Floats, discount: float) -> Floats:
    """Self-normalised trajectory-wise importance sampling (WIS)."""
    return _self_normalised(weight[:, -1:], _returns(reward, discount)[:, None])[:, 0]


def per_decision(weight: Floats, reward: Floats, discount: float) -> Floats:
    """Per-decision importance sampling (PDIS): a reward is weighted by the decisions before it only."""
    return (weight * reward) @ discounts(reward.shape[1], discount)


def self_normalised_per_decision(weight: Floats, reward: Floats, discount: float) -> Floats:
    """PDIS, self-normalised step by step (SN-PDIS, also called CWPDIS)."""
    return _self_normalised(weight, reward) @ discounts(reward.shape[1], discount)


def direct_method(critic: Critic) -> Floats:
    """The critic's own opinion of each window (DM). Its interval knows nothing of the critic's error."""
    return np.asarray(critic.value[:, 0], dtype=np.float64)


def doubly_robust(weight: Floats, reward: Floats, discount: float, critic: Critic, alive: BoolArray) -> Floats:
    """Doubly robust (DR): unbiased if the propensities or the critic are right.

    Parameters
    ----------
    weight, reward : arrays of shape (n_windows, horizon)
    discount : float
        γ per decision.
    critic : Critic
    alive : bool array of shape (n_windows, horizon)
    """
    value, action_value = np.where(alive, critic.value, 0.0), np.where(alive, critic.action_value, 0.0)
    following = np.concatenate([value[:, 1:], np.zeros((len(value), 1))], axis=1)
    surprise = reward + discount * following - action_value
    return value[:, 0] + (weight * surprise) @ discounts(reward.shape[1], discount)


def weighted_doubly_robust(weight: Floats, reward: Floats, discount: float, critic: Critic, alive: BoolArray) -> Floats:
    """Weighted doubly robust (WDR): DR with the weights of each step normalised; arguments as in `doubly_robust`."""
    value, action_value = np.where(alive, critic.value, 0.0), np.where(alive, critic.action_value, 0.0)
    corrected = _self_normalised(weight, reward - action_value) + _self_normalised(previous_weights(weight), value)
    return corrected @ discounts(reward.shape[1], discount)


def effective_size(weight: Floats) -> float:
    """Kish's effective sample size of the weights of whole windows: (Σw)² / Σw²."""
    total, squares = float(weight.sum()), float((weight**2).sum())
    return total * total / squares if squares > 0 else 0.0


def largest_share(weight: Floats) -> float:
    """The largest weight's share of all; 1 where nothing has weight."""
    total = float(weight.sum())
    return float(weight.max() / total) if total > 0 else 1.0


def logged_action_probability(probabilities: FloatArray, action: IntArray, windows: Windows) -> Floats:
    """Probability of each row's logged action, of shape (n,); NaN in rows outside the windows."""
    chosen = np.full(len(action), np.nan)
    rows = windows.rows[windows.rows != PADDING]
    chosen[rows] = probabilities[rows, action[rows]]
    return chosen


def _returns(reward: Floats, discount: float) -> Floats:
    return reward @ discounts(reward.shape[1], discount)


def _self_normalised(weight: Floats, value: Floats) -> Floats:
    r"""Influence of the ratio :math:`\hat\theta = \sum w x / \sum w`, per column: θ̂ + w (x − θ̂) / w̄.

    NaN where a column has no weight at all: nothing is known about the policy there.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_weight = weight.mean(axis=0)
        ratio = (weight * value).mean(axis=0) / mean_weight
        return np.asarray(ratio + weight * (value - ratio) / mean_weight)
