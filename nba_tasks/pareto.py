"""What other weights would choose, and what that would cost: one objective weighed from little to much.

Each weight is learned anew from the learn split and looked at on the select split, which nobody learned from. The
gate's own split stays closed: looking at it here would spend what a verdict needs.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nba_tasks.bounds import Estimate
from nba_tasks.critics import Loss
from nba_tasks.dataset import Catalogue, Transitions
from nba_tasks.estimators import effective_size, on_windows, self_normalised_per_decision
from nba_tasks.gate import Sample
from nba_tasks.learners.behaviour import BehaviourModel
from nba_tasks.loading import Loaded, load
from nba_tasks.policy import Floats, ServedPolicy
from nba_tasks.programme import Programme
from nba_tasks.train import fit_values, reading
from nba_tasks.windows import cut_windows

MULTIPLES = (0.0, 0.5, 1.0, 2.0, 4.0)
"""Of today's weight, where no weights are asked for."""


class ParetoError(ValueError):
    """Weights that cannot be compared; the message says what to give."""


@dataclass(frozen=True)
class Weighed:
    """What one weight would have chosen.

    Attributes
    ----------
    weight : float or None
        Of one event; None for what was logged.
    shares : array of shape (n_actions,)
        Mean probability of each action over the decisions looked at.
    value : Estimate
        Of a window, at today's weights.
    outcomes : dict of str to Estimate
        Of a window, undiscounted.
    effective_size : float
        Windows that speak of this choice; few of them make wide intervals.
    """

    weight: float | None
    shares: Floats
    value: Estimate
    outcomes: dict[str, Estimate]
    effective_size: float


def weights_of(programme: Programme, event: str, asked: Sequence[float]) -> tuple[float, ...]:
    """The weights to compare: those asked for, else multiples of today's.

    Raises
    ------
    ParetoError
        There is no such event, or it has no weight to multiply and none was asked for.
    """
    if event not in programme.events:
        raise ParetoError(f"{programme.programme} has no event {event!r}; it has {', '.join(programme.events)}")
    today = programme.events[event].weight
    if not asked and not today:
        raise ParetoError(f"{event} weighs nothing today: say which weights to compare, e.g. --weight=-1 --weight=-5")
    return tuple(asked) or tuple(today * multiple + 0.0 for multiple in MULTIPLES)  # 0 has no sign


def sweep(
    programme: Programme,
    catalogue: Catalogue,
    learn: Transitions,
    judged: Loaded,
    event: str,
    weights: Sequence[float],
    *,
    seed: int = 0,
    mix: float = 1.0,
) -> Iterator[Weighed]:
    """What was logged, then what each weight of an event would choose, as soon as it is known.

    Parameters
    ----------
    learn : Transitions
    judged : Loaded
        Of other customers.
    mix : float
        λ: how far from business as usual; less is surer to be estimated.
    """
    learn.check()
    learn.require_choice()
    data = judged.transitions
    data.check()
    behaviour = BehaviourModel.fit(learn, seed=seed)
    likely = behaviour.probabilities(learn.state, learn.eligible_target)
    usual = behaviour.probabilities(data.state, data.eligible_target)
    sample = Sample.of(
        data,
        cut_windows(data, programme.gate.horizon, judged.last_epoch),
        behaviour=behaviour.probabilities(data.state, data.eligible_logged),
        incumbent=usual,
        discount=programme.learning.discount,
        lost_charge=Loss.of(programme, learn).charge(data),
    )
    yield _logged(sample, data)
    of_event = learn.outcomes[:, learn.outcome_names.index(event)]
    for weight in weights:
        more = np.float32(weight - programme.events[event].weight)
        weighed = replace(learn, reward=learn.reward + more * of_event)
        q = fit_values(programme, weighed, catalogue, likely, seed).q
        served = ServedPolicy(behaviour, q, behaviour, programme.layers.support, mix, epsilon=0.0)
        chosen = served.serve(q.values(data.state), usual, usual, data.eligible_target)
        yield _looked_at(sample, weight, chosen[sample.rows].mean(axis=0), sample.weigh(chosen))


def _logged(sample: Sample, data: Transitions) -> Weighed:
    shares = np.bincount(sample.action[sample.rows], minlength=data.n_actions) / len(sample.rows)
    return _looked_at(sample, None, shares, np.ones(sample.windows.rows.shape))


def _looked_at(sample: Sample, weight: float | None, shares: Floats, weights: Floats) -> Weighed:
    def of(column: Floats, discount: float) -> Estimate:
        return sample.clusters.mean(self_normalised_per_decision(weights, column, discount))

    return Weighed(
        weight=weight,
        shares=shares,
        value=of(sample.rewards, sample.discount),
        outcomes={
            name: of(on_windows(sample.outcomes[:, column], sample.windows), 1.0)
            for column, name in enumerate(sample.outcome_names)
        },
        effective_size=effective_size(weights[:, -1]),
    )


def look(
    programme: Programme,
    as_of: dt.date,
    event: str,
    asked: Sequence[float],
    *,
    seed: int,
    mix: float,
    say: Callable[[str], None],
) -> None:
    """Learn and compare, telling each line as soon as it is known; nothing is kept, registered or published.

    Raises
    ------
    ParetoError, BatchError, TransitionsError, DatasetError
        See `weights_of`; or the date has no history, or not enough of it.
    """
    weights = weights_of(programme, event, asked)
    with reading(programme, as_of) as (connection, source):
        learn = load(connection, source.shape, "learn", programme.learning.max_customers).transitions
        judged = load(connection, source.shape, "select", programme.gate.max_customers)
    new = source.shape.new(learn.decisions_for())
    learn, judged = learn.without(new), replace(judged, transitions=judged.transitions.without(new))
    outcomes = [name for name in learn.outcome_names if learn.outcomes[:, learn.outcome_names.index(name)].any()]
    say(heading(programme, source.catalogue, outcomes))
    for weighed in sweep(programme, source.catalogue, learn, judged, event, weights, seed=seed, mix=mix):
        say(line(weighed, event, outcomes, programme.gate.alpha))


WIDTH = 16


def heading(programme: Programme, catalogue: Catalogue, outcomes: Sequence[str]) -> str:
    """The columns' names, under what one figure is."""
    columns = ["counts like", "value today", *outcomes, *catalogue.ids]
    return (
        f"Of 1,000 customers in {programme.gate.horizon} decisions; value at today's weights, ± "
        f"{1 - programme.gate.alpha:.0%}; each action's share of the decisions; and how many windows the figures "
        "rest on: of few, no interval can be trusted.\n"
        f"{'':>22}" + "".join(f"{column[: WIDTH - 1]:>{WIDTH}}" for column in columns)
    )


def line(weighed: Weighed, event: str, outcomes: Sequence[str], alpha: float) -> str:
    """One weight's figures."""
    name = "logged" if weighed.weight is None else f"{event} {weighed.weight:g}"
    estimates = [weighed.value, *(weighed.outcomes[outcome] for outcome in outcomes)]
    cells = [f"{weighed.effective_size:,.0f}", *(_per_thousand(estimate, alpha) for estimate in estimates)]
    cells += [f"{share:.0%}" for share in weighed.shares]
    return f"{name[:22]:>22}" + "".join(f"{cell:>{WIDTH}}" for cell in cells)


def _per_thousand(estimate: Estimate, alpha: float) -> str:
    lower, upper = estimate.interval(alpha)
    return f"{1000 * estimate.value:,.0f} ± {500 * (upper - lower):,.0f}"
