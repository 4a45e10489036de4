"""What the gate looks at: windows of customers nobody learned from, and the probabilities of three policies there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nba_tasks.bounds import Clusters
from nba_tasks.dataset import BoolArray, FloatArray, IntArray, Transitions
from nba_tasks.estimators import (
    Critic,
    charged,
    cumulative_weights,
    doubly_robust,
    logged_action_probability,
    on_windows,
    per_decision,
)
from nba_tasks.windows import Windows

Floats = NDArray[np.float64]

ROUNDING = 1e-6
"""What critics, in single precision, may be off by: as a share of a window's value, for each unit of weight."""


class GateError(ValueError):
    """Input on which no verdict can be given; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Sample:
    """The evaluated windows with everything that does not depend on the candidate.

    Attributes
    ----------
    windows : Windows
    action : int array of shape (n,)
        Logged action of each row of the transitions.
    reward : float array of shape (n,)
        With the charge for lost customers.
    outcomes : float array of shape (n, n_outcomes)
    outcome_names : tuple of str
    harms : tuple of str
        The outcomes that count as harm.
    propensity : float array of shape (n,)
        Behaviour propensity of the logged action: the logged one, else the behaviour model's.
    logged : bool array of shape (n,)
        Where the propensity was logged.
    behaviour, incumbent : float arrays of shape (n, n_actions)
        Probabilities of every action under the behaviour model (rules of the day) and under the incumbent as it would
        be published (tonight's rules).
    discount : float
        γ per decision.
    """

    windows: Windows
    action: IntArray
    reward: FloatArray
    outcomes: FloatArray
    outcome_names: tuple[str, ...]
    harms: tuple[str, ...]
    propensity: FloatArray
    logged: BoolArray
    behaviour: FloatArray
    incumbent: FloatArray
    discount: float

    @classmethod
    def of(
        cls,
        transitions: Transitions,
        windows: Windows,
        *,
        behaviour: FloatArray,
        incumbent: FloatArray,
        discount: float,
        harms: tuple[str, ...] = (),
        lost_charge: FloatArray | float = 0.0,
    ) -> Sample:
        """Put transitions, their windows and the policies' probabilities together.

        Raises
        ------
        GateError
            There is no complete window, an unknown harm is named, or an array has the wrong shape or is no policy.
        """
        if len(windows) == 0:
            raise GateError(
                f"there is no complete window of {windows.horizon} decisions to judge on ({windows.n_dropped} were cut "
                "by the end of the log); wait for more settled epochs or shorten gate.horizon"
            )
        if unknown := sorted(set(harms) - set(transitions.outcome_names)):
            raise GateError(
                f"harm {', '.join(unknown)} is not among the outcomes {', '.join(transitions.outcome_names)}"
            )
        shape = (len(transitions), transitions.n_actions)
        rows = windows.rows[windows.alive]
        check_probabilities("the incumbent", incumbent, shape, rows)
        if behaviour.shape != shape:
            raise GateError(f"the behaviour model gives probabilities of shape {behaviour.shape}; expected {shape}")
        logged = ~np.isnan(transitions.propensity)
        at = np.arange(len(transitions))
        modelled = behaviour[at, np.maximum(transitions.action, 0)]
        return cls(
            windows=windows,
            action=transitions.action,
            reward=charged(transitions.reward, transitions.lost, lost_charge),
            outcomes=transitions.outcomes,
            outcome_names=transitions.outcome_names,
            harms=harms,
            propensity=np.where(logged, transitions.propensity, modelled),
            logged=logged,
            behaviour=behaviour,
            incumbent=incumbent,
            discount=discount,
        )

    @cached_property
    def clusters(self) -> Clusters:
        return Clusters(self.windows.customer)

    @cached_property
    def rewards(self) -> Floats:
        """Rewards of shape (n_windows, horizon), 0 after the end."""
        return on_windows(self.reward, self.windows)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Rows of every decision in a window, of shape (n_decisions,)."""
        return self.windows.rows[self.windows.alive]

    @cached_property
    def decided_by(self) -> IntArray:
        """The customer of every decision in a window, of shape (n_decisions,); in the order of `rows`."""
        return np.repeat(self.windows.customer, self.windows.alive.sum(axis=1))

    @property
    def logged_share(self) -> float:
        """Share of the decisions whose propensity was logged."""
        return float(self.logged[self.rows].mean())

    @property
    def n_unusable(self) -> int:
        """Decisions whose behaviour propensity is missing or outside (0, 1]."""
        propensity = self.propensity[self.rows]
        return int(np.count_nonzero(~((propensity > 0) & (propensity <= 1))))

    def weigh(self, probabilities: FloatArray) -> Floats:
        """Weights ρ_{0:t} of shape (n_windows, horizon) of a policy with `probabilities` (n, n_actions)."""
        target = logged_action_probability(probabilities, self.action, self.windows)
        return cumulative_weights(target, self.propensity, self.windows)

    def events(self, outcome: str) -> Floats:
        """How often an outcome came with each decision, of shape (n_windows, horizon); 0 after the end."""
        return on_windows(self.outcomes[:, self.outcome_names.index(outcome)], self.windows)

    def influence(self, weight: Floats, critic: Critic | None) -> Floats:
        """The deciding estimator's influence values: DR where there is a critic, else PDIS."""
        if critic is None:
            return per_decision(weight, self.rewards, self.discount)
        return doubly_robust(weight, self.rewards, self.discount, critic, self.windows.alive)

    def paired(self, candidate: Floats, incumbent: Floats, critics: tuple[Critic, Critic] | None) -> Floats:
        """What decides: the candidate's influence values less the incumbent's, of shape (n_windows,).

        What differs by no more than rounding does not differ. With a reward that no action changes, the lower bound of
        the rounding errors would otherwise be above 0.

        Parameters
        ----------
        candidate, incumbent : arrays of shape (n_windows, horizon)
            Their weights.
        critics : (candidate's Critic, incumbent's Critic), optional
        """
        mine, theirs = critics or (None, None)
        had = self.influence(incumbent, theirs)
        difference = self.influence(candidate, mine) - had
        largest = np.maximum(np.maximum(candidate, incumbent).max(axis=1), 1.0)
        return np.where(np.abs(difference) > ROUNDING * np.abs(had).mean() * largest, difference, 0.0)


def check_probabilities(whose: str, probabilities: FloatArray, shape: tuple[int, int], rows: NDArray[np.int64]) -> None:
    """Refuse arrays that are no policy on the given rows.

    Raises
    ------
    GateError
        Wrong shape, or a row is not finite, negative, or does not sum to 1.
    """
    if probabilities.shape != shape:
        raise GateError(f"{whose} gives probabilities of shape {probabilities.shape}; expected {shape}")
    used = probabilities[rows]
    if not np.isfinite(used).all() or (used < 0).any():
        raise GateError(f"{whose} gives a probability that is negative or not finite")
    if (worst := float(np.abs(used.sum(axis=1) - 1).max(initial=0))) > 1e-6:
        raise GateError(f"{whose} gives probabilities that do not sum to 1 (off by {worst:.2g} in the worst row)")


def check_splits(**customers: IntArray) -> None:
    """Refuse splits that share a customer: who taught or chose a policy cannot judge it.

    Parameters
    ----------
    **customers : int arrays
        The customers of each split, by its name.

    Raises
    ------
    GateError
        Names the two splits and one customer that is in both.
    """
    names = list(customers)
    for position, first in enumerate(names):
        for second in names[position + 1 :]:
            shared = np.intersect1d(customers[first], customers[second])
            if len(shared):
                raise GateError(
                    f"{len(shared)} customer(s) are in both the {first} and the {second} split, e.g. {shared[0]}; "
                    "nobody may judge a policy learned from them"
                )
