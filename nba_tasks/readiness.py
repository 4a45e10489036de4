"""Readiness: what a log can decide, before anything is learned from it, and when it will be able to.

No candidate is known yet, so a reference stands in for it: a policy that takes, with share λ, some supported action
picked by lot for each state, and goes on like the log otherwise. How wide the gate's interval would be for it is how
small a gain the log can prove. Functions of arrays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from nba_tasks.bounds import spent_alpha
from nba_tasks.dataset import BoolArray, FloatArray, Transitions
from nba_tasks.drawing import draw
from nba_tasks.estimators import cumulative_weights, discounts, effective_size, largest_share
from nba_tasks.gate.harms import HarmTest, compare_harm
from nba_tasks.gate.sample import Sample
from nba_tasks.policy import supported
from nba_tasks.programme import Gate

MIXES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)

BLAST = 0.95
"""In one epoch an action that so large a share of those who may get it do get is nobody's choice."""


@dataclass(frozen=True)
class Overlap:
    """One action in the log.

    Attributes
    ----------
    action : str
    decisions : int
        In which it was allowed beside another one.
    taken : float
        Share of them that took it.
    had_a_chance : float
        Share of them in which the log gave it at least τ of the likeliest action's probability.
    blasted : float
        Share of its contacts that were made when (nearly) everybody who could got it.
    """

    action: str
    decisions: int
    taken: float
    had_a_chance: float
    blasted: float


def overlaps(
    transitions: Transitions, behaviour: FloatArray, ids: Sequence[str], support: float
) -> tuple[Overlap, ...]:
    """How each action was used.

    Parameters
    ----------
    transitions : Transitions
    behaviour : array of shape (n, n_actions)
        Probabilities of the log, under the rules of the day.
    ids : sequence of str
    support : float
        τ.
    """
    eligible = transitions.eligible_logged & ~transitions.open[:, None]
    free = eligible & (eligible.sum(axis=1) > 1)[:, None]
    chance = _supported(behaviour, eligible, support)
    epoch = np.unique(transitions.epoch, return_inverse=True)[1]
    found = []
    for a, action in enumerate(ids):
        allowed, taken = free[:, a], free[:, a] & (transitions.action == a)
        per_epoch = np.bincount(epoch, weights=allowed)
        share = np.bincount(epoch, weights=taken) / np.maximum(per_epoch, 1)
        count = max(int(allowed.sum()), 1)
        found.append(
            Overlap(
                action=action,
                decisions=int(allowed.sum()),
                taken=float(taken.sum()) / count,
                had_a_chance=float((chance[:, a] & allowed).sum()) / count,
                blasted=float((taken & (share >= BLAST)[epoch]).sum()) / max(int(taken.sum()), 1),
            )
        )
    return tuple(found)


def freedom(transitions: Transitions, behaviour: FloatArray, support: float) -> float:
    """Share of the decisions with something to choose in which the log left at least two actions a chance."""
    eligible = transitions.eligible_logged & ~transitions.open[:, None]
    several = eligible.sum(axis=1) > 1
    chance = _supported(behaviour, eligible, support)
    return float((chance[several].sum(axis=1) > 1).mean()) if several.any() else 0.0


def reference_action(
    behaviour: FloatArray, eligible: BoolArray, support: float, random: np.random.Generator
) -> NDArray[np.int64]:
    """An action for each row, of shape (n,): one of the supported ones, each with the same chance."""
    lot = random.random(eligible.shape)
    return np.asarray(np.where(_supported(behaviour, eligible, support), lot, -1.0).argmax(axis=1), dtype=np.int64)


@dataclass(frozen=True)
class Step:
    """What a gate could do for a reference candidate with share λ.

    Attributes
    ----------
    mix : float
        λ.
    effective_size, effective_share, largest_weight_share : float
    error : float
        Standard error of its gain over the log.
    harms : tuple of HarmTest
        With the incumbent's rates for the candidate too: the reference does no harm.
    """

    mix: float
    effective_size: float
    effective_share: float
    largest_weight_share: float
    error: float
    harms: tuple[HarmTest, ...]

    def grown(self, growth: float) -> Step:
        """With `growth` times as many windows of the same kind."""
        return replace(
            self,
            effective_size=self.effective_size * growth,
            largest_weight_share=self.largest_weight_share / growth,
            error=self.error / math.sqrt(growth),
            harms=tuple(test.grown(growth) for test in self.harms),
        )

    def detectable(self, gate: Gate) -> float:
        """The smallest gain, if λ were 1, that the gate would find with `gate.min_power`; infinite if it could not."""
        if self.obstacles(gate):
            return math.inf
        alpha = spent_alpha(gate.alpha, 1)
        needed = gate.min_power + sum(1 - self.harm_power(test, alpha) for test in self.harms)
        if needed >= 1:
            return math.inf
        return (gate.margin + float(ndtri(needed) - ndtri(alpha)) * self.error) / self.mix

    def harm_power(self, test: HarmTest, alpha: float) -> float:
        """The chance that a harm that does not change passes its rule."""
        room = (test.factor - 1) * test.incumbent.rate + test.allowed - (test.upper(alpha) - test.excess.value)
        error = test.excess.standard_error
        return float(ndtr(room / error)) if error > 0 else float(room > 0)

    def obstacles(self, gate: Gate) -> tuple[str, ...]:
        """What the gate would ask for in vain, in words; empty if nothing."""
        found = []
        if self.effective_size < gate.select_headroom * gate.min_effective_size:
            found.append(f"windows that count like {self.effective_size:,.0f} are too few")
        if self.effective_share < min(1.0, gate.select_headroom * gate.min_effective_share):
            found.append(f"only {self.effective_share:.0%} of the windows count")
        if self.largest_weight_share > gate.max_weight_share:
            found.append(f"one window carries {self.largest_weight_share:.1%} of the weight")
        found += [
            f"{test.candidate.effective_events:,.0f} effective events of {test.outcome} are too few "
            f"({gate.harm_min_events:,.0f} needed)"
            for test in self.harms
            if test.candidate.effective_events < gate.harm_min_events
        ]
        return tuple(found)


@dataclass(frozen=True)
class Judgeable:
    """What a log can decide at one horizon.

    Attributes
    ----------
    horizon : int
    windows : int
        Behind these figures.
    value : float
        Mean return of a window under the log.
    freedom : float
        Share of the decisions in which the log leaves a choice.
    steps : tuple of Step
        One for each λ tried, for the gate's number of windows.
    """

    horizon: int
    windows: int
    value: float
    freedom: float
    steps: tuple[Step, ...]

    def grown(self, growth: float) -> Judgeable:
        """With `growth` times as many windows."""
        return replace(self, windows=round(self.windows * growth), steps=tuple(s.grown(growth) for s in self.steps))

    def best(self, gate: Gate) -> Step:
        """The step at which the smallest gain is found; the one with the fewest obstacles where none finds any."""
        return min(self.steps, key=lambda step: (step.detectable(gate), len(step.obstacles(gate))))

    def detectable(self, gate: Gate) -> float:
        """The smallest gain of a new policy a window, in units of the reward, that a gate would find.

        A policy can differ only where the log left a choice; the gain is taken to be spread evenly.
        """
        return self.best(gate).detectable(gate) / self.freedom if self.freedom else math.inf


def judgeable(
    sample: Sample,
    chosen: NDArray[np.int64],
    gate: Gate,
    free: float,
    growth: float = 1.0,
    mixes: Sequence[float] = MIXES,
) -> Judgeable:
    """What windows like these can decide.

    Parameters
    ----------
    sample : Sample
        Any windows; its harms are tested too.
    chosen : int array of shape (n,)
        The reference's action in each row, see `reference_action`.
    gate : Gate
    free : float
        See `freedom`.
    growth : float
        The gate's windows, as a multiple of the sample's.
    mixes : sequence of float
        The λ to try.
    """
    value = float((sample.rewards @ discounts(sample.windows.horizon, sample.discount)).mean())
    steps = tuple(_step(sample, chosen, gate, mix).grown(growth) for mix in mixes)
    return Judgeable(sample.windows.horizon, round(len(sample.windows) * growth), value, free, steps)


def _step(sample: Sample, chosen: NDArray[np.int64], gate: Gate, mix: float) -> Step:
    follows = chosen == sample.action
    target = np.minimum((1 - mix) * sample.propensity + mix * follows, 1.0)
    weight = cumulative_weights(target, sample.propensity, sample.windows)
    # Weights average 1, so that a mean reward may be taken off each step: it only takes noise away.
    centred = np.where(sample.windows.alive, sample.rewards - sample.rewards.mean(axis=0), 0.0)
    gain = ((weight - 1) * centred) @ discounts(weight.shape[1], sample.discount)
    weights = {"candidate": weight, "incumbent": np.ones_like(weight)}
    return Step(
        mix=mix,
        effective_size=effective_size(weight[:, -1]),
        effective_share=effective_size(weight[:, -1]) / len(weight),
        largest_weight_share=largest_share(weight[:, -1]),
        error=sample.clusters.mean(gain).standard_error,
        harms=tuple(compare_harm(sample, weights, outcome, gate) for outcome in sample.harms),
    )


def replayed(
    transitions: Transitions,
    probabilities: FloatArray,
    stratum: NDArray[np.int64],
    cost: FloatArray,
    random: np.random.Generator,
) -> Transitions:
    """The same log as if its actions had been drawn with other probabilities.

    A row whose action changes takes reward and outcomes from some row of its stratum that had that action. Where none
    had, it keeps its own and pays the other cost. What such a log says of a policy's value is worth nothing; its
    weights and its noise are those that a log of such draws would show.

    Parameters
    ----------
    transitions : Transitions
    probabilities : array of shape (n, n_actions)
        Rows sum to 1.
    stratum : int array of shape (n,)
        Customers of a kind: who earn alike whatever is done.
    cost : array of shape (n_actions,)
        Of one contact, in units of the reward.
    """
    logged, settled = transitions.action, ~transitions.open
    action = draw(probabilities, random.random(len(transitions)))
    donor = np.arange(len(transitions))
    pays = np.zeros(len(transitions), dtype=np.float32)
    for a in range(transitions.n_actions):
        changes = settled & (action == a) & (logged != a)
        pays[changes] = cost[a] - cost[logged[changes]]
        for kind in np.unique(stratum):
            had = np.flatnonzero(settled & (logged == a) & (stratum == kind))
            gets = np.flatnonzero(changes & (stratum == kind))
            if len(had):
                donor[gets] = random.choice(had, len(gets))
                pays[gets] = 0
    return replace(
        transitions,
        action=np.where(settled, action, logged).astype(logged.dtype),
        propensity=np.where(settled, probabilities[np.arange(len(action)), action], np.nan),
        reward=transitions.reward[donor] - pays,
        outcomes=transitions.outcomes[donor],
    )


def epochs_until(now: Judgeable, gate: Gate, gain: float, windows_each: float, longest: int = 260) -> int | None:
    """How many epochs of such a log it takes until a gate would find a gain.

    Parameters
    ----------
    now : Judgeable
        Of a log as it will be (see `replayed`).
    gate : Gate
    gain : float
        Of a new policy, a window, in units of the reward.
    windows_each : float
        Windows a customer has in the log behind `now`.
    longest : int
        Epochs to look ahead.

    Returns
    -------
    int or None
        None: not within `longest`.
    """
    for epochs in range(now.horizon, longest + 1):
        growth = (epochs // now.horizon) / windows_each
        if now.grown(growth).detectable(gate) <= gain:
            return epochs
    return None


def _supported(behaviour: FloatArray, eligible: BoolArray, support: float) -> BoolArray:
    """`policy.supported`, with rows that allow nothing left empty instead of refused."""
    allowed = np.zeros(eligible.shape, dtype=bool)
    some = np.where(eligible, behaviour, 0.0).max(axis=1) > 0
    allowed[some] = supported(behaviour[some], eligible[some], support)
    return allowed
