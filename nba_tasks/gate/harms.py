r"""Rule 5: no harm may rise by more than its margin, tested on the paired difference of two weighted rates.

The candidate's rate :math:`\theta_c` may exceed the incumbent's :math:`\theta_i` by a share r of it or by an absolute
amount, whichever is larger. Tested is :math:`D = \theta_c - f \theta_i` against an allowed excess: f = 1 + r and 0, or
f = 1 and the absolute amount. An event of a decision with weights :math:`w_c, w_i` adds :math:`z = w_c - f w_i` to D.
Events with z > 0 raise it, events with z < 0 lower it: two independent weighted counts, A and B, each with its gamma
bounds, which hold with few events. The bound of their difference joins them (method of variance estimates recovery):

.. math:: \hat D + \sqrt{(U_A - \hat A)^2 + (\hat B - L_B)^2}

The gamma bound allows for one further event. It is given the weight :math:`\sum |z|^3 / \sum z^2` over the decisions of
its sign: the mean weight of the events that the variance is made of. The largest weight instead would make the bound
many times wider where weights vary; the plain mean would miss far more often than stated. Joining the bounds of both
*rates* through their correlation passed up to 4.9% at a nominal 3%: few events may make the excess where many make the
rates. `bench/study_harm.py` counts how often a candidate exactly at the margin passes, and how wide each bound is.

Holding the candidate's upper bound against the incumbent's *estimated* rate instead would ignore the noise in the
latter: a candidate exactly at the margin passed in 6–24% of simulated runs at a nominal 3% where another policy had
logged the data.

References
----------
Fay, Feuer (1997), Statistics in Medicine 16, 791–801; Zou, Donner (2008), Construction of confidence limits about
effect measures: a general approach, Statistics in Medicine 27, 1693–1702.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nba_tasks.bounds import Clusters, Estimate, gamma_lower, gamma_upper, sequence_bounds
from nba_tasks.gate.sample import Sample
from nba_tasks.programme import Gate

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class WeightedRate:
    """A policy's rate of one harm, in events per decision due (a window's total over its horizon).

    Attributes
    ----------
    rate : float
    effective_events : float
        (Σ w u)² / Σ (w u)².
    """

    rate: float
    effective_events: float


@dataclass(frozen=True)
class Part:
    """The events that raise the excess, or those that lower it; floats, or arrays of one shape.

    Attributes
    ----------
    rate : float
        Σ |z| u per decision due.
    variance : float
        Poisson, times the factor by which customers' clustering widens the excess.
    next_event : float
        What one further event is taken to add; 0 where no decision has that sign.
    """

    rate: Floats | float
    variance: Floats | float
    next_event: float

    def above(self, alpha: float) -> Floats:
        """How far the upper gamma bound lies above the rate."""
        if self.next_event == 0:
            return np.zeros(np.shape(np.atleast_1d(self.rate)))
        return gamma_upper(self.rate, self.variance, self.next_event, alpha) - self.rate

    def below(self, alpha: float) -> Floats:
        """How far the lower gamma bound lies below the rate."""
        return self.rate - gamma_lower(self.rate, self.variance, alpha)

    def grown(self, growth: float) -> Part:
        """The same with `growth` times as many customers."""
        return Part(self.rate, self.variance / growth, self.next_event / growth)


@dataclass(frozen=True)
class HarmTest:
    """One harm under both policies.

    Attributes
    ----------
    outcome : str
    candidate, incumbent : WeightedRate
    factor, allowed : float
        f and the largest tolerated excess D = candidate − f · incumbent.
    excess : Estimate
        D with its customer-clustered standard error.
    raising, lowering : Part
        D is the rate of the first less that of the second.
    wider : float
        By how much the customers' clustering widens the excess's variance, at least 1.
    """

    outcome: str
    candidate: WeightedRate
    incumbent: WeightedRate
    factor: float
    allowed: float
    excess: Estimate
    raising: Part
    lowering: Part
    wider: float = 1.0

    def lower(self, alpha: float) -> float:
        """One-sided (1 − α) lower bound of the excess."""
        return self.excess.value - float(np.hypot(self.raising.below(alpha), self.lowering.above(alpha))[0])

    def upper(self, alpha: float) -> float:
        """One-sided (1 − α) upper bound of the excess."""
        return self.excess.value + float(np.hypot(self.raising.above(alpha), self.lowering.below(alpha))[0])

    def grown(self, growth: float) -> HarmTest:
        """What this test would look like with `growth` times as many customers: the same rates, less noise."""

        def rate(found: WeightedRate) -> WeightedRate:
            return WeightedRate(found.rate, found.effective_events * growth)

        return replace(
            self,
            candidate=rate(self.candidate),
            incumbent=rate(self.incumbent),
            excess=self.excess.grown(growth),
            raising=self.raising.grown(growth),
            lowering=self.lowering.grown(growth),
        )

    def always(self, alpha: float, n_star: float) -> tuple[float, float]:
        """Bounds for repeated looks: the wider of these and the confidence sequence's."""
        low, high = sequence_bounds(self.excess, alpha, n_star)
        return min(low, self.lower(alpha)), max(high, self.upper(alpha))


def next_event(weight: Floats) -> float:
    """Σw³ / Σw² over decisions, as a share of all of them; 0 where nothing has weight."""
    squares = weight**2
    total = float(squares.sum())
    return float((squares * weight).sum()) / total / weight.size if total > 0 else 0.0


def compare_harm(sample: Sample, weights: Mapping[str, Floats], outcome: str, gate: Gate) -> HarmTest:
    """Compare a harm under the candidate and the incumbent.

    Parameters
    ----------
    sample : Sample
    weights : mapping of "candidate" and "incumbent" to arrays of shape (n_windows, horizon)
    outcome : str
        One of the sample's outcomes.
    gate : Gate
        Its margins.
    """
    return compare_events(sample.events(outcome), sample.clusters, weights, outcome, gate)


def compare_events(
    events: Floats, clusters: Clusters, weights: Mapping[str, Floats], outcome: str, gate: Gate
) -> HarmTest:
    """The same from the events, of shape (n_windows, horizon), and the customers of the windows."""
    mine, theirs = (_weighted_rate(weights[whose], events) for whose in ("candidate", "incumbent"))
    factor, allowed = tolerated(theirs.rate, gate)
    adds = weights["candidate"] - factor * weights["incumbent"]
    excess = clusters.mean((adds * events).sum(axis=1) / events.shape[1])
    poisson = float((adds**2 * events).sum()) / adds.size**2
    clustered = excess.standard_error**2 if math.isfinite(excess.standard_error) else 0.0
    wider = max(1.0, clustered / poisson) if poisson > 0 else 1.0
    return HarmTest(
        outcome=outcome,
        candidate=mine,
        incumbent=theirs,
        factor=factor,
        allowed=allowed,
        excess=excess,
        raising=_part(np.maximum(adds, 0.0), events, wider),
        lowering=_part(np.maximum(-adds, 0.0), events, wider),
        wider=wider,
    )


def tolerated(incumbent_rate: float, gate: Gate) -> tuple[float, float]:
    """The factor f and the allowed excess: the wider of the relative and the absolute margin."""
    relative = gate.harm_relative * incumbent_rate >= gate.harm_absolute
    return (1 + gate.harm_relative, 0.0) if relative else (1.0, gate.harm_absolute)


def _weighted_rate(weight: Floats, events: Floats) -> WeightedRate:
    weighted = weight * events
    total, squares = float(weighted.sum()), float((weighted**2).sum())
    return WeightedRate(total / weight.size, total**2 / squares if squares > 0 else 0.0)


def _part(adds: Floats, events: Floats, wider: float) -> Part:
    n = adds.size
    return Part(float((adds * events).sum()) / n, wider * float((adds**2 * events).sum()) / n**2, next_event(adds))
