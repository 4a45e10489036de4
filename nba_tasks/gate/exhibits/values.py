"""What each policy earns a window: candidate, incumbent, baselines, the log; and the candidate exploring more."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nba_tasks.bounds import Estimate
from nba_tasks.dataset import FloatArray
from nba_tasks.estimators import Critic, effective_size, per_decision
from nba_tasks.gate.sample import Sample

Floats = NDArray[np.float64]
Kind = Literal["candidate", "incumbent", "log", "baseline"]
LEARNED = "learned policy, unmixed"
"""The baseline that is compared with those behind it."""

EPSILONS = tuple(round(0.1 * step, 1) for step in range(11))


@dataclass(frozen=True)
class Alternative:
    """A policy to be valued: its name, what it is, its probabilities of shape (n, n_actions), and a critic of it.

    Any model of action values makes a critic of any policy (`Critic.of`); a poor one costs precision only.
    """

    policy: str
    kind: Kind
    probabilities: FloatArray
    critic: Critic | None = None


@dataclass(frozen=True)
class PolicyValue:
    """The value of one policy per window, with its two-sided interval.

    Attributes
    ----------
    effective_size, effective_share : float
        Windows that the weighted log amounts to, and as a share of all: how much the value rests on.
    estimator : str
        DR or PDIS as the gate decides by; "observed" for the log's own mean.
    """

    policy: str
    kind: Kind
    value: float
    standard_error: float
    lower: float
    upper: float
    effective_size: float
    effective_share: float
    estimator: str


@dataclass(frozen=True)
class LearnedGain:
    """What the learned policy, unmixed, earns a window more than a simpler one, with its two-sided interval."""

    over: str
    value: float
    standard_error: float
    lower: float
    upper: float


@dataclass(frozen=True)
class ExplorationValue:
    """The candidate's value per window if this share of its decisions were drawn at random."""

    epsilon: float
    value: float
    lower: float
    upper: float
    effective_size: float


def policy_values(
    sample: Sample, alternatives: Iterable[Alternative], alpha: float
) -> tuple[tuple[PolicyValue, ...], tuple[LearnedGain, ...]]:
    """Value policies on the same windows, by DR where there is a critic, else by PDIS; the log's own mean comes last.

    Parameters
    ----------
    sample : Sample
    alternatives : iterable of Alternative
        Taken one after the other: a generator keeps one policy's probabilities in memory at a time.
    alpha : float
        Intervals hold with probability 1 − α, each by itself.

    Returns
    -------
    values : tuple of PolicyValue
    gains : tuple of LearnedGain
        Of the policy named `LEARNED` over each that comes after it, paired window by window.
    """
    values, gains = [], []
    learned: Floats | None = None
    for one in alternatives:
        value, influence = _value(sample, one, alpha)
        values.append(value)
        if learned is not None:
            gain = sample.clusters.mean(learned - influence)
            gains.append(LearnedGain(one.policy, gain.value, gain.standard_error, *gain.interval(alpha)))
        if one.policy == LEARNED:
            learned = influence
    log = sample.clusters.mean(per_decision(np.ones_like(sample.rewards), sample.rewards, sample.discount))
    observed = _described("as logged", "log", log, alpha, float(len(sample.windows)), 1.0, "observed")
    return (*values, observed), tuple(gains)


def exploration_values(
    sample: Sample, explored: Callable[[float], Alternative], alpha: float
) -> tuple[ExplorationValue, ...]:
    """The candidate's value at every ε of `EPSILONS`; `explored` gives the policy that explores so much."""
    values = (_value(sample, explored(epsilon), alpha)[0] for epsilon in EPSILONS)
    return tuple(
        ExplorationValue(epsilon, v.value, v.lower, v.upper, v.effective_size)
        for epsilon, v in zip(EPSILONS, values, strict=True)
    )


def _value(sample: Sample, one: Alternative, alpha: float) -> tuple[PolicyValue, Floats]:
    """A policy's value, and its influence values of shape (n_windows,)."""
    weight = sample.weigh(one.probabilities)
    influence = sample.influence(weight, one.critic)
    size = effective_size(weight[:, -1])
    estimator = "PDIS" if one.critic is None else "DR"
    estimate = sample.clusters.mean(influence)
    return _described(one.policy, one.kind, estimate, alpha, size, size / len(weight), estimator), influence


def _described(
    policy: str, kind: Kind, estimate: Estimate, alpha: float, size: float, share: float, estimator: str
) -> PolicyValue:
    lower, upper = estimate.interval(alpha)
    return PolicyValue(policy, kind, estimate.value, estimate.standard_error, lower, upper, size, share, estimator)
