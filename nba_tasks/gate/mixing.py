"""Choose λ, the new policy's share, on the select split: the one that promises the largest certified gain.

The gain that a gate certifies is its lower bound, if every rule passes: λ maximises predicted lower bound × predicted
power. The bound alone would be pushed to where the power is just what is asked for, and fail there one time in five.
And a failure costs more than one gain: it spends α, and the loop stands still until the next candidate. So a bold λ is
taken only where none is nearly sure to pass.

Harms are rare: the select split alone foresees them so poorly that the boldest λ would be taken wherever it was lucky.
The learn split is asked as well. It has taught the candidate to avoid the harms that it saw, which flatters a little
(by less than one in 10,000 decisions in the sales channels, of five that are tolerated). Only the choice of λ rests on
that; whatever is chosen, the gate's own customers judge.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from nba_tasks.bounds import Clusters, spent_alpha
from nba_tasks.estimators import Critic, effective_size, largest_share
from nba_tasks.gate.harms import HarmTest, Part, compare_events
from nba_tasks.gate.rules import unusable_propensities
from nba_tasks.gate.sample import GateError, Sample
from nba_tasks.gate.weights import unsupported_mass
from nba_tasks.programme import Gate

Floats = NDArray[np.float64]

MIXES = tuple(round(0.05 * step, 2) for step in range(1, 21))
"""The shares tried by default."""

RESAMPLES, MOST_DRAWN = 1_000, 5_000_000
"""Of the harms that may come: how often a rule passes is counted in them. Fewer where many are drawn."""

SURE_POWER = 0.95
"""A step with at least this predicted power is taken before any bolder one, one with `min_power` before the rest."""


@dataclass(frozen=True)
class MixForecast:
    """What the select split predicts of one λ at the gate.

    Attributes
    ----------
    mix : float
        λ.
    estimate : float
        Δ on the select split.
    predicted_lower : float
        Its lower bound with the standard error scaled to the gate's number of customers.
    effective_size, effective_share, largest_weight_share : float
        Of the select split's weights.
    power_value : float
        Predicted probability that the value rule passes.
    power_harm : mapping of harm to float
        The same of each harm rule, which also asks for enough events.
    power : float
        At least this probability that all of them pass (Bonferroni), with the select split's own noise reckoned in.
    power_at_estimate : float
        The same if the gain is what it seems: the power of the test at the estimate. Whether the gate is opened goes by
        it, since an unlucky select split would otherwise keep real gains from the gate.
    obstacles : tuple of str
        Why this λ does not qualify; empty if it does.
    """

    mix: float
    estimate: float
    predicted_lower: float
    effective_size: float
    effective_share: float
    largest_weight_share: float
    power_value: float
    power_harm: dict[str, float]
    power: float
    power_at_estimate: float
    obstacles: tuple[str, ...]


@dataclass(frozen=True)
class MixChoice:
    """The chosen λ, or why the gate is not opened.

    Attributes
    ----------
    mix : float or None
        None: no λ qualifies, the gate is not opened and no α is spent.
    forecasts : tuple of MixForecast
        Every λ tried.
    reasons : tuple of str
        Empty where a λ was chosen.
    """

    mix: float | None
    forecasts: tuple[MixForecast, ...]
    reasons: tuple[str, ...]


def choose_mix(
    sample: Sample,
    candidate_at: Callable[[float], Floats],
    gate: Gate,
    *,
    gate_customers: int,
    mixes: Sequence[float] = MIXES,
    k: int = 1,
    critics_at: Callable[[float], tuple[Critic, Critic]] | None = None,
    taught: tuple[Sample, Callable[[float], Floats]] | None = None,
) -> MixChoice:
    """Try every λ on the select split.

    Parameters
    ----------
    sample : Sample
        Windows of the *select* split.
    candidate_at : callable
        From λ to the published probabilities, of shape (n, n_actions) (see `ServedPolicy.mixtures`).
    gate : Gate
    gate_customers : int
        Customers with windows in the gate split.
    mixes : sequence of float
        The shares to try; one, if the programme fixes λ.
    k : int
        The candidate's number in its family, as in `judge`.
    critics_at : callable, optional
        From λ to the candidate's and the incumbent's critic; without it PDIS predicts.
    taught : (Sample, callable), optional
        Windows of the *learn* split and, on its rows, what `candidate_at` is here: harms are foreseen from both.

    Raises
    ------
    GateError
        There is no λ to try or no customer at the gate.
    """
    if not mixes or gate_customers < 1:
        raise GateError("choosing the mix needs at least one λ and one customer at the gate")
    for split, asked in (("select", sample), *((("learn", taught[0]),) if taught else ())):
        if asked.n_unusable:
            broken = unusable_propensities(asked)
            return MixChoice(None, (), (f"on the {split} split, {broken.finding}. What would help: {broken.remedy}",))
    harms = _Harms.of(sample, gate, spent_alpha(gate.alpha, k), gate_customers, taught)
    incumbent = sample.weigh(sample.incumbent)
    forecasts = tuple(
        _forecast(
            sample, mix, candidate_at(mix), incumbent, gate, gate_customers, k, critics_at and critics_at(mix), harms
        )
        for mix in mixes
    )
    qualified = [forecast for forecast in forecasts if not forecast.obstacles]
    if not qualified:
        nearest = max(forecasts, key=lambda forecast: (-len(forecast.obstacles), forecast.power))
        return MixChoice(None, forecasts, tuple(f"at λ = {nearest.mix:g}: {why}" for why in nearest.obstacles))
    # The surest there are, before any bolder one.
    levels = ([f for f in qualified if f.power >= level] for level in (SURE_POWER, gate.min_power, 0.0))
    best = max(next(filter(None, levels)), key=lambda forecast: forecast.predicted_lower * forecast.power)
    return MixChoice(best.mix, forecasts, ())


@dataclass(frozen=True)
class _Harm:
    """One harm, and decisions at which the gate's customers may suffer it: so many in each resample.

    How much more the candidate harms is what the events show. How far that may scatter is not left to the few decisions
    that events fell on: where none of them happened to have a large weight, a bold λ would look safe. Any decision may
    be hit, at the rate of its action.

    Attributes
    ----------
    events, rate : arrays of shape (n_windows, horizon)
        Seen, and expected of the action logged.
    decisions : int array of shape (n_drawn,)
        Positions in `events`, laid out flat …
    resample : int array of shape (n_drawn,)
        … and to which resample each belongs.
    error : array of shape (n_resamples,)
        Standard normal: by how many standard errors the excess that the events show is off.
    """

    outcome: str
    events: Floats
    rate: Floats
    decisions: NDArray[np.int64]
    resample: NDArray[np.int64]
    error: Floats

    @classmethod
    def of(cls, outcome: str, events: Floats, action: NDArray[np.integer], growth: float) -> _Harm:
        """Draw what may come.

        Parameters
        ----------
        action : int array of shape (n_windows, horizon)
            Logged; -1 after the end.
        """
        random = np.random.default_rng(int(events.sum()))
        n = int(np.clip(MOST_DRAWN / max(growth * float(events.sum()), 1.0), 100, RESAMPLES))
        rate, decisions, resample = np.zeros(events.shape), [], []
        for a in range(int(action.max()) + 1):
            where = np.flatnonzero(action == a)
            if not len(where):
                continue
            seen = float(events.ravel()[where].sum())
            rate.ravel()[where] = seen / len(where)
            # The rate is uncertain (gamma, with Jeffreys' prior), and so is how often it strikes the gate (Poisson).
            counts = random.poisson(random.gamma(seen + 0.5, growth, n))
            decisions.append(random.choice(where, counts.sum()))
            resample.append(np.repeat(np.arange(n), counts))
        return cls(
            outcome, events, rate, np.concatenate(decisions), np.concatenate(resample), random.standard_normal(n)
        )

    def power(self, test: HarmTest, weights: dict[str, Floats], alpha: float, gate: Gate, growth: float) -> float:
        """The share of resamples in which the rule passes: its bound within what is allowed, and enough events."""
        adds = weights["candidate"] - test.factor * weights["incumbent"]
        scatter = math.sqrt(test.wider * float((adds**2 * self.rate).mean()) / adds.size)
        off = test.excess.value - float((adds * self.rate).mean()) + self.error * scatter
        hit, mine = adds.ravel()[self.decisions], weights["candidate"].ravel()[self.decisions]
        due = growth * adds.size

        def resampled(values: Floats) -> Floats:
            return np.asarray(np.bincount(self.resample, weights=values, minlength=len(self.error)), dtype=np.float64)

        raising, lowering = (
            Part(resampled(part) / due, test.wider * resampled(part**2) / due**2, known.next_event / growth)
            for part, known in ((np.maximum(hit, 0.0), test.raising), (np.maximum(-hit, 0.0), test.lowering))
        )
        upper = raising.rate - lowering.rate + off + np.hypot(raising.above(alpha), lowering.below(alpha))
        squares = resampled(mine**2)
        effective = np.divide(resampled(mine) ** 2, squares, out=np.zeros_like(squares), where=squares > 0)
        return float(((upper <= test.allowed) & (effective >= gate.harm_min_events)).mean())


@dataclass(frozen=True)
class _Harms:
    """What harms are foreseen from: the select split's windows, behind them those of the learn split."""

    taught: tuple[Sample, Callable[[float], Floats]] | None
    gate: Gate
    alpha: float
    harms: tuple[_Harm, ...]
    clusters: Clusters
    incumbent: Floats
    growth: float

    @classmethod
    def of(
        cls,
        sample: Sample,
        gate: Gate,
        alpha: float,
        gate_customers: int,
        taught: tuple[Sample, Callable[[float], Floats]] | None,
    ) -> _Harms:
        samples = [sample, *((taught[0],) if taught else ())]
        customers = np.concatenate([one.windows.customer for one in samples])
        clusters = Clusters(customers)
        growth = gate_customers / clusters.n
        action = np.concatenate([np.where(one.windows.alive, one.action[one.windows.rows], -1) for one in samples])
        harms = tuple(
            _Harm.of(outcome, np.concatenate([one.events(outcome) for one in samples]), action, growth)
            for outcome in sample.harms
        )
        incumbent = np.concatenate([one.weigh(one.incumbent) for one in samples])
        return cls(taught, gate, alpha, harms, clusters, incumbent, growth)

    def power(self, mix: float, weight: Floats) -> dict[str, float]:
        """Of each harm's rule for the candidate at a λ; `weight` is the select split's."""
        if self.taught:
            learn, candidate_at = self.taught
            weight = np.concatenate([weight, learn.weigh(candidate_at(mix))])
        weights = {"candidate": weight, "incumbent": self.incumbent}
        found = {}
        for harm in self.harms:
            test = compare_events(harm.events, self.clusters, weights, harm.outcome, self.gate)
            found[harm.outcome] = harm.power(test, weights, self.alpha, self.gate, self.growth)
        return found


def _forecast(
    sample: Sample,
    mix: float,
    candidate: Floats,
    incumbent: Floats,
    gate: Gate,
    gate_customers: int,
    k: int,
    critics: tuple[Critic, Critic] | None,
    harms: _Harms,
) -> MixForecast:
    weight = sample.weigh(candidate)
    alpha = spent_alpha(gate.alpha, k)
    growth = gate_customers / sample.clusters.n
    difference = sample.clusters.mean(sample.paired(weight, incumbent, critics))
    expected = difference.grown(growth)
    predicted_lower = expected.lower(alpha)
    # What is forecast differs from what the gate will see by the noise of both.
    room = predicted_lower - gate.margin
    power_value = _power(room, expected.standard_error * math.sqrt(1 + growth))
    power_harm = harms.power(mix, weight)
    smallest = min(effective_size(weight[:, -1]), effective_size(incumbent[:, -1]))
    largest = max(largest_share(weight[:, -1]), largest_share(incumbent[:, -1]))
    forecast = MixForecast(
        mix=mix,
        estimate=difference.value,
        predicted_lower=predicted_lower,
        effective_size=smallest,
        effective_share=smallest / len(weight),
        largest_weight_share=largest,
        power_value=power_value,
        power_harm=power_harm,
        power=_all_of(power_value, *power_harm.values()),
        power_at_estimate=_all_of(_power(room, expected.standard_error), *power_harm.values()),
        obstacles=(),
    )
    mass = unsupported_mass(sample, candidate, gate.min_propensity)
    return MixForecast(**{**asdict(forecast), "obstacles": _obstacles(forecast, gate, growth, mass)})


def _all_of(*powers: float) -> float:
    """At least this probability that all of them come about (Bonferroni)."""
    return max(0.0, 1 - sum(1 - power for power in powers))


def _power(room: float, error: float) -> float:
    """Probability that a normal estimate whose mean lies `room` inside its limit does not leave it."""
    if error == 0 or not math.isfinite(error):
        return float(room > 0 and error == 0)
    return float(ndtr(room / error))


def _obstacles(forecast: MixForecast, gate: Gate, growth: float, unsupported: float) -> tuple[str, ...]:
    found = []
    size, share = gate.select_headroom * gate.min_effective_size, gate.select_headroom * gate.min_effective_share
    if forecast.effective_size < size:
        found.append(f"the select split counts like {forecast.effective_size:,.0f} windows; {size:,.0f} are asked for")
    if forecast.effective_share < min(share, 1.0):
        found.append(f"its effective share is {forecast.effective_share:.1%}; {share:.1%} are asked for")
    if forecast.largest_weight_share / growth > gate.max_weight_share:
        found.append(f"one window carries {forecast.largest_weight_share:.1%} of the weight")
    if unsupported > gate.min_propensity:
        found.append(f"{unsupported:.1%} of its decisions lie where the log all but never acts")
    if forecast.power_at_estimate < gate.min_power:
        parts = [f"value {forecast.power_value:.0%}", *(f"{n} {p:.0%}" for n, p in forecast.power_harm.items())]
        found.append(
            f"if it gains what it seems to, the gate would pass it with a probability of "
            f"{forecast.power_at_estimate:.0%} (reckoning with chance: {', '.join(parts)}); "
            f"{gate.min_power:.0%} are asked for"
        )
    return tuple(found)
