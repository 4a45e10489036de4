"""What every single action would earn: the simplest policies there are, estimated from the log like any other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nba_tasks.bounds import Clusters, Estimate
from nba_tasks.dataset import Catalogue, Transitions
from nba_tasks.estimators import cumulative_weights, on_windows, self_normalised_per_decision
from nba_tasks.windows import Windows


@dataclass(frozen=True)
class SingleAction:
    """The self-normalised estimate of "always this action" for one objective, per window.

    Attributes
    ----------
    customers : int
        With at least one window whose logged actions agree with the policy.
    """

    action_id: str
    outcome: str
    customers: int
    estimate: Estimate


def single_actions(
    transitions: Transitions, windows: Windows, catalogue: Catalogue, discount: float
) -> Iterator[SingleAction]:
    """Estimate "always action a", for every action and objective, on windows with logged propensities.

    Parameters
    ----------
    transitions : Transitions
    windows : Windows
        Those with a decision whose propensity was not logged are refused by the estimator.
    discount : float
        γ per decision.

    Raises
    ------
    EstimatorError
        A propensity in a window is missing.
    """
    clusters = Clusters(windows.customer)
    for index, action_id in enumerate(catalogue.ids):
        target = (transitions.action == index).astype(np.float64)
        weight = cumulative_weights(target, transitions.propensity, windows)
        followed = int(np.count_nonzero(clusters.sums(weight[:, -1])))
        if not followed:
            continue
        objectives = {
            "reward": transitions.reward,
            **dict(zip(transitions.outcome_names, transitions.outcomes.T, strict=True)),
        }
        for outcome, column in objectives.items():
            values = self_normalised_per_decision(weight, on_windows(column, windows), discount)
            yield SingleAction(action_id, outcome, followed, clusters.mean(values))
