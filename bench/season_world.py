"""Customers of a season, played week by week, and the log that they leave: arrays only, the simulator's own rules."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import NDArray

from nba_tasks.dataset import OPEN, BoolArray, Transitions
from nba_tasks.drawing import draw
from nba_tasks.hashing import hash63
from nba_tasks.policy import Floats
from nba_tasks.programme import Programme
from nba_tasks.simulators import channels_world as world_
from nba_tasks.simulators import sales_channels
from nba_tasks.simulators.channels_world import UNSUBSCRIBE
from nba_tasks.simulators.choice import Ints
from nba_tasks.simulators.market import Market


@dataclass(frozen=True)
class Due:
    """The customers who are decided for in an epoch: rows of the world, and what is known of them."""

    epoch: int
    rows: Ints
    state: NDArray[np.float32]
    eligible: BoolArray
    possible: BoolArray


@dataclass(frozen=True)
class Decisions:
    """One epoch's decisions, a row each, and what came of it; `possible`: what rules allow, in the catalogue or not."""

    customer: Ints
    epoch: Ints
    state: NDArray[np.float32]
    eligible: BoolArray
    possible: BoolArray
    action: Ints
    propensity: Floats
    reward: Floats
    outcomes: Floats
    done: BoolArray


@dataclass(frozen=True)
class Answers:
    """How one epoch was decided, of shape (n, n_actions), and when its customers answered."""

    probability: Floats
    week: world_.Week


BUCKETS = 1024
"""Of customers, in the warehouse: keys follow them (sql/history/add_customers.sql)."""


def grid_of(customers: int, seed: int, market: Market, programme: Programme) -> sales_channels.Grid:
    """The simulator's customers in the order of their keys in the warehouse; as many as asked for."""
    grid = sales_channels.grid_of(customers, seed, sales_channels.AS_OF, market)

    def key(customer: int) -> tuple[int, str]:
        return hash63(programme.programme, "shard", programme.salt, customer) % BUCKETS, str(customer)

    grid = replace(grid, customer=np.array(sorted(grid.customer.tolist(), key=key)))
    if programme.grid.stagger:
        return grid
    return replace(grid, offset=np.zeros_like(grid.offset), created=grid.created - grid.offset)


@dataclass
class Life:
    """A population from its first week on.

    Attributes
    ----------
    start : World
        As the customers were before their first week.
    retired : set of int
        Actions that the catalogue does not hold: no longer, or not yet.
    log, answers : lists
        An entry for each epoch, in order; a branch keeps no answers.
    """

    market: Market
    seed: int
    grid: sales_channels.Grid
    world: world_.World
    start: world_.World
    retired: set[int] = field(default_factory=set)
    log: list[Decisions] = field(default_factory=list)
    answers: list[Answers] | None = field(default_factory=list)

    @classmethod
    def of(cls, grid: sales_channels.Grid, seed: int, market: Market) -> Life:
        world = world_.population(len(grid.customer), seed, market)
        return cls(market, seed, grid, world, deepcopy(world))

    def branch(self) -> Life:
        """The same customers, whose future may differ from now on; without their log."""
        world, retired = deepcopy(self.world), set(self.retired)
        return Life(self.market, self.seed, self.grid, world, self.start, retired, answers=None)

    def due(self, epoch: int) -> Due:
        """Who is decided for."""
        rows = np.flatnonzero((self.grid.first <= epoch) & self.world.alive)
        part = self.world.rows(rows)
        possible = world_.eligible_of(part)
        eligible = possible.copy()
        eligible[:, sorted(self.retired)] = False
        return Due(epoch, rows, world_.state_of(part, self.grid.start(epoch)[rows]), eligible, possible)

    def answer(self, due: Due, probability: Floats, drawn_by: Floats | None = None) -> Decisions:
        """Draw everybody's action, play the epoch, and append it to the log.

        Parameters
        ----------
        drawn_by : array of shape (n_customers,), optional
            The number in [0, 1) that decides each customer's draw; the simulator's own by default.
        """
        uniform, normal = (draw[due.rows] for draw in world_.draws(self.seed, due.epoch, len(self.world.alive)))
        action = draw(probability, uniform[:, world_.DRAW_ACTION] if drawn_by is None else drawn_by[due.rows])
        part, start = self.world.rows(due.rows), self.grid.start(due.epoch)[due.rows]
        week = world_.play(part, action, start, uniform, normal, self.market)
        self.world.put(due.rows, part)
        outcomes = sales_channels.outcomes_of(week, action, self.market)
        decisions = Decisions(
            customer=due.rows,
            epoch=np.full(len(due.rows), due.epoch),
            state=due.state,
            eligible=due.eligible,
            possible=due.possible,
            action=action,
            propensity=probability[np.arange(len(action)), action],
            reward=sales_channels.reward_of(outcomes),
            outcomes=outcomes,
            done=week.occurred[:, UNSUBSCRIBE].copy(),
        )
        self.log.append(decisions)
        if self.answers is not None:
            self.answers.append(Answers(probability, week))
        return decisions


def transitions(log: list[Decisions], retired: set[int]) -> Transitions:
    """A log as learning takes it: the last epoch is open, a state to bootstrap from.

    Returns
    -------
    Transitions
        In the order of customer, then epoch; tonight's rules leave out what is retired.
    """
    parts = {f.name: np.concatenate([getattr(epoch, f.name) for epoch in log]) for f in fields(Decisions)}
    order = in_order(log)
    parts = {name: part[order] for name, part in parts.items()}
    is_open = parts["epoch"] == log[-1].epoch[0]
    target = parts["possible"].copy()
    target[:, sorted(retired)] = False
    done = parts["done"] & ~is_open
    return Transitions(
        customer=parts["customer"],
        epoch=parts["epoch"],
        state=parts["state"],
        action=np.where(is_open, OPEN, parts["action"]).astype(np.int16),
        reward=np.where(is_open, 0.0, parts["reward"]).astype(np.float32),
        outcomes=np.where(is_open[:, None], 0.0, parts["outcomes"]).astype(np.float32),
        eligible_logged=parts["eligible"],
        eligible_target=target,
        propensity=np.where(is_open, np.nan, parts["propensity"]),
        done=done,
        lost=done.copy(),
        outcome_names=sales_channels.OUTCOMES,
    )


def in_order(log: list[Decisions]) -> Ints:
    """Positions that bring a log's rows, epoch after epoch, into the order of customer, then epoch."""
    customer, epoch = (np.concatenate([getattr(made, name) for made in log]) for name in ("customer", "epoch"))
    return np.lexsort((epoch, customer))
