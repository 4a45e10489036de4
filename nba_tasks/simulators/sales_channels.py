"""The sales-channels simulator: weekly choices among e-mail, letter, call and no action, over half a year.

Letters and calls work with a delay, contact pressure tires customers and drives them away, a call pays after a visit
that an e-mail brought about: what is best this week is not what is best for the half-year (the setting of [1]_). The
rates and their sources stand in `market.py`.

References
----------
.. [1] Theocharous, Thomas, Ghavamzadeh: Personalized ad recommendation systems for life-time value optimization with
   guarantees. IJCAI 2015.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nba_tasks.dataset import OPEN, Catalogue, Transitions
from nba_tasks.hashing import hash63
from nba_tasks.simulators import channels_world as world_
from nba_tasks.simulators.channels_world import ACTIONS, EVENTS, FEATURES, INTERVAL
from nba_tasks.simulators.choice import Bools, Floats, Ints, Policy, drawn, published
from nba_tasks.simulators.clock import day_number
from nba_tasks.simulators.market import DEFAULT, Market

VERSION = 1
PROGRAMME, SALT = "sales_channels", "1"
ANCHOR = dt.date(2024, 1, 1)
WEEKS = 26
SETTLEMENT_LAG = 3
AS_OF = dt.date(2026, 6, 1)  # where a study has no date of its own

WEIGHTS = (0.0, 0.0, 0.0, 0.40, -2.0, 0.0)  # of EVENTS: the margin on an order's value, the handling of a complaint
OUTCOMES = (*EVENTS, "contacts", "cost")


@dataclass(frozen=True)
class Grid:
    """Who the customers are and where their weeks begin.

    Attributes
    ----------
    customer : int array of shape (n,)
        Customer ids.
    offset : int array of shape (n,)
        Days by which each customer's grid is shifted.
    created : int array of shape (n,)
        Local day on which the customer was created.
    first : int array of shape (n,)
        Number of the first epoch.
    """

    as_of: dt.date
    customer: Ints
    offset: Ints
    created: Ints
    first: Ints

    def start(self, epoch: int | Ints) -> Ints:
        """First local day of an epoch, for each customer."""
        return day_number(ANCHOR) + self.offset + INTERVAL * np.asarray(epoch, dtype=np.int64)

    def settled(self, epoch: int) -> Bools:
        """Whose epoch had ended, with the lag, before `as_of`."""
        return self.start(epoch + 1) + SETTLEMENT_LAG <= day_number(self.as_of)

    @property
    def epochs(self) -> range:
        """Every epoch that anyone was in before `as_of`, and the one that starts on it."""
        if not len(self.first):
            return range(0)
        last = (day_number(self.as_of) - self.offset - day_number(ANCHOR)) // INTERVAL
        return range(int(self.first.min()), int(last.max()) + 1)


@dataclass(frozen=True)
class Simulation:
    """A played history, one column per epoch of `grid.epochs`.

    Attributes
    ----------
    active : bool array of shape (n, n_epochs)
        The customer was there and subscribed at the epoch's start.
    state, eligible, probabilities : arrays of shape (n, n_epochs, n_features or n_actions)
    action : int array of shape (n, n_epochs)
    occurred, moment : arrays of shape (n, n_epochs, n_events)
    value : float array of shape (n, n_epochs)
    withdrawn : bool array of shape (n, n_epochs)
    """

    market: Market
    seed: int
    grid: Grid
    start: world_.World
    active: Bools
    state: NDArray[np.float32]
    eligible: Bools
    probabilities: Floats
    action: NDArray[np.int8]
    occurred: Bools
    moment: NDArray[np.int32]
    value: Floats
    withdrawn: Bools


def grid_of(n: int, seed: int, as_of: dt.date, market: Market, first_customer: int = 1) -> Grid:
    """Ids, offsets, and creation: in the week before the half-year, or later for those who join midway.

    Raises
    ------
    ValueError
        `as_of` is so early that the half-year would begin before the grid's anchor.
    """
    begin = day_number(as_of) - INTERVAL * (WEEKS + 1)
    if begin < day_number(ANCHOR) + INTERVAL:
        raise ValueError(f"as_of {as_of} is too early: {WEEKS + 1} weeks before it must lie behind {ANCHOR}")
    customer = np.arange(first_customer, first_customer + n, dtype=np.int64)
    offset = np.array([hash63(PROGRAMME, "offset", SALT, c) % INTERVAL for c in customer.tolist()], dtype=np.int64)
    u = np.random.default_rng([seed, 4]).random((n, 2))
    first = -((day_number(ANCHOR) + offset - begin) // INTERVAL)
    created = day_number(ANCHOR) + offset + INTERVAL * first - 1 - np.floor(u[:, 1] * (INTERVAL - 1)).astype(np.int64)
    midway = u[:, 0] < market.created_midway
    joined = begin + 1 + np.floor(u[:, 1] * INTERVAL * (WEEKS - 1)).astype(np.int64)
    created = np.where(midway, joined, created)
    first = np.where(midway, -((day_number(ANCHOR) + offset - created - 1) // INTERVAL), first)
    return Grid(as_of, customer, offset, created, first)


def simulate(
    n: int,
    seed: int,
    market: Market = DEFAULT,
    policy: Policy | None = None,
    as_of: dt.date = AS_OF,
    first_customer: int = 1,
) -> Simulation:
    """Play a policy (default: the logging policy) from everybody's first week up to `as_of`.

    Equal arguments give equal histories; two policies with equal seeds face the same luck.
    """
    policy = policy or world_.logging_policy(market)
    grid = grid_of(n, seed, as_of, market, first_customer)
    world = world_.population(n, seed, market)
    k, d, a, e = len(grid.epochs), len(FEATURES), len(ACTIONS), len(EVENTS)
    result = Simulation(
        market=market,
        seed=seed,
        grid=grid,
        start=world.rows(np.arange(n)),
        active=np.zeros((n, k), dtype=bool),
        state=np.zeros((n, k, d), dtype=np.float32),
        eligible=np.zeros((n, k, a), dtype=bool),
        probabilities=np.zeros((n, k, a)),
        action=np.zeros((n, k), dtype=np.int8),
        occurred=np.zeros((n, k, e), dtype=bool),
        moment=np.zeros((n, k, e), dtype=np.int32),
        value=np.zeros((n, k)),
        withdrawn=np.zeros((n, k), dtype=bool),
    )
    for j, epoch in enumerate(grid.epochs):
        there = (grid.first <= epoch) & world.alive & (grid.start(epoch) <= day_number(as_of))
        rows = np.flatnonzero(there)
        played = _play(policy, world, rows, epoch, seed, market, grid)
        result.active[rows, j] = True
        result.state[rows, j], result.eligible[rows, j] = played.state, played.eligible
        result.probabilities[rows, j], result.action[rows, j] = played.probabilities, played.action
        result.occurred[rows, j], result.moment[rows, j] = played.week.occurred, played.week.moment
        result.value[rows, j], result.withdrawn[rows, j] = played.week.value, played.week.withdrawn
    return result


@dataclass(frozen=True)
class _Played:
    """One epoch of the customers who were there."""

    state: NDArray[np.float32]
    eligible: Bools
    probabilities: Floats
    action: Ints
    week: world_.Week


def _play(
    policy: Policy, world: world_.World, rows: Ints, epoch: int, seed: int, market: Market, grid: Grid
) -> _Played:
    """Play one epoch of the customers `rows`; `world` is changed in place."""
    uniform, normal = (draw[rows] for draw in world_.draws(seed, epoch, len(world.alive)))
    part, start = world.rows(rows), grid.start(epoch)[rows]
    state, eligible = world_.state_of(part, start), world_.eligible_of(part)
    probabilities = published(policy(state, eligible), eligible)
    action = drawn(probabilities, uniform[:, world_.DRAW_ACTION])
    week = world_.play(part, action, start, uniform, normal, market)
    world.put(rows, part)
    return _Played(state, eligible, probabilities, action, week)


def catalogue(market: Market = DEFAULT) -> Catalogue:
    """The four actions; features are one column per action and the cost."""
    cost = np.array((0.0, *market.cost))
    features = np.column_stack((np.eye(len(ACTIONS)), cost)).astype(np.float32)
    return Catalogue(ACTIONS, (None, *ACTIONS[1:]), cost, features)


def outcomes_of(week: world_.Week, action: Ints, market: Market) -> Floats:
    """The columns `OUTCOMES`, shape (n, n_outcomes): events by count, purchases by value, contacts, cost."""
    outcomes = np.column_stack((week.occurred, action > 0, np.array((0.0, *market.cost))[action])).astype(np.float64)
    outcomes[:, world_.PURCHASE] = week.value
    return outcomes


def reward_of(outcomes: Floats) -> Floats:
    """Weighted outcomes minus cost."""
    return np.asarray(outcomes[..., : len(EVENTS)] @ np.array(WEIGHTS) - outcomes[..., -1])


def to_transitions(simulation: Simulation) -> Transitions:
    """The fast path: what SQL would build from the history, an open row behind each customer's last settled epoch."""
    grid = simulation.grid
    n, k = simulation.active.shape
    epochs = np.asarray(grid.epochs, dtype=np.int64)
    settled = np.column_stack([grid.settled(e) for e in grid.epochs])
    running = (day_number(grid.as_of) - SETTLEMENT_LAG - day_number(ANCHOR) - grid.offset) // INTERVAL
    is_open = simulation.active & (epochs == running[:, None])
    kept = (simulation.active & settled) | is_open
    open_row = is_open[kept]

    week = world_.Week(simulation.occurred[kept], simulation.moment[kept], simulation.value[kept], np.empty(0, bool))
    action = simulation.action[kept].astype(np.int64)
    outcomes = outcomes_of(week, action, simulation.market)
    outcomes[open_row] = 0
    propensity = simulation.probabilities[kept][np.arange(len(action)), action]
    done = week.occurred[:, world_.UNSUBSCRIBE] & ~open_row
    return Transitions(
        customer=np.broadcast_to(grid.customer[:, None], (n, k))[kept],
        epoch=np.broadcast_to(epochs, (n, k))[kept],
        state=simulation.state[kept],
        action=np.where(open_row, OPEN, action).astype(np.int16),
        reward=reward_of(outcomes).astype(np.float32),
        outcomes=outcomes.astype(np.float32),
        eligible_logged=simulation.eligible[kept],
        eligible_target=simulation.eligible[kept],
        propensity=np.where(open_row, np.nan, propensity),
        done=done,
        lost=done.copy(),
        outcome_names=OUTCOMES,
    )


@dataclass(frozen=True)
class Value:
    """A policy's true value, measured by playing it.

    Attributes
    ----------
    mean : float
        Mean discounted return per window (or career).
    standard_error : float
        Clustered by customer.
    objectives : dict of str to float
        Mean discounted sum of each outcome per window.
    returns, customer : arrays of shape (n_windows,)
        Each window's return and the row of its customer; in the same order for every policy that is played with the
        same seed, so that differences can be taken window by window.
    """

    mean: float
    standard_error: float
    objectives: dict[str, float]
    returns: Floats
    customer: Ints


def window_value(
    policy: Policy,
    horizon: int,
    discount: float,
    n: int,
    seed: int,
    market: Market = DEFAULT,
    lost_customer_value: float = 0.0,
    as_of: dt.date = AS_OF,
) -> Value:
    """The gate's estimand: customers live under the logging policy until a window begins, then under `policy`.

    Windows begin at every epoch whose number is a multiple of `horizon`, for every customer who is there, and count
    where their last epoch has settled. Losing a customer is charged `lost_customer_value` in the week of the loss.
    """
    grid = grid_of(n, seed, as_of, market)
    world = world_.population(n, seed, market)
    logging = world_.logging_policy(market)
    windows = []
    for epoch in grid.epochs:
        there = (grid.first <= epoch) & world.alive
        begins = np.flatnonzero(there & grid.settled(epoch + horizon - 1))
        if epoch % horizon == 0 and len(begins):
            total, parts = np.zeros(n), np.zeros((n, len(OUTCOMES)))
            branch = world.rows(np.arange(n))
            for t in range(horizon):
                rows = begins[branch.alive[begins]]
                earned, outcomes = _earn(policy, branch, rows, epoch + t, seed, market, grid, lost_customer_value)
                total[rows] += discount**t * earned
                parts[rows] += discount**t * outcomes
            windows.append((total[begins], parts[begins], begins))
        _play(logging, world, np.flatnonzero(there), epoch, seed, market, grid)
    return _value(*(np.concatenate(column) for column in zip(*windows, strict=True)))


def career_value(
    policy: Policy,
    weeks: int,
    discount: float,
    n: int,
    seed: int,
    market: Market = DEFAULT,
    lost_customer_value: float = 0.0,
) -> Value:
    """Mean discounted return per customer of playing `policy` from a customer's first week for `weeks` weeks."""
    grid = grid_of(n, seed, AS_OF, market)
    world = world_.population(n, seed, market)
    total, parts = np.zeros(n), np.zeros((n, len(OUTCOMES)))
    for t in range(weeks):
        rows = np.flatnonzero(world.alive)
        earned, outcomes = _earn(policy, world, rows, t, seed, market, grid, lost_customer_value)
        total[rows] += discount**t * earned
        parts[rows] += discount**t * outcomes
    return _value(total, parts, np.arange(n))


def _earn(
    policy: Policy,
    world: world_.World,
    rows: Ints,
    epoch: int,
    seed: int,
    market: Market,
    grid: Grid,
    lost_customer_value: float,
) -> tuple[Floats, Floats]:
    """What one epoch brings from each of the customers `rows`: return and outcomes."""
    played = _play(policy, world, rows, epoch, seed, market, grid)
    outcomes = outcomes_of(played.week, played.action, market)
    return reward_of(outcomes) - lost_customer_value * outcomes[:, world_.UNSUBSCRIBE], outcomes


def _value(returns: Floats, outcomes: Floats, customer: Ints) -> Value:
    """Mean and customer-clustered standard error of a mean per window (a ratio, linearised)."""
    mean = float(returns.mean())
    by_customer = np.bincount(customer, weights=returns - mean)
    standard_error = float(np.sqrt((by_customer**2).sum()) / len(returns))
    objectives = dict(zip(OUTCOMES, outcomes.mean(axis=0).tolist(), strict=True))
    return Value(mean, standard_error, objectives, returns, customer)
