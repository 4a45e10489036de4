"""What every fitted Q iteration shares: the Bellman targets of a log, and the record of how they settle.

    target = r + γ · max over allowed a' of Q(s', a'),   nothing behind a terminal

With a trace λ, part of what follows is not Q's opinion but what the log saw:

    target = r + γ · ( (1 - λ) · max over allowed a' of Q(s', a')  +  λ · target of the next decision )

Peng's Q(λ). An effect that comes weeks after its cause, which a state hides or leaves blur, reaches the cause all the
same, and the targets settle in fewer sweeps: they shrink distances by γ (1 - λ) / (1 - γ λ) instead of γ. The price is
that the decisions in between were the log's: the fixed point is the value of planning ahead of a policy that follows
the log in a share λ of its decisions (T. Kozuno et al., "Revisiting Peng's Q(λ) for modern reinforcement learning",
ICML 2021, arXiv 2103.00107).

A learner is any function that fits this interface; `forest_q.fit_q` is the default, `refit_q.fit_q_by_refits` the one
that takes any regressor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from nba_tasks.dataset import BoolArray, Catalogue, DatasetError, FloatArray, IntArray, Transitions

OnSweep = Callable[[int, float], None]
"""Called with a sweep's number (from 1) and its Bellman residual."""


class QFunction(Protocol):
    """Scores of actions."""

    def values(self, state: FloatArray) -> NDArray[np.float32]:
        """Shape (n, n_actions), in reward units."""
        ...


Q = TypeVar("Q", bound=QFunction)
Q_co = TypeVar("Q_co", bound=QFunction, covariant=True)


@dataclass(frozen=True)
class FittedQ(Generic[Q_co]):
    """A learned Q-function and how it got there.

    Attributes
    ----------
    q : QFunction
    residuals : array of shape (sweeps,)
        Bellman residual of each sweep: the largest change of a target, as a share of the reward's standard deviation.
        (The maximum, because it cannot grow from one frozen sweep to the next; the root mean square can.)
    converged : bool
        The last residual is below the tolerance.
    """

    q: Q_co
    residuals: NDArray[np.float64]
    converged: bool


class Learner(Protocol[Q_co]):
    """From transitions to a Q-function; further settings have defaults."""

    def __call__(
        self,
        transitions: Transitions,
        catalogue: Catalogue,
        *,
        discount: float,
        supported: BoolArray | None = None,
        seed: int = 0,
        on_sweep: OnSweep | None = None,
    ) -> FittedQ[Q_co]:
        """Learn with γ = `discount` per decision interval; backups see eligible and `supported` actions only."""
        ...


@dataclass(frozen=True)
class Problem:
    """What stays the same in every sweep.

    Attributes
    ----------
    state : float32 array of shape (n, n_features)
    features : array of shape (n_actions, n_action_features)
    fitted : int array of shape (m,)
        Rows that have a target.
    action, reward, successor : arrays of shape (m,)
        Of the fitted rows; the successor is the row of the next state, -1 behind a terminal.
    allowed : bool array of shape (n, n_actions)
        What the backup may choose from.
    discount : float
    """

    state: NDArray[np.float32]
    features: FloatArray
    fitted: IntArray
    action: IntArray
    reward: NDArray[np.float64]
    successor: IntArray
    allowed: BoolArray
    discount: float

    @classmethod
    def of(
        cls, transitions: Transitions, catalogue: Catalogue, discount: float, supported: BoolArray | None
    ) -> Problem:
        """The problem that a log poses.

        Raises
        ------
        DatasetError
            No row has a target, or a next state has no action that is both eligible and supported.
        """
        allowed = np.asarray(transitions.eligible_target)
        if supported is not None:
            allowed = allowed & supported
        successor = transitions.next_row
        if discount == 0:
            fitted = np.flatnonzero(~transitions.open)
            successor = np.full(len(transitions), -1)
        else:
            fitted = np.flatnonzero(~transitions.open & (transitions.done | (successor >= 0)))
        if len(fitted) == 0:
            raise DatasetError(
                "no epoch has both an action and an end (a next state or `done`): there is nothing to learn"
            )
        successor = successor[fitted]
        bare = successor[(successor >= 0) & ~allowed[successor].any(axis=1)]
        if len(bare):
            raise DatasetError(
                f"customer {transitions.customer[bare[0]]}, epoch {transitions.epoch[bare[0]]}: no action is both "
                "eligible and supported; let no_action always be both"
            )
        return cls(
            state=np.ascontiguousarray(transitions.state, dtype=np.float32),
            features=catalogue.features,
            fitted=fitted,
            action=transitions.action[fitted],
            reward=transitions.reward[fitted].astype(np.float64),
            successor=successor,
            allowed=allowed,
            discount=discount,
        )

    def target(self, value: NDArray[np.float64], trace: float = 0.0) -> NDArray[np.float64]:
        """Targets of the fitted rows, given the value of every row's state; `trace` is λ in [0, 1]."""
        following = np.where(self.successor >= 0, value[self.successor], 0.0)
        found = self.reward + self.discount * following
        if trace > 0:
            for rows in self._by_steps_to_end:
                found[rows] += self.discount * trace * (found[rows + 1] - following[rows])
        return found

    @cached_property
    def _by_steps_to_end(self) -> list[NDArray[np.intp]]:
        """Fitted rows whose next decision is fitted too, nearest to their customer's last one first.

        Each customer's rows lie side by side in the order of time, so that the next decision of a row is the next row.
        """
        position = np.arange(len(self.fitted))
        goes_on = np.zeros(len(position), dtype=bool)
        goes_on[:-1] = self.successor[:-1] == self.fitted[1:]
        last = np.minimum.accumulate(np.where(goes_on, len(position), position)[::-1])[::-1]
        steps = last - position
        ordered = np.argsort(steps, kind="stable")
        return np.split(ordered, np.cumsum(np.bincount(steps)))[1:-1]


@dataclass
class Sweeps:
    """The targets as they move from sweep to sweep.

    Attributes
    ----------
    trace : float
        λ of the targets from the next sweep on.
    target : array of shape (m,)
        Of the problem's fitted rows; at first the reward alone.
    residuals : list of float
    converged : bool
    """

    problem: Problem
    tolerance: float
    on_sweep: OnSweep | None = None
    trace: float = 0.0
    residuals: list[float] = field(default_factory=list)
    converged: bool = False

    def __post_init__(self) -> None:
        reward = self.problem.reward
        self.target = reward
        self._spread = float(np.std(reward)) or float(np.abs(reward).max()) or 1.0

    def __len__(self) -> int:
        return len(self.residuals)

    def of(self, problem: Problem, value: NDArray[np.float64]) -> Sweeps:
        """Go on in another problem, from the targets that the value of each of its rows gives."""
        other = replace(self, problem=problem, converged=False)
        other.target = problem.target(value, self.trace)
        return other

    def move(self, value: NDArray[np.float64]) -> bool:
        """Take the targets that every row's value (n,) gives; True once they moved less than the tolerance."""
        target = self.problem.target(value, self.trace)
        residual = float(np.abs(target - self.target).max()) / self._spread
        self.target = target
        self.residuals.append(residual)
        if self.on_sweep:
            self.on_sweep(len(self), residual)
        self.converged = residual <= self.tolerance
        return self.converged

    def fitted(self, q: Q) -> FittedQ[Q]:
        """The result, once the last sweep's Q-function is known."""
        return FittedQ(q, np.array(self.residuals), self.converged)
