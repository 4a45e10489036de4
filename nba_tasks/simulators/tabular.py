"""A market of a few states: histories by the thousand in milliseconds, and every policy's true value exactly.

A customer is cold, mild or keen, and rested or tired. A decision (nothing, e-mail, call) may bring an order, a
complaint, or the end of the relationship, and moves the customer on. What any policy earns in a window is a sum over
six states and three actions, by dynamic programming, so that a gate's errors can be counted over thousands of
histories.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from nba_tasks.dataset import Catalogue, Transitions
from nba_tasks.estimators import Critic
from nba_tasks.windows import Windows

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ACTIONS = ("no_action", "email", "call")
OUTCOMES = ("order", "complaint", "left")
HARMS = ("complaint", "left")


@dataclass(frozen=True)
class TabularMarket:
    """How customers answer; states are counted from 0, all probabilities are per decision.

    Attributes
    ----------
    start : array of shape (n_states,)
        Where a customer begins.
    move : array of shape (n_states, n_actions, n_states)
    orders, complains, leaves : arrays of shape (n_states, n_actions)
    cost : array of shape (n_actions,)
    order_value : float
        Mean reward of an order.
    order_spread : float
        Standard deviation of its logarithm.
    complaint_cost, lost_customer_value : float
        Charged for a complaint, and by the gate for a customer who leaves.
    """

    start: Floats
    move: Floats
    orders: Floats
    complains: Floats
    leaves: Floats
    cost: Floats
    order_value: float
    order_spread: float
    complaint_cost: float
    lost_customer_value: float

    @property
    def reward(self) -> Floats:
        """Mean reward of a decision with the charge for who leaves, of shape (n_states, n_actions)."""
        earned = self.order_value * self.orders - self.cost - self.complaint_cost * self.complains
        return np.asarray(earned - self.lost_customer_value * self.leaves)

    def q_tables(self, policy: Floats, horizon: int, discount: float, mean: Floats | None = None) -> list[Floats]:
        """Q with k = 0 … horizon decisions to go, each of shape (n_states, n_actions).

        Parameters
        ----------
        policy : array of shape (n_states, n_actions)
        mean : array of shape (n_states, n_actions), optional
            What is added up; the reward if left out.
        """
        mean = self.reward if mean is None else mean
        tables = [np.zeros(mean.shape)]
        for _ in range(horizon):
            following = self.move @ (policy * tables[-1]).sum(axis=1)
            tables.append(mean + discount * (1 - self.leaves) * following)
        return tables

    def best_policy(self, discount: float, sign: int = 1) -> Floats:
        """The policy with the largest (`sign` 1) or smallest (-1) endless value; shape (n_states, n_actions)."""
        value = np.zeros(len(self.start))
        for _ in range(500):
            q = sign * self.reward + discount * (1 - self.leaves) * (self.move @ value)
            value = q.max(axis=1)
        return np.asarray(np.eye(len(self.cost))[q.argmax(axis=1)])

    def window_starts(self, behaviour: Floats, ages: Sequence[int]) -> Floats:
        """Share of the windows that begin in each state, where `behaviour` logged them; shape (n_states,).

        Parameters
        ----------
        behaviour : array of shape (n_states, n_actions)
        ages : sequence of int ≥ 0
            Decisions of a customer before each of their windows, should they still be there; an age that customers
            begin windows at more often than at others is repeated.
        """
        stays = np.einsum("sa,sa,sat->st", behaviour, 1 - self.leaves, self.move)
        here, total = self.start.copy(), np.zeros(len(self.start))
        often = np.bincount(ages)
        for count in often:
            total += count * here
            here = here @ stays
        return np.asarray(total / total.sum())

    def window_value(
        self,
        policy: Floats,
        behaviour: Floats,
        horizon: int,
        discount: float,
        ages: Sequence[int] = (0,),
        mean: Floats | None = None,
    ) -> float:
        """The gate's estimand, exactly: the mean discounted total of a window.

        Parameters
        ----------
        policy, behaviour : arrays of shape (n_states, n_actions)
            Who decides within a window, and who decided before it.
        ages : sequence of int
            See `window_starts`.
        mean : array of shape (n_states, n_actions), optional
            What is added up; the reward if left out.
        """
        table = self.q_tables(policy, horizon, discount, mean)[-1]
        return float(self.window_starts(behaviour, ages) @ (policy * table).sum(axis=1))

    def simulate(
        self, behaviour: Floats, customers: int, epochs: int, rng: np.random.Generator, *, logged: bool = True
    ) -> Transitions:
        """Histories of `epochs` settled epochs; the state's one column is its number.

        Parameters
        ----------
        behaviour : array of shape (n_states, n_actions)
        logged : bool
            Whether the decisions' propensities are known.
        """
        shape = (epochs, customers)
        state, action = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.int64)
        here, left = np.empty(shape, dtype=bool), np.empty(shape, dtype=bool)
        chance = rng.random((3, *shape), dtype=np.float32)
        n_actions = len(self.cost)
        limits = behaviour.cumsum(axis=1)[:, :-1].T.astype(np.float32)
        # One row a limit and one column a state and action: the fastest to look up.
        moves = self.move.cumsum(axis=2)[..., :-1].reshape(-1, len(self.start) - 1).T.astype(np.float32)
        leaves = self.leaves.ravel().astype(np.float32)
        now = np.searchsorted(self.start.cumsum()[:-1], rng.random(customers), side="right")
        present = np.ones(customers, dtype=bool)
        for t in range(epochs):
            state[t], here[t] = now, present
            action[t] = _passed(limits, now, chance[0, t])
            cell = now * n_actions + action[t]
            left[t] = chance[1, t] < leaves[cell]
            now = _passed(moves, cell, chance[2, t])
            present = present & ~left[t]
        kept = here.T
        customer, epoch = np.nonzero(kept)
        s, a, gone = state.T[kept], action.T[kept], left.T[kept]
        return self._transitions(customer, epoch, s, a, gone, behaviour[s, a] if logged else None, rng)

    def _transitions(
        self,
        customer: Ints,
        epoch: Ints,
        state: Ints,
        action: Ints,
        left: NDArray[np.bool_],
        propensity: Floats | None,
        rng: np.random.Generator,
    ) -> Transitions:
        n = len(state)
        chance = rng.random((2, n), dtype=np.float32)
        ordered, complained = chance[0] < self.orders[state, action], chance[1] < self.complains[state, action]
        reward = -self.cost[action] - self.complaint_cost * complained
        spread = self.order_spread
        size = np.exp(spread * rng.standard_normal(int(ordered.sum())) - spread**2 / 2)
        reward[ordered] += self.order_value * size
        everything = np.ones((n, len(self.cost)), dtype=bool)
        return Transitions(
            customer=customer,
            epoch=epoch,
            state=state[:, None].astype(np.float32),
            action=action,
            reward=reward,
            outcomes=np.stack((ordered, complained, left), axis=1).astype(np.float64),
            eligible_logged=everything,
            eligible_target=everything,
            propensity=np.full(n, np.nan) if propensity is None else propensity,
            done=left,
            lost=left,
            outcome_names=OUTCOMES,
        )


def _passed(limits: NDArray[np.float32], column: Ints, chance: NDArray[np.float32]) -> Ints:
    """How many of the `limits` in its `column` each `chance` reaches: a draw by inversion."""
    count = np.zeros(len(chance), dtype=np.int64)
    for limit in limits:
        count += chance >= limit[column]
    return count


def by_row(table: Floats, log: Transitions) -> Floats:
    """A table of states for every row of a history."""
    return np.asarray(table[log.state[:, 0].astype(np.int64)])


def critic(tables: Sequence[Floats], policy: Floats, log: Transitions, windows: Windows) -> Critic:
    """`Critic.of` from Q tables by decisions to go (`tables[k]`, of shape (n_states, n_actions)), faster."""
    rows, horizon = np.where(windows.alive, windows.rows, 0), windows.horizon
    state, action = log.state[:, 0].astype(np.int64)[rows], log.action[rows]
    value, action_value = np.empty(rows.shape), np.empty(rows.shape)
    for step in range(horizon):
        table = tables[horizon - step]
        value[:, step] = (policy * table).sum(axis=1)[state[:, step]]
        action_value[:, step] = table[state[:, step], action[:, step]]
    return Critic(np.where(windows.alive, value, 0.0), np.where(windows.alive, action_value, 0.0))


def catalogue(market: TabularMarket) -> Catalogue:
    """The three actions; features are one column per action."""
    features = np.eye(len(ACTIONS), dtype=np.float32)
    return Catalogue(ACTIONS, (None, *ACTIONS[1:]), market.cost, features)


@dataclass(frozen=True)
class Comparison:
    """Two policies' windows in one market: what the gate is asked, with its true answer.

    Attributes
    ----------
    market : TabularMarket
    logging, incumbent : arrays of shape (n_states, n_actions)
    horizon : int
    discount : float
    ages : tuple of int
        See `TabularMarket.window_starts`.
    """

    market: TabularMarket
    logging: Floats
    incumbent: Floats
    horizon: int
    discount: float
    ages: tuple[int, ...] = (0,)

    def value(self, policy: Floats) -> float:
        """A policy's mean discounted return of a window."""
        return self.market.window_value(policy, self.logging, self.horizon, self.discount, self.ages)

    def gain(self, policy: Floats) -> float:
        """Δ, exactly."""
        return self.value(policy) - self.value(self.incumbent)

    def rate(self, policy: Floats, mean: Floats) -> float:
        """Events per decision due, of mean `mean` (n_states, n_actions) a decision."""
        return self.market.window_value(policy, self.logging, self.horizon, 1.0, self.ages, mean) / self.horizon

    def candidate(self, pair: tuple[Floats, Floats], mix: float, gain: float) -> Floats:
        """A policy with Δ = `gain`, of shape (n_states, n_actions).

        It is (1 − λ) incumbent + λ new, the new policy a blend of two others whose shares are solved for.

        Parameters
        ----------
        pair : (worse, better)
            Policies; mixed in they must gain no more and no less than `gain`.
        mix : float
            λ.

        Raises
        ------
        ValueError
            No blend of the pair gains that much at this mix.
        """
        worse, better = pair

        def at(share: float) -> Floats:
            return np.asarray((1 - mix) * self.incumbent + mix * ((1 - share) * worse + share * better))

        def missing(share: float) -> float:
            return self.gain(at(share)) - gain

        if missing(0.0) > 0 or missing(1.0) < 0:
            lowest, highest = self.gain(at(0.0)), self.gain(at(1.0))
            raise ValueError(f"at mix {mix:g} blends of these policies gain {lowest:+.4g} … {highest:+.4g} a window")
        return at(float(brentq(missing, 0.0, 1.0, xtol=1e-14)))


def _retail() -> TabularMarket:
    """States are numbered interest (0 cold, 1 mild, 2 keen) × 2 + tired."""
    interest, tired = np.divmod(np.arange(6), 2)
    moves = np.zeros((6, 3, 6))
    for state in range(6):
        for action in range(3):
            tires = (0.05, 0.35, 0.60)[action] + (0.25 if tired[state] else 0.0)
            warms, cools = (0.05, 0.15, 0.20)[action], 0.15
            up, down = min(interest[state] + 1, 2), max(interest[state] - 1, 0)
            for to, chance in ((up, warms), (down, cools), (interest[state], 1 - warms - cools)):
                moves[state, action, 2 * to + 1] += chance * tires
                moves[state, action, 2 * to] += chance * (1 - tires)
    answers = np.where(tired, 0.4, 1.0)
    annoys = np.where(tired, 1.6, 1.0)
    base = np.array((0.02, 0.04, 0.08))[interest]
    email, call = np.array((0.01, 0.03, 0.05))[interest], np.array((0.03, 0.10, 0.15))[interest]
    return TabularMarket(
        start=np.array((0.25, 0.15, 0.25, 0.15, 0.12, 0.08)),
        move=moves,
        orders=np.column_stack((base, base + answers * email, base + answers * call)),
        complains=np.column_stack((np.full(6, 0.010), 0.020 * annoys, 0.030 * annoys)),
        leaves=np.column_stack((np.full(6, 0.010), 0.011 * annoys, 0.013 * annoys)),
        cost=np.array((0.0, 0.05, 0.60)),
        order_value=10.0,
        order_spread=0.6,
        complaint_cost=1.0,
        lost_customer_value=5.0,
    )


RETAIL = _retail()
"""Contacts pay with rested, interested customers, and annoy the others."""

HARM_HEAVY = replace(RETAIL, order_value=8.0, order_spread=0.2, complaint_cost=20.0, lost_customer_value=60.0)
"""The same customers where rare, large charges for harm outweigh what is earned: returns are skewed downwards."""

FUTILE = replace(
    RETAIL,
    move=np.repeat(RETAIL.move[:, :1], 3, axis=1),
    orders=np.repeat(RETAIL.orders[:, :1], 3, axis=1),
    complains=np.repeat(RETAIL.complains[:, :1], 3, axis=1),
    leaves=np.repeat(RETAIL.leaves[:, :1], 3, axis=1),
    cost=np.zeros(3),
)
"""Contacts do nothing and cost nothing: every policy is worth the same."""

LOGGING = np.array(
    (
        (0.60, 0.30, 0.10),
        (0.65, 0.25, 0.10),
        (0.50, 0.35, 0.15),
        (0.55, 0.30, 0.15),
        (0.35, 0.40, 0.25),
        (0.45, 0.35, 0.20),
    )
)
"""How the log chose: more contact the keener the customer, tired or not."""

VERSION_0 = 0.85 * LOGGING + 0.15 * LOGGING.mean(axis=0)
"""A blurred model of `LOGGING`: business as usual."""
