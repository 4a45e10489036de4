"""All exhibits of one gate, from the arrays that it was held on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from nba_tasks.dataset import FloatArray, Transitions
from nba_tasks.gate.exhibits.bands import StateFeature
from nba_tasks.gate.exhibits.choices import ActionShare, StateMap, action_mix, state_map
from nba_tasks.gate.exhibits.reliance import Calibration, TailPoint, calibration, weight_tail
from nba_tasks.gate.exhibits.segments import Segment, segments
from nba_tasks.gate.exhibits.values import (
    Alternative,
    ExplorationValue,
    LearnedGain,
    PolicyValue,
    exploration_values,
    policy_values,
)
from nba_tasks.gate.sample import Sample

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Exhibits:
    """What a report shows beside the verdict; keys of `report.json` by their names.

    Empty, but for `action_mix`, `calibration` and `state_map`, where unusable propensities let nothing be estimated.
    """

    policies: tuple[PolicyValue, ...] = ()
    learned_gains: tuple[LearnedGain, ...] = ()
    segments: tuple[Segment, ...] = ()
    action_mix: tuple[ActionShare, ...] = ()
    weight_tail: Mapping[str, tuple[TailPoint, ...]] = field(default_factory=dict)
    calibration: tuple[Calibration, ...] = ()
    value_by_epsilon: tuple[ExplorationValue, ...] = ()
    state_map: StateMap | None = None


def collect(
    sample: Sample,
    data: Transitions,
    candidate: Alternative,
    incumbent: Alternative,
    *,
    baselines: Iterable[Alternative],
    explored: Callable[[float], Alternative],
    q: FloatArray,
    learned: FloatArray,
    features: Sequence[StateFeature],
    action_ids: Sequence[str],
    alpha: float,
) -> Exhibits:
    """Compute every exhibit.

    Parameters
    ----------
    sample : Sample
        Windows of the gate's customers.
    data : Transitions
        The rows that the sample was cut from.
    candidate, incumbent : Alternative
        As they would be published, with the critics that the gate decided by.
    baselines : iterable of Alternative
        Other policies to value.
    explored : callable
        From ε to the candidate exploring so much.
    q, learned : arrays of shape (n, n_actions)
        The learned action values, and the probabilities of the learned policy alone: unmixed, without exploration.
    features : sequence of StateFeature, length n_features
    action_ids : sequence of str, length n_actions
    alpha : float
        Intervals are two-sided and hold with probability 1 − α, each by itself.
    """
    choice, rows = learned.argmax(axis=1), sample.rows
    chosen = q[rows, choice[rows]]
    behaviour = calibration(sample.behaviour, data.action, data.eligible_logged, action_ids, alpha)
    mix = action_mix(sample, candidate.probabilities, action_ids)
    eligible = np.unique(data.eligible_target, axis=0, return_inverse=True)[1].reshape(-1)
    states = state_map(data.state[rows], features, choice[rows], eligible[rows], chosen, action_ids)
    if sample.n_unusable:
        return Exhibits(action_mix=mix, calibration=behaviour, state_map=states)
    weights = {one.policy: sample.weigh(one.probabilities) for one in (candidate, incumbent)}
    mine, theirs = (sample.influence(weights[one.policy], one.critic) for one in (candidate, incumbent))
    policies, learned_gains = policy_values(sample, chain([candidate, incumbent], baselines), alpha)
    return Exhibits(
        policies=policies,
        learned_gains=learned_gains,
        segments=segments(sample, mine - theirs, data.state, features, choice, eligible, alpha),
        action_mix=mix,
        weight_tail={policy: weight_tail(weight[:, -1]) for policy, weight in weights.items()},
        calibration=behaviour,
        value_by_epsilon=exploration_values(sample, explored, alpha),
        state_map=states,
    )
