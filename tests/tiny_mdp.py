"""A decision process small enough to know the truth of: every value by recursion over all outcomes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nba_tasks.dataset import OPEN, Transitions
from nba_tasks.estimators import Critic
from nba_tasks.windows import Windows

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TinyMdp:
    """States and actions are counted from 0; a decision pays 1 or nothing and may end the relationship.

    Attributes
    ----------
    start : array of shape (n_states,)
    move : array of shape (n_states, n_actions, n_states)
    pays, ends : arrays of shape (n_states, n_actions)
        Probabilities.
    """

    start: Floats
    move: Floats
    pays: Floats
    ends: Floats

    def q_tables(self, policy: Floats, horizon: int, discount: float) -> list[Floats]:
        """Q with k decisions to go, k = 0 … horizon, each of shape (n_states, n_actions)."""
        tables = [np.zeros(self.pays.shape)]
        for _ in range(horizon):
            following = self.move @ (policy * tables[-1]).sum(axis=1)
            tables.append(self.pays + discount * (1 - self.ends) * following)
        return tables

    def value(self, policy: Floats, horizon: int, discount: float) -> float:
        """True value of a window that starts in a start state."""
        table = self.q_tables(policy, horizon, discount)[-1]
        return float(self.start @ (policy * table).sum(axis=1))

    def critic(
        self, policy: Floats, log: Transitions, windows: Windows, discount: float, model: Floats | None = None
    ) -> Critic:
        """A critic of `policy`, exact unless its action values are those of another policy `model`."""
        tables = self.q_tables(policy if model is None else model, windows.horizon, discount)
        return Critic.of(lambda k: by_row(tables[k], log), by_row(policy, log), log.action, windows)

    def simulate(self, behaviour: Floats, n: int, epochs: int, seed: int, logged: bool = True) -> Transitions:
        """A log of `n` customers over `epochs` settled epochs; outcomes are "paid" and "left"."""
        rng = np.random.default_rng(seed)
        n_states, n_actions = self.pays.shape
        state = rng.choice(n_states, size=n, p=self.start)
        alive = np.ones(n, dtype=bool)
        columns: dict[str, list[NDArray[np.generic]]] = {name: [] for name in ("s", "a", "r", "d", "here")}
        for _ in range(epochs):
            action = (rng.random(n)[:, None] > behaviour[state].cumsum(axis=1)[:, :-1]).sum(axis=1)
            ended = rng.random(n) < self.ends[state, action]
            paid = rng.random(n) < self.pays[state, action]
            following = (rng.random(n)[:, None] > self.move[state, action].cumsum(axis=1)[:, :-1]).sum(axis=1)
            for name, column in zip(columns, (state, action, paid, ended, alive.copy()), strict=True):
                columns[name].append(column)
            alive &= ~ended
            state = following
        for name, column in zip(columns, (state, np.full(n, OPEN), np.zeros(n), np.zeros(n), alive), strict=True):
            columns[name].append(column)
        here = np.stack(columns["here"], axis=1).astype(bool)
        s, a, r, d = (np.stack(columns[name], axis=1)[here] for name in "sard")
        everything = np.ones((len(s), n_actions), dtype=bool)
        propensity = np.where((a == OPEN) | (not logged), np.nan, behaviour[s, np.maximum(a, 0)])
        return Transitions(
            customer=np.broadcast_to(np.arange(n)[:, None], here.shape)[here],
            epoch=np.broadcast_to(np.arange(epochs + 1)[None, :], here.shape)[here],
            state=s[:, None].astype(np.float64),
            action=a,
            reward=r.astype(np.float64),
            outcomes=np.stack([r, d], axis=1).astype(np.float64),
            eligible_logged=everything,
            eligible_target=everything,
            propensity=propensity,
            done=d.astype(bool),
            lost=d.astype(bool),
            outcome_names=("paid", "left"),
        )


def by_row(policy: Floats, log: Transitions) -> Floats:
    """A policy's probabilities for every row of a log."""
    return np.asarray(policy[log.state[:, 0].astype(int)])


FATIGUE = TinyMdp(
    start=np.array([0.7, 0.3]),
    move=np.array([[[0.8, 0.2], [0.3, 0.7]], [[0.6, 0.4], [0.1, 0.9]]]),
    pays=np.array([[0.20, 0.45], [0.15, 0.20]]),
    ends=np.array([[0.01, 0.03], [0.02, 0.10]]),
)
"""Two states (rested, tired), two actions (nothing, contact): contacts pay, tire and drive away."""

LOGGING = np.array([[0.6, 0.4], [0.5, 0.5]])
"""How the log chose in `FATIGUE`."""

BETTER = np.array([[0.2, 0.8], [0.9, 0.1]])
"""Contacts the rested: earns more than `LOGGING`."""

WORSE = np.array([[0.8, 0.2], [0.2, 0.8]])
"""Contacts the tired: earns less."""
