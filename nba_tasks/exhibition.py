"""What a gate shows beside its verdict: policies, baselines and the state's columns become the arrays that it takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from nba_tasks.dataset import Catalogue, FloatArray
from nba_tasks.estimators import Critic
from nba_tasks.gate import Sample
from nba_tasks.gate.exhibits import Alternative, Exhibits, StateFeature, collect
from nba_tasks.learners.baselines import BehaviourCloning, no_contact
from nba_tasks.policy import Floats, Policy, ServedPolicy, explore, supported
from nba_tasks.programme import CustomerFeature, Feature, Programme, TimeFeature

if TYPE_CHECKING:
    from nba_tasks.trial import Side


def exhibits(
    programme: Programme,
    catalogue: Catalogue,
    served: ServedPolicy,
    side: Side,
    sample: Sample,
    critics: tuple[Critic, Critic],
    values: FloatArray,
    baselines: Mapping[str, Policy],
) -> Exhibits:
    """Everything that is shown of one judged candidate.

    Parameters
    ----------
    served : ServedPolicy
        The candidate as it would be published.
    side : Side
        The gate split.
    sample : Sample
        Its windows, as they were judged.
    critics : (candidate's Critic, incumbent's Critic)
        That the gate decided by.
    values : array of shape (horizon, n, n_actions)
        The candidate's modelled action values by steps to go: the critic of every other policy.
    baselines : mapping of name to Policy
        Learned ones; the simple ones are known here.
    """
    data = side.data
    alone = replace(served, mix=1.0, epsilon=0.0)

    def valued(name: str, probabilities: Floats) -> Alternative:
        return Alternative(name, "baseline", probabilities, side.critic(values, probabilities))

    def compared() -> Iterator[Alternative]:
        yield valued("learned policy, unmixed", side.candidate(served, 1.0))
        for name, policy in {**baselines, **_simple(served)}.items():
            yield valued(name, policy.probabilities(data.state, data.eligible_target))

    certain = side.candidate(replace(served, epsilon=0.0), served.mix)
    allowed = supported(side.behaviour_target, data.eligible_target, served.support)
    return collect(
        sample,
        data,
        Alternative("candidate", "candidate", side.candidate(served, served.mix), critics[0]),
        Alternative("incumbent", "incumbent", side.incumbent, critics[1]),
        baselines=compared(),
        explored=lambda epsilon: valued("", explore(certain, allowed, epsilon)),
        q=side.q,
        learned=side.candidate(alone, 1.0),
        features=[state_feature(feature) for feature in programme.state],
        action_ids=catalogue.ids,
        alpha=programme.gate.alpha,
    )


def _simple(served: ServedPolicy) -> dict[str, Policy]:
    """Policies that nothing needs to be learned for."""
    return {"behaviour cloning": BehaviourCloning(served.behaviour), "no contact": no_contact()}


def state_feature(feature: Feature) -> StateFeature:
    """A feature with the names of its categories, and of the value that stands for "missing"."""
    match feature:
        case TimeFeature():
            return StateFeature(feature.name)
        case CustomerFeature():
            categories = {float(position): name for position, name in enumerate(feature.categories)}
            return StateFeature(feature.name, {float(feature.missing): "unknown"} | categories)
        case _ if feature.measure.startswith("days_since"):
            return StateFeature(feature.name, {float(feature.missing): "never"})
        case _:
            return StateFeature(feature.name)
