"""One replicate of each kind: a log is played, the product's own functions judge, and what they said is recorded.

Where thousands of tests are made, the value test comes first and the full gate only where it passes: PROMOTE asks for
all rules, so that this changes nothing but the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bench.gate_settings import (
    MARKETS,
    MODELS,
    Played,
    Question,
    Setting,
    critics_of,
    fitted_behaviour,
    gate_of,
    learned_rewards,
    question,
    seeded,
)
from bench.replicates import Record
from nba_tasks.bounds import Estimate, Tails, bootstrap_interval, sequence_bounds, spent_alpha
from nba_tasks.estimators import Critic
from nba_tasks.gate import Placebo, Sample, Verdict, judge
from nba_tasks.gate.harms import compare_harm
from nba_tasks.gate.robust import robust_bounds
from nba_tasks.simulators.tabular import HARMS, LOGGING, VERSION_0

Floats = NDArray[np.float64]

NO_TRIGGER = Placebo(p_value=1.0, several_contacts_share=0.0)
"""In these markets nothing triggers a contact; the placebo check has a study of its own."""


def rules_of(verdict: Verdict) -> dict[str, bool]:
    """Which rules pass: harms together."""
    status = {result.rule: result.status == "pass" for result in verdict.rules}
    harm = all(passed for rule, passed in status.items() if rule.startswith("harm:"))
    return {rule: status[rule] for rule in ("evidence", "sanity", "value", "agreement")} | {"harm": harm}


def judged(played: Played, asked: Question, sample: Sample | None = None) -> Verdict:
    """The gate's verdict for one look at a first candidate."""
    return judge(
        sample or played.sample(asked),
        played.probabilities(asked.candidate),
        gate_of(played.setting),
        critics=played.critics(asked),
        placebo=None if played.setting.logged else NO_TRIGGER,
        bootstrap_replicates=0,
    )


def influence_of(played: Played, asked: Question, sample: Sample, critics: tuple[Critic, Critic]) -> Floats:
    """What decides: the paired influence values, as `judge` takes them."""
    mine = sample.weigh(played.probabilities(asked.candidate))
    return sample.paired(mine, sample.weigh(sample.incumbent), critics)


def believed(setting: Setting, number: int) -> Floats | None:
    """The behaviour model of one of the learn logs; None where propensities are logged."""
    return None if setting.logged else fitted_behaviour(setting, number % MODELS)


def play_fixed(setting: Setting, number: int) -> Record:
    """One look at one candidate."""
    rng = seeded(setting.name, number)
    asked = question(setting, setting.gain, believed(setting, number))
    verdict = judged(Played.of(setting, rng), asked)
    assert verdict.deciding is not None
    return {"promoted": verdict.verdict == "PROMOTE", "estimate": verdict.deciding.estimate, **rules_of(verdict)}


def play_curve(setting: Setting, gains: tuple[float, ...], number: int) -> Record:
    """One log, and candidates that truly gain different shares of the incumbent's value."""
    rng = seeded(setting.name, number)
    behaviour, played = believed(setting, number), Played.of(setting, rng)
    value, promoted, alpha = [], [], spent_alpha(gate_of(setting).alpha, 1)
    for gain in gains:
        asked = question(setting, gain, behaviour)
        sample = played.sample(asked)
        difference = sample.clusters.mean(influence_of(played, asked, sample, played.critics(asked)))
        value.append(difference.lower(alpha) > 0)
        promoted.append(value[-1] and judged(played, asked, sample).verdict == "PROMOTE")
    return {"value": value, "promoted": promoted}


def running_estimates(values: Floats, looks: NDArray[np.int64]) -> Iterator[Estimate]:
    """The estimate at each look from running sums, one value a customer in the order in which they come.

    Equal to `Clusters.mean` of the first `n` values for every n in `looks`.
    """
    centre = float(values.mean())
    centred = values - centre
    one, two, three = (np.cumsum(centred**power)[looks - 1] for power in (1, 2, 3))
    low, high = np.minimum.accumulate(centred)[looks - 1], np.maximum.accumulate(centred)[looks - 1]
    shift = one / looks
    variance = two / looks - shift**2
    third = three / looks - 3 * shift * two / looks + 2 * shift**3
    for i, n in enumerate(looks.tolist()):
        deviation = float(np.sqrt(variance[i]))
        tails = Tails(
            float(shift[i] - low[i]) / deviation, float(high[i] - shift[i]) / deviation, float(third[i]) / deviation**3
        )
        yield Estimate(centre + float(shift[i]), deviation / float(np.sqrt(n - 1)), n, tails)


FIRST_LOOK, LOOKS, NIGHTLY = 2_400, 180, 40
"""Customers at the first look, how many looks, and how many customers enter each night."""

N_STAR = 5_000
"""Where the sequence is tightest; declared before the first look."""


def play_looks(setting: Setting, number: int) -> Record:
    """A look every night at one candidate, with the confidence sequence; customers enter with one window each."""
    rng, gate, asked = seeded(setting.name, number), gate_of(setting), question(setting, setting.gain, None)
    played = Played.of(setting, rng)
    sample, critics = played.sample(asked), played.critics(asked)
    alpha = spent_alpha(gate.alpha, 1)
    looks = FIRST_LOOK + NIGHTLY * np.arange(LOOKS)
    estimates = list(running_estimates(influence_of(played, asked, sample, critics), looks))
    passing = [e for e in estimates if sequence_bounds(e, alpha, N_STAR)[0] > gate.margin]

    def look(n: int) -> Verdict:
        known = tuple(Critic(c.value[:n], c.action_value[:n]) for c in critics)
        return judge(
            replace(sample, windows=sample.windows.take(np.arange(n))),
            played.probabilities(asked.candidate),
            gate,
            critics=(known[0], known[1]),
            bound="sequence",
            n_star=N_STAR,
            bootstrap_replicates=0,
        )

    return {
        "value": bool(passing),
        "promoted": any(look(e.n_customers).verdict == "PROMOTE" for e in passing),
        "one_look_bound": any(e.lower(alpha) > gate.margin for e in estimates),
        "evidence": rules_of(look(int(looks[-1])))["evidence"],
    }


CANDIDATES = 50


@cache
def worthless_pairs(setting: Setting) -> list[tuple[Floats, Floats]]:
    """Pairs of random policies, one worse and one better than version 0, each blended into a candidate with Δ = 0."""
    rng, asked = np.random.default_rng(2024), setting.compare(VERSION_0)
    worse: list[Floats] = []
    better: list[Floats] = []
    while min(len(worse), len(better)) < CANDIDATES:
        policy = np.eye(3)[rng.integers(0, 3, 6)]
        gain = asked.gain(setting.mix * policy + (1 - setting.mix) * VERSION_0) / asked.value(VERSION_0)
        # Clearly one or the other, so that the blend also exists against an incumbent that a promotion has made.
        if abs(gain) > 0.01:
            (better if gain > 0 else worse).append(policy)
    return list(zip(worse[:CANDIDATES], better[:CANDIDATES], strict=True))


@cache
def worthless(setting: Setting, candidate: int) -> Question:
    """The so-manyeth worthless candidate against version 0."""
    return worthless_against(setting, VERSION_0, candidate)


def worthless_against(setting: Setting, incumbent: Floats, candidate: int) -> Question:
    """A worthless candidate against any incumbent."""
    new = setting.compare(incumbent).candidate(worthless_pairs(setting)[candidate], setting.mix, 0.0)
    return Question(new, incumbent, LOGGING, critics_of(setting))


def play_family(setting: Setting, number: int) -> Record:
    """Fifty worthless candidates in a row, each judged on customers of its own; a promotion begins a new family.

    `value` is what would have happened to version 0 without the other rules; `families` and `failed` count incumbents
    and those of them that a worthless candidate replaced.
    """
    rng, gate = seeded(setting.name, number), gate_of(setting)
    incumbent, k = VERSION_0, 0
    value, families, evidence = False, 1, False
    failed: list[int] = []
    for candidate in range(CANDIDATES):
        k += 1
        first = not failed
        asked = worthless(setting, candidate) if first else worthless_against(setting, incumbent, candidate)
        played = Played.of(setting, rng)
        sample, critics = played.sample(asked), played.critics(asked)
        difference = sample.clusters.mean(influence_of(played, asked, sample, critics))
        tried = candidate == 0
        if difference.lower(spent_alpha(gate.alpha, k)) <= gate.margin and not tried:
            continue
        verdict = judge(
            sample, played.probabilities(asked.candidate), gate, k=k, critics=critics, bootstrap_replicates=0
        )
        passed = rules_of(verdict)
        evidence |= tried and passed["evidence"]
        value |= first and passed["value"]
        if verdict.verdict == "PROMOTE":
            failed.append(candidate)
            incumbent, k, families = asked.candidate, 0, families + 1
    return {
        "value": value,
        "promoted": bool(failed),
        "families": families,
        "failed": len(failed),
        "evidence": evidence,
    }


def play_coverage(setting: Setting, number: int) -> Record:
    """Whether each bound holds the truth, on one log: of the difference, and of each harm's excess.

    One-sided at the first candidate's α; the bootstrap's interval is two-sided at α, so that each side has half of it.
    """
    rng, gate = seeded(setting.name, number), gate_of(setting)
    asked = question(setting, setting.gain, believed(setting, number))
    played, truth = Played.of(setting, rng), setting.compare(asked.incumbent)
    sample = played.sample(asked)
    alpha, gain = spent_alpha(gate.alpha, 1), truth.gain(asked.candidate)
    influence = influence_of(played, asked, sample, played.critics(asked))
    estimate = sample.clusters.mean(influence)
    plain = replace(estimate, tails=None)
    always = sequence_bounds(estimate, alpha, float(sample.clusters.n))
    found = {
        "plain t": (plain.lower(alpha), plain.upper(alpha)),
        "t": (estimate.lower(alpha), estimate.upper(alpha)),
        "sequence": always,
    }
    robust = robust_bounds(sample, played.probabilities(asked.candidate), alpha, learned_rewards(setting.market))
    found["betting"] = (robust.lower, robust.upper)
    if setting.customers <= 2_000:
        found["BCa"] = bootstrap_interval(influence, sample.clusters, 2 * alpha, 500, seed=number)
    missed = {name: [bool(low > gain), bool(high < gain)] for name, (low, high) in found.items()}
    weights = {
        "candidate": sample.weigh(played.probabilities(asked.candidate)),
        "incumbent": sample.weigh(sample.incumbent),
    }
    market = MARKETS[setting.market]
    for harm, mean in zip(HARMS, (market.complains, market.leaves), strict=True):
        test = compare_harm(sample, weights, harm, gate)
        excess = truth.rate(asked.candidate, mean) - test.factor * truth.rate(asked.incumbent, mean)
        missed[f"harm: {harm}"] = [bool(test.lower(alpha) > excess), bool(test.upper(alpha) < excess)]
    return missed
