r"""How wrong estimated propensities may be before the verdict flips.

If something unobserved moved the logged decisions, the true odds of a logged action may differ from the model's by up
to a factor Γ, each decision by its own: with p the model's propensity and g in [1/Γ, Γ], the ratio of a step is
multiplied by :math:`m = p + (1 - p) g`. Every window's Δ is then

.. math:: b + m_0 (c_0 + m_1 (c_1 + m_2 (c_2 + \dots)))

with c the discounted, weighted surprises (candidate less incumbent), so that the smallest value is found step by step
from the end: m is at its lower end where the bracket is positive, at its upper end otherwise.

The doubly robust estimate is unbiased under the true propensities whatever its critic, and the true m lie in the box:
the mean of the smallest values is therefore never above the true Δ (plus noise). It is pessimistic, because it lets
what is hidden conspire with each single outcome.

References
----------
Rosenbaum (2002), Observational Studies, ch. 4; Namkoong, Keramati, Yadlowsky, Brunskill (2020), Off-policy policy
evaluation for sequential decisions under unobserved confounding, arXiv 2003.05623; Tan (2006), JASA 101, 1619–1637.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from nba_tasks.dataset import FloatArray
from nba_tasks.estimators import Critic, discounts, on_windows
from nba_tasks.gate.sample import Sample

Floats = NDArray[np.float64]

LARGEST_GAMMA = 20.0


@dataclass(frozen=True)
class Sensitivity:
    """The odds ratios at which the gain is gone.

    Attributes
    ----------
    gamma_estimate : float
        Γ at which the worst-case estimate of Δ falls to the margin; 1 where it is not above it to begin with.
    gamma_bound : float
        Γ at which its lower bound does.
    yardstick : float or None
        Γ that hiding the strongest observed feature would amount to.
    hidden_feature : str or None
        Which one that is.
    """

    gamma_estimate: float
    gamma_bound: float
    yardstick: float | None
    hidden_feature: str | None = None


@dataclass(frozen=True)
class Yardstick:
    """How far hiding the feature that tells most about the logged actions moves their odds."""

    feature: str
    gamma: float


def odds_ratio(full: FloatArray, hidden: FloatArray, share: float = 0.95) -> float:
    """The factor Γ that so large a share of decisions keep within, between the odds by two models.

    Parameters
    ----------
    full, hidden : arrays of shape (n,)
        Propensity of each logged action by a model with all features and by one that lacks some.
    share : float
        The largest factor of all would be that of one odd decision.
    """
    if not len(full):
        return 1.0
    edge = 1e-9
    one, other = (logit(np.clip(p, edge, 1 - edge).astype(np.float64)) for p in (full, hidden))
    return float(np.exp(np.quantile(np.abs(one - other), share)))


def constant_critic(sample: Sample) -> Critic:
    """A critic that expects the log's mean reward per decision everywhere: it only centres the rewards."""
    alive, horizon = sample.windows.alive, sample.windows.horizon
    per_step = float(sample.rewards[alive].mean())
    to_go = np.cumsum(discounts(horizon, sample.discount))[::-1]
    value = np.where(alive, per_step * to_go, 0.0)
    return Critic(value=value, action_value=value)


def worst_case(
    sample: Sample, candidate: tuple[Floats, Critic], incumbent: tuple[Floats, Critic], gamma: float
) -> Floats:
    """The smallest Δ of each window under odds ratios up to `gamma`; shape (n_windows,).

    Parameters
    ----------
    sample : Sample
    candidate, incumbent : (weights of shape (n_windows, horizon), Critic)
    gamma : float
        Γ ≥ 1; steps with a logged propensity stay as they are.
    """
    surprise, base = _surprise(sample, *candidate)
    incumbent_surprise, incumbent_base = _surprise(sample, *incumbent)
    steps = surprise - incumbent_surprise
    propensity = np.where(sample.windows.alive, on_windows(sample.propensity, sample.windows), 1.0)
    fixed = np.where(sample.windows.alive, on_windows(sample.logged, sample.windows), 1.0) > 0
    least = np.where(fixed, 1.0, propensity + (1 - propensity) / gamma)
    most = np.where(fixed, 1.0, propensity + (1 - propensity) * gamma)
    rest = np.zeros(len(steps))
    for step in reversed(range(steps.shape[1])):
        bracket = steps[:, step] + rest
        rest = bracket * np.where(bracket > 0, least[:, step], most[:, step])
    return base - incumbent_base + rest


def sensitivity(
    sample: Sample,
    weights: Mapping[str, Floats],
    critics: tuple[Critic, Critic] | None,
    alpha: float,
    margin: float,
    yardstick: Yardstick | None = None,
) -> Sensitivity:
    """Search the odds ratios at which the estimate and the lower bound of Δ reach the margin.

    Parameters
    ----------
    sample : Sample
    weights : mapping of "candidate" and "incumbent" to arrays of shape (n_windows, horizon)
    critics : (candidate's, incumbent's), optional
        Without them rewards are centred by a constant.
    alpha : float
        One-sided error of the lower bound.
    margin : float
    yardstick : Yardstick, optional
    """
    mine, theirs = critics or (constant_critic(sample),) * 2
    candidate, incumbent = (weights["candidate"], mine), (weights["incumbent"], theirs)

    def flips(by_bound: bool) -> float:
        def above(log_gamma: float) -> bool:
            values = worst_case(sample, candidate, incumbent, math.exp(log_gamma))
            estimate = sample.clusters.mean(values)
            return (estimate.lower(alpha) if by_bound else estimate.value) > margin

        low, high = 0.0, math.log(LARGEST_GAMMA)
        if not above(low):
            return 1.0
        if above(high):
            return LARGEST_GAMMA
        while high - low > 1e-3:
            middle = (low + high) / 2
            low, high = (middle, high) if above(middle) else (low, middle)
        return math.exp(low)

    known = (yardstick.gamma, yardstick.feature) if yardstick else (None, None)
    return Sensitivity(flips(False), flips(True), *known)


def _surprise(sample: Sample, weight: Floats, critic: Critic) -> tuple[Floats, Floats]:
    """Discounted weighted surprises (n_windows, horizon) of one policy, and the critic's value of the first state."""
    alive = sample.windows.alive
    value, action_value = np.where(alive, critic.value, 0.0), np.where(alive, critic.action_value, 0.0)
    following = np.concatenate([value[:, 1:], np.zeros((len(value), 1))], axis=1)
    surprise = sample.rewards + sample.discount * following - action_value
    return discounts(sample.windows.horizon, sample.discount) * weight * surprise, value[:, 0]
