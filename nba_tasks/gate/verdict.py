"""Judge one candidate against the incumbent on the gate's customers: PROMOTE, DEFER or REJECT, with reasons."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nba_tasks.bounds import bootstrap_interval, sequence_bounds, spent_alpha
from nba_tasks.dataset import FloatArray
from nba_tasks.estimators import Critic
from nba_tasks.gate import rules
from nba_tasks.gate.figures import Figure, OutcomeFigure, estimate_figures, outcome_figures
from nba_tasks.gate.harms import compare_harm
from nba_tasks.gate.placebo import Placebo
from nba_tasks.gate.plain import plain
from nba_tasks.gate.robust import Robust, robust_bounds
from nba_tasks.gate.rules import Deciding, RuleResult, Volume
from nba_tasks.gate.sample import GateError, Sample, check_probabilities
from nba_tasks.gate.sensitivity import Sensitivity, Yardstick, sensitivity
from nba_tasks.gate.weights import MeanWeight, mean_weights
from nba_tasks.programme import Gate

Floats = NDArray[np.float64]
Outcome = Literal["PROMOTE", "DEFER", "REJECT"]

SCHEMA = 2
"""Version of the machine report; see `report_schema.json`."""


@dataclass(frozen=True)
class Judged:
    """What was judged."""

    windows: int
    windows_dropped: int
    customers: int
    decisions: int
    horizon: int
    discount: float
    tested_share: float
    logged_share: float


@dataclass(frozen=True)
class Verdict:
    """The gate's answer and everything a report shows.

    Attributes
    ----------
    verdict : {"PROMOTE", "DEFER", "REJECT"}
    needs_person : bool
        Propensities were estimated somewhere: a PROMOTE may not be answered automatically.
    rules : tuple of RuleResult
    judged : Judged
    deciding : Deciding or None
        None, like the figures, where unusable propensities let nothing be estimated.
    estimates, outcomes : tuples of figures
        Intervals hold with probability 1 − family_alpha, each by itself.
    mean_weights : mapping of policy to its tested mean weights
    bootstrap : (lower, upper) or None
        BCa interval of the deciding difference; reported, never decisive.
    robust : Robust or None
        Bounds that assume nothing about tails; reported, never decisive. None where no reward range was given.
    sensitivity : Sensitivity or None
        None where every propensity was logged.
    placebo : Placebo or None
        None where every propensity was logged, or the check was not run.
    """

    verdict: Outcome
    needs_person: bool
    rules: tuple[RuleResult, ...]
    judged: Judged
    deciding: Deciding | None = None
    estimates: tuple[Figure, ...] = ()
    outcomes: tuple[OutcomeFigure, ...] = ()
    mean_weights: Mapping[str, tuple[MeanWeight, ...]] | None = None
    bootstrap: tuple[float, float] | None = None
    robust: Robust | None = None
    sensitivity: Sensitivity | None = None
    placebo: Placebo | None = None

    @property
    def reasons(self) -> tuple[str, ...]:
        """One sentence for each rule that does not pass."""
        return tuple(f"{r.finding}. What would help: {r.remedy}." for r in self.rules if r.status != "pass")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; a number that is not finite becomes null."""
        return {"schema": SCHEMA, **plain(self), "reasons": list(self.reasons)}


def judge(
    sample: Sample,
    candidate: FloatArray,
    gate: Gate,
    *,
    k: int = 1,
    critics: tuple[Critic, Critic] | None = None,
    bound: Literal["t", "sequence"] = "t",
    n_star: float | None = None,
    placebo: Placebo | None = None,
    tail_gain: float | None = None,
    yardstick: Yardstick | None = None,
    weeks: float | None = None,
    interval_days: int | None = None,
    reward_range: tuple[float, float] | None = None,
    bootstrap_replicates: int = 1000,
) -> Verdict:
    """Apply all rules to one candidate.

    Parameters
    ----------
    sample : Sample
        Windows of the gate's customers, with the incumbent's probabilities.
    candidate : array of shape (n, n_actions)
        The candidate's probabilities as it would be published, for the rows of the sample's transitions.
    gate : Gate
        Thresholds of the programme.
    k : int
        The how-many-eth candidate tried against this incumbent: spends α_k = 6α / (π²k²).
    critics : (candidate's Critic, incumbent's Critic), optional
        With them DR decides, without them PDIS; the verdict says which.
    bound : {"t", "sequence"}
        "t" for one look; "sequence" for repeated looks at a fixed candidate, with one window per customer.
    n_star : float, optional
        Customers at which the sequence should be tightest; needed with "sequence".
    placebo : Placebo, optional
        Needed to promote where propensities were estimated.
    tail_gain : float, optional
        A model's opinion of the difference beyond the window, discounted to its start.
    yardstick : Yardstick, optional
        What hiding the strongest observed feature would amount to.
    weeks : float, optional
        Length of the evaluated log, for remedies in weeks.
    interval_days : int, optional
        The grid's, for remedies.
    reward_range : (lowest, highest), optional
        Of one decision's reward, as other customers showed it: for the robust bounds.
    bootstrap_replicates : int
        0 leaves the bootstrap interval out.

    Raises
    ------
    GateError
        The candidate is no policy, a critic has the wrong shape, or "sequence" lacks what it needs.
    """
    _check_input(sample, candidate, critics, bound, n_star)
    judged = _judged(sample)
    if sample.n_unusable:
        return Verdict("REJECT", sample.logged_share < 1, (rules.unusable_propensities(sample),), judged)
    weights = {"candidate": sample.weigh(candidate), "incumbent": sample.weigh(sample.incumbent)}
    influence, deciding = _decide(sample, weights, critics, gate, k, bound, n_star)
    odds = None
    if sample.logged_share < 1:
        odds = sensitivity(sample, weights, critics, deciding.alpha, gate.margin, yardstick)
    robust = robust_bounds(sample, candidate, deciding.alpha, reward_range) if reward_range else None
    estimates = tuple(estimate_figures(sample, weights, critics, gate.alpha))
    tests = {
        "candidate": mean_weights(sample, candidate, weights["candidate"]),
        "incumbent": mean_weights(sample, sample.incumbent, weights["incumbent"]),
    }
    volume = Volume(sample.clusters.n, weeks)
    first = rules.evidence(sample, weights, gate, volume)
    second = rules.sanity(sample, candidate, tests, gate, enough_evidence=first.status == "pass")
    applied = (
        first,
        second,
        rules.placebo_rule(sample, placebo, gate, interval_days),
        *_gain_rules(sample, weights, gate, deciding, volume, n_star, first.status == second.status == "pass"),
        rules.tail(deciding, tail_gain, judged.tested_share),
        rules.agreement(_differences(estimates)),
        rules.propensities(sample, odds),
    )
    return Verdict(
        verdict=_outcome(applied),
        needs_person=sample.logged_share < 1,
        rules=applied,
        judged=judged,
        deciding=deciding,
        estimates=estimates,
        outcomes=tuple(outcome_figures(sample, weights, gate.alpha)),
        mean_weights=tests,
        bootstrap=_bootstrap(sample, influence, gate.alpha, bootstrap_replicates),
        robust=robust,
        sensitivity=odds,
        placebo=placebo,
    )


def _decide(
    sample: Sample,
    weights: Mapping[str, Floats],
    critics: tuple[Critic, Critic] | None,
    gate: Gate,
    k: int,
    bound: Literal["t", "sequence"],
    n_star: float | None,
) -> tuple[Floats, Deciding]:
    """The paired influence values of the deciding estimator, and the declared bounds of their mean."""
    influence = sample.paired(weights["candidate"], weights["incumbent"], critics)
    difference = sample.clusters.mean(influence)
    alpha = spent_alpha(gate.alpha, k)
    always = sequence_bounds(difference, alpha, float(n_star or sample.clusters.n))
    bounds = always if bound == "sequence" else (difference.lower(alpha), difference.upper(alpha))
    return influence, Deciding(
        estimator="DR" if critics else "PDIS",
        bound=bound,
        k=k,
        family_alpha=gate.alpha,
        alpha=alpha,
        margin=gate.margin,
        estimate=difference.value,
        standard_error=difference.standard_error,
        lower=bounds[0],
        upper=bounds[1],
        sequence=always,
    )


def _differences(estimates: tuple[Figure, ...]) -> dict[str, float]:
    """What the estimators that must agree say of the difference."""
    asked = ("DR", "PDIS", "SN-PDIS")
    return {f.estimator: f.value for f in estimates if f.policy == "difference" and f.estimator in asked}


def _bootstrap(sample: Sample, influence: Floats, alpha: float, replicates: int) -> tuple[float, float] | None:
    return bootstrap_interval(influence, sample.clusters, alpha, replicates) if replicates else None


def _check_input(
    sample: Sample, candidate: FloatArray, critics: tuple[Critic, Critic] | None, bound: str, n_star: float | None
) -> None:
    check_probabilities("the candidate", candidate, (len(sample.action), sample.behaviour.shape[1]), sample.rows)
    shape = sample.windows.rows.shape
    for critic in critics or ():
        if critic.value.shape != shape or critic.action_value.shape != shape:
            raise GateError(f"a critic's values must have the shape of the windows, {shape}")
        alive = sample.windows.alive
        if not (np.isfinite(critic.value[alive]).all() and np.isfinite(critic.action_value[alive]).all()):
            raise GateError("a critic's value is not finite")
    if bound == "sequence":
        if n_star is None or n_star <= 0:
            raise GateError("repeated looks need n_star, the customers at which the sequence should be tightest")
        if sample.clusters.n != len(sample.windows):
            raise GateError("repeated looks take one window per customer, frozen on entry (Windows.one_each)")


def _judged(sample: Sample) -> Judged:
    horizon = sample.windows.horizon
    # With γ = 1 there is no infinite total to have a share of.
    return Judged(
        windows=len(sample.windows),
        windows_dropped=sample.windows.n_dropped,
        customers=sample.clusters.n,
        decisions=len(sample.rows),
        horizon=horizon,
        discount=sample.discount,
        tested_share=1 - sample.discount**horizon if sample.discount < 1 else math.nan,
        logged_share=sample.logged_share,
    )


def _gain_rules(
    sample: Sample,
    weights: Mapping[str, Floats],
    gate: Gate,
    deciding: Deciding,
    volume: Volume,
    n_star: float | None,
    reliable: bool,
) -> Iterator[RuleResult]:
    """The rules of value and harm: what is tested at α."""
    yield rules.value(deciding, volume, reliable=reliable)
    looks = n_star if deciding.bound == "sequence" else None
    for outcome in sample.harms:
        test = compare_harm(sample, weights, outcome, gate)
        yield rules.harm(test, gate, deciding, volume, reliable=reliable, n_star=looks)


def _outcome(applied: tuple[RuleResult, ...]) -> Outcome:
    """REJECT before DEFER before PROMOTE."""
    found = {result.status for result in applied}
    return "REJECT" if "reject" in found else "DEFER" if "defer" in found else "PROMOTE"
