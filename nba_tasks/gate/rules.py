"""The rules of the gate: each looks at its own figures and says pass, defer or reject, and what would satisfy it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nba_tasks.dataset import FloatArray
from nba_tasks.estimators import effective_size, largest_share
from nba_tasks.gate.harms import HarmTest
from nba_tasks.gate.placebo import Placebo
from nba_tasks.gate.sample import Sample
from nba_tasks.gate.sensitivity import Sensitivity
from nba_tasks.gate.weights import MeanWeight, unsupported_mass
from nba_tasks.programme import Gate

Floats = NDArray[np.float64]
Status = Literal["pass", "defer", "reject"]


@dataclass(frozen=True)
class RuleResult:
    """What one rule found.

    Attributes
    ----------
    rule : str
        Stable key: evidence, sanity, placebo, value, tail, harm:<outcome>, agreement or propensities.
    status : {"pass", "defer", "reject"}
    finding : str
        What was found, for a reader who is no statistician.
    remedy : str
        What would satisfy the rule; empty where it passed.
    figures : mapping of str to float
        The numbers behind the finding.
    """

    rule: str
    status: Status
    finding: str
    remedy: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Deciding:
    """What decides the value rule, declared before the data were looked at.

    `lower` and `upper` are the declared bound, each one-sided at `alpha`; `sequence` holds the confidence sequence's,
    reported beside it.
    """

    estimator: str
    bound: Literal["t", "sequence"]
    k: int
    family_alpha: float
    alpha: float
    margin: float
    estimate: float
    standard_error: float
    lower: float
    upper: float
    sequence: tuple[float, float]


@dataclass(frozen=True)
class Volume:
    """How much was judged, to say how much more it takes.

    Attributes
    ----------
    customers : int
    weeks : float or None
        Length of the evaluated log.
    """

    customers: int
    weeks: float | None = None

    def more(self, factor: float) -> str:
        """In words: `factor` times the present data."""
        if not math.isfinite(factor):
            return "more data of this kind will not settle it"
        customers = _rounded(self.customers * (factor - 1))
        text = f"about {customers:,} more customers in the gate's split"
        if self.weeks is not None:
            text += f", or {max(1, math.ceil(self.weeks * (factor - 1)))} more weeks at today's volume"
        return text


def evidence(sample: Sample, weights: Mapping[str, Floats], gate: Gate, volume: Volume) -> RuleResult:
    """Rule 1: enough effective windows behind both policies, and no single one that carries the estimate."""
    figures: dict[str, float] = {}
    growth, overlap = 1.0, True
    for whose, weight in weights.items():
        final = weight[:, -1]
        size, largest = effective_size(final), largest_share(final)
        figures |= {
            f"{whose}_effective_size": size,
            f"{whose}_effective_share": size / len(final),
            f"{whose}_largest_weight_share": largest,
        }
        growth = max(growth, gate.min_effective_size / size if size else math.inf, largest / gate.max_weight_share)
        overlap &= size >= gate.min_effective_share * len(final)
    found = (
        f"{len(sample.windows):,} windows count like {figures['candidate_effective_size']:,.0f} of the candidate's own "
        f"and {figures['incumbent_effective_size']:,.0f} of the incumbent's"
    )
    if growth <= 1 and overlap:
        return RuleResult("evidence", "pass", found, figures=figures)
    found += f"; {gate.min_effective_size:,.0f} are asked for, and {gate.min_effective_share:.0%} of all"
    if (heaviest := max(largest_share(weight[:, -1]) for weight in weights.values())) > gate.max_weight_share:
        found += f"; one window carries {heaviest:.1%} of the weight, at most {gate.max_weight_share:.1%} is allowed"
    ways = [volume.more(growth)] if growth > 1 else []
    if not overlap:
        shorter = _evaluable_horizon(weights, gate)
        ways.append("a smaller mix, closer to the log" + (f", or horizon {shorter}" if shorter else ""))
    return RuleResult("evidence", "defer", found, "; and ".join(ways), figures)


def _evaluable_horizon(weights: Mapping[str, Floats], gate: Gate) -> int | None:
    """The longest shorter horizon at which every policy has the effective share asked for, None where no such is."""
    horizon = next(iter(weights.values())).shape[1]
    for steps in range(horizon - 1, 0, -1):
        if all(effective_size(w[:, steps - 1]) >= gate.min_effective_share * len(w) for w in weights.values()):
            return steps
    return None


def unusable_propensities(sample: Sample) -> RuleResult:
    """Rule 2, first part failed: decisions whose propensity cannot be used, so that nothing can be weighed."""
    count = sample.n_unusable
    return RuleResult(
        "sanity",
        "reject",
        f"{count:,} of {len(sample.rows):,} decisions have no usable propensity (missing, 0 or above 1)",
        "repair the logged probabilities, or let the behaviour model cover these actions",
        {"unusable_propensities": count},
    )


def sanity(
    sample: Sample,
    candidate: FloatArray,
    tests: Mapping[str, tuple[MeanWeight, ...]],
    gate: Gate,
    *,
    enough_evidence: bool,
) -> RuleResult:
    """Rule 2: usable propensities, no acting without support, weights that average 1."""
    mass = unsupported_mass(sample, candidate, gate.min_propensity)
    every = [(whose, test) for whose, some in tests.items() for test in some]
    figures: dict[str, float] = {
        "unusable_propensities": 0,
        "unsupported_share": mass,
        "mean_weights_tested": len(every),
    }
    if mass > gate.min_propensity:
        return RuleResult(
            "sanity",
            "reject",
            f"the candidate takes {mass:.1%} of its decisions where the log all but never does",
            "raise layers.support, or randomise those actions a little so that the log knows them",
            figures,
        )
    if not enough_evidence:
        return RuleResult("sanity", "pass", "propensities are usable; mean weights are checked once there is evidence",
                          figures=figures)  # fmt: skip
    whose, worst = min(every, key=lambda pair: pair[1].p_value)
    figures |= {"worst_mean_weight": worst.mean, "worst_p_value": worst.p_value}
    if worst.p_value * len(every) < gate.mean_weight_alpha:
        action = "over all actions" if worst.action is None else f"for action {worst.action}"
        return RuleResult(
            "sanity",
            "reject",
            f"the {whose}'s weights average {worst.mean:.3f} instead of 1 at decision {worst.step + 1} {action}: the "
            "propensities do not describe how the logged decisions were made",
            "find out how these decisions were really made; the estimates below cannot be trusted",
            figures,
        )
    return RuleResult("sanity", "pass", "propensities are usable and weights average 1", figures=figures)


def placebo_rule(sample: Sample, placebo: Placebo | None, gate: Gate, interval_days: int | None = None) -> RuleResult:
    """Rule 3: where decisions were not logged, what happened in an epoch before its contact must not depend on it."""
    if sample.logged_share == 1:
        return RuleResult("placebo", "pass", "not needed: every decision was logged with its probability")
    if placebo is None:
        return RuleResult(
            "placebo",
            "defer",
            f"{1 - sample.logged_share:.1%} of the decisions were not logged, and the placebo check was not run",
            "judge with the times of contacts and events, or log each decision with its probability",
        )
    shorter = "a shorter grid.interval_days" + (f" than {interval_days}" if interval_days else "")
    shorter += ", so that what triggered a contact lies before its epoch and can enter the state; then `nba rebuild`"
    figures: dict[str, float] = {
        "p_value": placebo.p_value,
        "several_contacts_share": placebo.several_contacts_share,
        "tests": len(placebo.tests),
        "epochs": placebo.epochs,
    }
    if placebo.p_value < gate.placebo_alpha:
        worst = min(placebo.tests, key=lambda test: test.p_value, default=None)
        found = "what customers did in an epoch before its contact differs from what others did by then"
        if worst is not None:
            found += f" (action {worst.action}: {worst.difference:+.3g} {worst.measure} an epoch)"
        found += ": contacts take credit for what triggered them"
        return RuleResult("placebo", "defer", found, shorter, figures)
    if not placebo.several_contacts_share <= gate.max_several_contacts_share:
        if math.isnan(placebo.several_contacts_share):
            return RuleResult(
                "placebo", "defer", "contacts were not counted", "give the contacts of each epoch", figures
            )
        found = f"{placebo.several_contacts_share:.1%} of epochs hold several contacts, of which only the first counts"
        return RuleResult("placebo", "defer", found, shorter, figures)
    found = f"what happened in {placebo.epochs:,} epochs before their contact does not depend on it"
    if not placebo.tests:
        found = "hardly anything happened in an epoch before its contact: no contact can take credit for it"
    return RuleResult("placebo", "pass", found, figures=figures)


def value(deciding: Deciding, volume: Volume, *, reliable: bool) -> RuleResult:
    """Rule 4: the gain's lower bound above the margin; REJECT only on evidence that passed rules 1 and 2."""
    gain, lower, upper, margin = deciding.estimate, deciding.lower, deciding.upper, deciding.margin
    figures = {
        "estimate": gain, "standard_error": deciding.standard_error, "lower": lower, "upper": upper,
        "margin": margin, "alpha": deciding.alpha,
    }  # fmt: skip
    found = f"the candidate earns {gain:+.4g} a window compared with the incumbent ({lower:+.4g} to {upper:+.4g})"
    found += f"; surely more than {margin:g} is asked for" if margin else ""
    if lower > margin:
        return RuleResult("value", "pass", found, figures=figures)
    if upper < margin and reliable:
        return RuleResult("value", "reject", found, "learn again: this candidate does not gain enough", figures)
    if not gain > margin:
        return RuleResult("value", "defer", found, "a better candidate: this one shows no gain so far", figures)
    factor = ((gain - lower) / (gain - margin)) ** 2 if math.isfinite(lower) else math.inf
    return RuleResult("value", "defer", found, volume.more(factor) + ", if the gain is what it seems", figures)


def tail(deciding: Deciding, tail_gain: float | None, tested_share: float) -> RuleResult:
    """Rule 4's rider: the model's opinion of what comes after the window must not reverse the sign."""
    figures = {"tested_share": tested_share}
    if tail_gain is None:
        return RuleResult("tail", "pass", "no opinion on what comes after the window was given", figures=figures)
    figures |= {"tail_gain": tail_gain}
    if deciding.estimate > deciding.margin >= deciding.estimate + tail_gain:
        found = f"the model expects {tail_gain:+.4g} after the window, which undoes the gain inside it"
        return RuleResult("tail", "defer", found, "a longer gate.horizon, so that more of it is tested", figures)
    return RuleResult("tail", "pass", f"the model expects {tail_gain:+.4g} after the window", figures=figures)


def harm(
    test: HarmTest, gate: Gate, deciding: Deciding, volume: Volume, *, reliable: bool, n_star: float | None
) -> RuleResult:
    """Rule 5: a harm's excess surely below what is allowed; `n_star` is given for repeated looks."""
    alpha, rule = deciding.alpha, f"harm:{test.outcome}"
    lower, upper = (test.lower(alpha), test.upper(alpha)) if n_star is None else test.always(alpha, n_star)
    events, excess = test.candidate.effective_events, test.excess.value
    figures = {
        "rate": test.candidate.rate, "incumbent_rate": test.incumbent.rate, "factor": test.factor,
        "excess": excess, "lower": lower, "upper": upper, "allowed": test.allowed,
        "effective_events": events, "alpha": alpha,
    }  # fmt: skip
    per = 10_000
    limit = test.factor * test.incumbent.rate + test.allowed
    distance = abs(upper - test.allowed) * per
    found = (
        f"{test.outcome}: {test.candidate.rate * per:.2f} per 10,000 decisions, the incumbent "
        f"{test.incumbent.rate * per:.2f}; tolerated are about {limit * per:.2f}, and the candidate "
        + (
            f"is surely {distance:.2f} below that"
            if upper < test.allowed
            else f"may be up to {distance:.2f} above that"
        )
    )
    if few := events < gate.harm_min_events:
        found += f"; {events:,.0f} such events speak of it, {gate.harm_min_events:g} are asked for"
    if lower > test.allowed and reliable:
        return RuleResult(rule, "reject", found, "learn with a heavier charge for this harm", figures)
    if upper < test.allowed and not few:
        return RuleResult(rule, "pass", found, figures=figures)
    if events == 0:
        return RuleResult(rule, "defer", found, "more data: none of these events was seen under the candidate", figures)
    factor = gate.harm_min_events / events if few else 1.0
    if upper >= test.allowed:
        ahead = test.allowed - excess
        factor = max(factor, ((upper - excess) / ahead) ** 2) if ahead > 0 else math.inf
    return RuleResult(rule, "defer", found, volume.more(factor), figures)


def agreement(differences: Mapping[str, float]) -> RuleResult:
    """Rule 6: estimators that fail in different ways agree on the sign of the difference."""
    figures = dict(differences)
    signs = {float(np.sign(difference)) for difference in differences.values()}
    named = ", ".join(f"{name} {difference:+.4g}" for name, difference in differences.items())
    if len(signs) == 1 and not signs & {0.0} and all(math.isfinite(d) for d in differences.values()):
        return RuleResult("agreement", "pass", f"the estimators agree ({named})", figures=figures)
    remedy = "more data, a smaller mix or a shorter horizon, until the estimators agree on the sign"
    return RuleResult("agreement", "defer", f"the estimators disagree ({named})", remedy, figures)


def propensities(sample: Sample, found: Sensitivity | None) -> RuleResult:
    """Rule 7: says where propensities are estimated, and how wrong they may be; it never fails, a person decides."""
    figures: dict[str, float] = {"logged_share": sample.logged_share}
    if found is None:
        return RuleResult("propensities", "pass", "every decision was logged with its probability", figures=figures)
    figures |= {"gamma_estimate": found.gamma_estimate, "gamma_bound": found.gamma_bound}
    text = (
        f"{1 - sample.logged_share:.1%} of the decisions have estimated propensities; the lower bound survives if "
        f"their odds are off by a factor up to {found.gamma_bound:.2f}, the estimate up to {found.gamma_estimate:.2f}"
    )
    if found.yardstick is not None:
        figures |= {"gamma_yardstick": found.yardstick}
        hidden = f", {found.hidden_feature}," if found.hidden_feature else ""
        text += f" (hiding the strongest observed feature{hidden} would be {found.yardstick:.2f})"
    return RuleResult("propensities", "pass", text + "; a person must decide", figures=figures)


def _rounded(count: float) -> int:
    """Two significant digits, upwards: a forecast is not a count."""
    if count <= 10:
        return max(1, math.ceil(count))
    unit = 10 ** (math.floor(math.log10(count)) - 1)
    return int(math.ceil(count / unit) * unit)
