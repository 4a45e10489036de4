"""What a gate shows beside its verdict: policies, baselines and the state's columns become the arrays that it takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nba_tasks.dataset import Catalogue, FloatArray
from nba_tasks.estimators import Critic, effective_size
from nba_tasks.gate import Sample
from nba_tasks.gate.exhibits import LEARNED, Alternative, Exhibits, StateFeature, collect
from nba_tasks.learners.baselines import Preference, surest
from nba_tasks.learners.look_alikes import LookAlikes
from nba_tasks.policy import Floats, ServedPolicy
from nba_tasks.programme import CustomerFeature, Feature, Programme, TimeFeature

if TYPE_CHECKING:
    from nba_tasks.trial import Side

NO_CONTACT = 0
"""Index of `no_action`."""

MIN_FOLLOWED = 50.0
"""Effective windows below which nothing is said of "always this action"."""


@dataclass(frozen=True)
class Evaluated:
    """One split with all that values a policy on it.

    Attributes
    ----------
    side : Side
    sample : Sample
        Its windows.
    values : array of shape (horizon, n, n_actions)
        A model's action values by steps to go (the candidate's): a critic of any policy, if not a good one.
    """

    side: Side
    sample: Sample
    values: FloatArray

    def valued(self, name: str, probabilities: Floats) -> Alternative:
        """A policy to compare with."""
        return Alternative(name, "baseline", probabilities, self.side.critic(self.values, probabilities))


def exhibits(
    programme: Programme,
    catalogue: Catalogue,
    served: ServedPolicy,
    look_alikes: LookAlikes | None,
    *,
    select: Evaluated,
    judged: Evaluated,
    critics: tuple[Critic, Critic],
) -> Exhibits:
    """Everything that is shown of one judged candidate.

    Parameters
    ----------
    served : ServedPolicy
        The candidate as it would be published.
    look_alikes : LookAlikes, optional
    select, judged : Evaluated
        The splits that chose and judged it.
    critics : (candidate's Critic, incumbent's Critic)
        That the gate decided by.
    """
    side, alpha = judged.side, programme.gate.alpha
    return collect(
        judged.sample,
        side.data,
        Alternative("candidate", "candidate", side.candidate(served, served.mix), critics[0]),
        Alternative("incumbent", "incumbent", side.incumbent, critics[1]),
        baselines=_baselines(served, look_alikes, judged, catalogue, best_single_action(select, alpha)),
        explored=lambda epsilon: judged.valued("", side.candidate(replace(served, epsilon=epsilon), served.mix)),
        q=side.q,
        learned=side.candidate(replace(served, mix=1.0, epsilon=0.0), 1.0),
        features=[state_feature(feature) for feature in programme.state],
        action_ids=catalogue.ids,
        alpha=alpha,
    )


def best_single_action(select: Evaluated, alpha: float) -> int | None:
    """The action that "always this one, else no action" gains most with, by its lower bound on the select split.

    Returns
    -------
    int or None
        Its index; None where too few windows follow any action.
    """
    if select.sample.n_unusable:
        return None
    bounds: dict[int, float] = {}
    for action in range(1, select.side.data.n_actions):
        policy = _always(action, select.side)
        weight = select.sample.weigh(policy)
        # Where nothing follows an action, DR would repeat the model's opinion of it, and be very sure.
        if effective_size(weight[:, -1]) >= MIN_FOLLOWED:
            influence = select.sample.influence(weight, select.valued("", policy).critic)
            bounds[action] = select.sample.clusters.mean(influence).lower(alpha)
    return max(bounds, key=lambda action: bounds[action], default=None)


def _baselines(
    served: ServedPolicy, look_alikes: LookAlikes | None, judged: Evaluated, catalogue: Catalogue, single: int | None
) -> Iterator[Alternative]:
    """The policies that a candidate is compared with, from the most to the least learned."""
    side, alone = judged.side, replace(served, epsilon=0.0)  # the simpler ones do not explore either
    yield judged.valued(LEARNED, side.candidate(alone, 1.0))
    for name, q in (look_alikes.values(side.data.state) if look_alikes else {}).items():
        yield judged.valued(name, side.candidate(alone, 1.0, q))
    yield judged.valued("behaviour cloning", surest(side.behaviour_target, side.data.eligible_target))
    if single is not None:
        yield judged.valued(f"best single action ({catalogue.ids[single]})", _always(single, side))
    if side.data.eligible_target[:, NO_CONTACT].any():
        yield judged.valued("no contact", _always(NO_CONTACT, side))


def _always(action: int, side: Side) -> Floats:
    """Probabilities of taking one action wherever it is eligible, else none."""
    return Preference([action, NO_CONTACT]).probabilities(side.data.state, side.data.eligible_target)


def state_feature(feature: Feature) -> StateFeature:
    """A feature with the names of its categories, and of the value that stands for "missing"."""
    match feature:
        case TimeFeature():
            return StateFeature(feature.name)
        case CustomerFeature():
            categories = {float(position): name for position, name in enumerate(feature.categories)}
            names = {float(feature.missing): "unknown"} | categories
            return StateFeature(feature.name, names, categorical=bool(categories))
        case _ if feature.measure.startswith("days_since"):
            return StateFeature(feature.name, {float(feature.missing): "never"})
        case _:
            return StateFeature(feature.name)
