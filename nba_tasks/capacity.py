r"""Capacity prices: the last layer of a policy, where tonight's wishes meet tonight's slots and budget.

The layers before give each customer probabilities :math:`p_{ia}`; together they may ask for more calls than there are
agents. This layer moves probability away from what is scarce, at the least loss of value. Limits k allow
:math:`\sum_{ia} g_{ka} p_{ia} \le c_k`: an action's daily capacity, a channel's, the night's budget. Probability that
moves from a to b loses :math:`\max(v_{ia} - v_{ib}, 0)`: whoever was given a less valued action (to explore, or by the
incumbent) loses nothing by another one, and nothing moves without need. The linear programme

.. math:: \min_{f \ge 0} \sum_{iab} p_{ia} f_{iab} \max(v_{ia} - v_{ib}, 0), \quad \sum_b f_{iab} = 1, \quad
          \sum_{iab} g_{kb} p_{ia} f_{iab} \le c_k

has one dual price :math:`\lambda_k \ge 0` a limit: what one more slot (or euro) would bring. Given the prices, each
customer's probabilities follow from that customer alone, so that they are known exactly, before any draw, and the gate
can apply the same layer with prices fixed at training. Two things make it a layer one can publish with:

- A proximal term :math:`\tfrac{\delta}{2} \lVert f_{ia} - e_a \rVert^2` (quadratically regularised transport [1]_)
  makes the layer continuous: customers who are alike are treated alike, and ties, which trees leave, are split.
- An even share of each scarce slot is dealt out in proportion to the wishes, so that every action keeps a chance
  wherever it had one, and the list stays evidence for the next policy.

References
----------
.. [1] Blondel, Seguy, Rolet (2018), Smooth and sparse optimal transport, arXiv 1710.06276.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from nba_tasks.dataset import BoolArray, FloatArray
from nba_tasks.policy import Floats, PolicyError

BLOCK = 1 << 13
"""Rows worked on at a time: what a block touches stays in the processor's cache."""

SAMPLE = 100_000
"""Rows on which prices are sought; all rows then correct them."""

WIDTH = 0.01
"""δ as a share of the spread of values: how far apart two customers must be to be treated quite differently."""


@dataclass(frozen=True)
class Limit:
    """What may be used up in one night.

    Attributes
    ----------
    name : str
        In words a reader of the report knows: `call`, `channel phone`, `budget`.
    use : tuple of float, length n_actions
        What one contact of each action takes: 1 slot, or its cost. `no_action` (index 0) takes nothing.
    at_most : float
    """

    name: str
    use: tuple[float, ...]
    at_most: float

    def __post_init__(self) -> None:
        if self.at_most < 0 or min(self.use) < 0 or self.use[0] != 0:
            raise PolicyError(f"limit {self.name}: uses and the limit must not be negative, and no_action must be free")


@dataclass(frozen=True)
class Prices:
    """The layer's parameters: everything that it needs beyond a row to know the row's probabilities.

    Attributes
    ----------
    of_limits : mapping of limit name to price
        What one more slot, or euro, of each limit is worth tonight, in units of the reward; 0 where there is room.
    of_actions : array of shape (n_actions,)
        What the limits make a contact of each action cost.
    even : array of shape (n_actions,)
        Share of each action's probability that stays whatever the customer's value.
    trim : array of shape (n_actions,)
        Share of what is left that is kept; the rest, a rounding of the prices, goes to `no_action`.
    width : float
        δ.
    """

    of_limits: dict[str, float]
    of_actions: Floats
    even: Floats
    trim: Floats
    width: float

    @property
    def binding(self) -> bool:
        return bool((self.of_actions > 0).any() or (self.trim < 1).any())

    def apply(self, probabilities: FloatArray, value: FloatArray, eligible: BoolArray) -> Floats:
        """The layer itself.

        Parameters
        ----------
        probabilities : array of shape (n, n_actions)
            Of the layers before.
        value : array of shape (n, n_actions)
            Expected value of each action; NaN where unknown (business as usual has no values): no loss to move there.
        eligible : bool array of shape (n, n_actions)
            Where probability may go (`movable`); `no_action` everywhere: it is where all else may be too scarce.

        Returns
        -------
        array of shape (n, n_actions)
            Rows sum to 1.

        Raises
        ------
        PolicyError
            `no_action` is not eligible in some row.
        """
        _require_no_action(eligible)
        found = np.array(probabilities, dtype=np.float64)
        if not self.binding:
            return found

        def one(rows: slice) -> None:
            block = _Block.of(found[rows], value[rows], eligible[rows])
            moved = np.maximum(block.move(self)[0].T * self.trim, 0.0)
            # What was cut off is left alone; rounding may have left a hair too much instead.
            moved[:, 0] = np.maximum(moved[:, 0] + 1 - moved.sum(axis=1), 0.0)
            found[rows] = moved

        with ThreadPoolExecutor(max_workers=2) as pool:
            list(pool.map(one, _blocks(len(found))))
        return found

    def within(self, wished: FloatArray, value: FloatArray) -> Floats:
        """The layer where probability may go wherever it may (`movable`)."""
        return self.apply(wished, value, movable(wished, value))


@dataclass(frozen=True)
class _Block:
    """Some rows, one action after the other in memory: arrays of shape (n_actions, n_rows)."""

    mass: Floats
    value: NDArray[np.float32]
    eligible: BoolArray

    @classmethod
    def of(cls, probabilities: FloatArray, value: FloatArray, eligible: BoolArray) -> _Block:
        return cls(
            mass=np.ascontiguousarray(probabilities.T, dtype=np.float64),
            value=np.ascontiguousarray(_known(value).T),
            eligible=np.ascontiguousarray(eligible.T),
        )

    def move(self, prices: Prices) -> tuple[Floats, float]:
        """Probabilities after moving, and what moving saves: the sum of p (c · f + δ/2 |f − e|²), at most 0."""
        result, saved = self.mass.copy(), 0.0
        price, width = prices.of_actions.astype(np.float32), np.float32(prices.width)
        dear = np.where(self.eligible, price[:, None], np.float32(np.inf))
        cost = np.empty_like(self.value)
        for a in np.flatnonzero(price > 0):
            # What moving each row's a to each action costs, less what it saves in price; staying costs 0.
            np.subtract(self.value[a], self.value, out=cost)
            np.maximum(cost, 0, out=cost)
            cost += dear
            cost -= price[a]
            cost[a] = 0
            lowest = cost.min(axis=0)
            mass = np.where(lowest < 0, self.mass[a] * (1 - prices.even[a]), 0.0)
            near = cost < lowest + 2 * width
            alone = near.sum(axis=0, dtype=np.int8) == 1
            # Nothing else comes near: all of it goes to the cheapest. (Most rows, and worth the haste.)
            whole = np.where(alone, mass, 0.0)
            result += near * whole
            result[a] -= whole
            saved += float(whole @ (lowest + width))
            rows = np.flatnonzero(~alone & (mass > 0))
            share, gain = _projected(cost[:, rows].T.astype(np.float64), int(a), prices.width)
            result[:, rows] += (share * mass[rows, None]).T
            result[a, rows] -= mass[rows]
            saved += float(mass[rows] @ gain)
        return result, saved


def movable(wished: FloatArray, value: FloatArray) -> BoolArray:
    """Where prices may put probability: on `no_action`, and on what had a chance already and has a known value.

    An action that the layers before gave no chance is forbidden, or has no support. Where a policy has no values, like
    business as usual, what is too much is left out: with other contacts instead it would not be business as usual.

    Parameters
    ----------
    wished, value : arrays of shape (n, n_actions)
        Probabilities before any price; NaN where a value is unknown.

    Returns
    -------
    bool array of shape (n, n_actions)
    """
    found = np.asarray((wished > 0) & ~np.isnan(value))
    found[:, 0] = True
    return found


def solve_prices(
    probabilities: FloatArray,
    value: FloatArray,
    eligible: BoolArray,
    limits: Sequence[Limit],
    *,
    even_share: float = 0.0,
    seed: int = 0,
) -> Prices:
    """Prices with which the expected use of tonight's customers meets every limit.

    Parameters
    ----------
    probabilities, value, eligible : arrays of shape (n, n_actions)
        As in `Prices.apply`, of all customers of the night.
    limits : sequence of Limit
    even_share : float in [0, 1)
        The part of each scarce slot that is dealt out in proportion to the wishes.
    seed : int
        Of the sample that the search begins with; which sample it is hardly matters.

    Raises
    ------
    PolicyError
        `no_action` is not eligible in some row, or a limit has another number of actions.
    """
    _require_no_action(eligible)
    n, n_actions = probabilities.shape
    if wrong := [limit.name for limit in limits if len(limit.use) != n_actions]:
        raise PolicyError(f"limit {', '.join(wrong)} does not say what each of the {n_actions} actions uses")
    taken = [limit for limit in limits if max(limit.use) > 0]
    wished = np.asarray(probabilities.sum(axis=0, dtype=np.float64))
    free = dict.fromkeys((limit.name for limit in limits), 0.0)
    if not any(limit.use @ wished > limit.at_most for limit in taken):
        return Prices(free, np.zeros(n_actions), np.zeros(n_actions), np.ones(n_actions), width=1.0)
    use, room = _table(taken)
    even = even_share * _tightest(use, room, use @ wished)
    scale = _spread(probabilities, value, use)

    def search_in(rows: slice | NDArray[np.int64], count: int) -> _Search:
        p, v, e = probabilities[rows], value[rows], eligible[rows]
        blocks = [_Block.of(p[block], v[block], e[block]) for block in _blocks(count)]
        return _Search(blocks, taken, room * count / n, count, even, scale)

    whole = search_in(slice(None), n)
    sampled = n > 2 * SAMPLE
    chosen = np.sort(np.random.default_rng(seed).choice(n, SAMPLE, replace=False)) if sampled else slice(None)
    search = search_in(chosen, SAMPLE) if sampled else whole
    point = search.minimise(np.zeros(len(taken)))
    if sampled:
        # What the sample gets wrong of everybody's use at these prices is taken off its room; its curvature stands.
        share, prices = SAMPLE / n, search.prices(point)
        search.room = room * share + use @ (search.expected(prices)[0] - share * whole.expected(prices)[0])
        point = search.minimise(point)
    prices = search.prices(point)
    # A hair below the limits: sums over millions of rows round.
    trim = _tightest(use, room * (1 - 1e-9), use @ whole.expected(prices)[0])
    return replace(prices, of_limits=free | prices.of_limits, trim=trim)


class _Search:
    """The dual problem of one night: concave in the prices, its gradient the use beyond the limits.

    Variables are prices of a contact's usual use of each limit, in units of the values' spread: slots and euros look
    alike to the search.
    """

    def __init__(
        self, blocks: list[_Block], limits: Sequence[Limit], room: Floats, rows: int, even: Floats, scale: float
    ) -> None:
        self.blocks, self.limits, self.room, self.rows, self.even, self.scale = blocks, limits, room, rows, even, scale
        self.use = _table(limits)[0]
        self.unit = self.use.max(axis=1) / scale

    def prices(self, point: Floats) -> Prices:
        """Prices from the search's variables."""
        of_limits = np.maximum(point, 0) / self.unit
        return Prices(
            of_limits={limit.name: float(price) for limit, price in zip(self.limits, of_limits, strict=True)},
            of_actions=of_limits @ self.use,
            even=self.even,
            trim=np.ones(len(self.even)),
            width=WIDTH * self.scale,
        )

    def minimise(self, start: Floats) -> Floats:
        """L-BFGS-B on the negative dual, from and to the search's variables."""
        wished = np.sum([block.mass.sum(axis=1) for block in self.blocks], axis=0)

        def negative_dual(point: Floats) -> tuple[float, Floats]:
            prices = self.prices(point)
            expected, saved = self.expected(prices)
            dual = saved + prices.of_actions @ wished - np.maximum(point, 0) / self.unit @ self.room
            beyond = (self.use @ expected - self.room) / self.unit
            return -dual / (self.rows * self.scale), -beyond / (self.rows * self.scale)

        found = minimize(
            negative_dual,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=[(0, None)] * len(start),
            options={"maxfun": 300, "ftol": 1e-13, "gtol": 1e-9},
        )
        return np.asarray(found.x)

    def expected(self, prices: Prices) -> tuple[Floats, float]:
        """Expected contacts of each action, and what moving saves. Two threads: numpy lets go while it works."""

        def one(block: _Block) -> tuple[Floats, float]:
            moved, saved = block.move(prices)
            return moved.sum(axis=1), saved

        with ThreadPoolExecutor(max_workers=2) as pool:
            parts = list(pool.map(one, self.blocks))
        return np.sum([part[0] for part in parts], axis=0), math.fsum(part[1] for part in parts)


def _projected(cost: Floats, stay: int, width: float) -> tuple[Floats, Floats]:
    """argmin over the simplex of c · f + δ/2 |f − e|², and its value: the Euclidean projection of e − c/δ.

    By sorting (Duchi et al. 2008, Efficient projections onto the l1-ball); `cost` has shape (n, n_actions), `stay` is
    the action on which e is 1.
    """
    point = np.maximum(-cost / width, -1e9)
    point[:, stay] += 1
    above = np.cumsum(-np.sort(-point, axis=1), axis=1) - 1
    count = np.arange(1, point.shape[1] + 1)
    rank = (-np.sort(-point, axis=1) * count > above).sum(axis=1)
    threshold = above[np.arange(len(point)), rank - 1] / rank
    share = np.maximum(point - threshold[:, None], 0.0)
    moved = share.copy()
    moved[:, stay] -= 1
    gain = (share * np.where(share > 0, cost, 0.0)).sum(axis=1) + width / 2 * (moved**2).sum(axis=1)
    return share, gain


def _table(limits: Sequence[Limit]) -> tuple[Floats, Floats]:
    """What a contact of each action takes of each limit, (n_limits, n_actions), and what there is of it."""
    return np.array([limit.use for limit in limits]), np.array([limit.at_most for limit in limits], dtype=np.float64)


def _known(value: FloatArray) -> NDArray[np.float32]:
    """Values with what is unknown as the row's least: nothing is lost by leaving it."""
    found = np.asarray(value, dtype=np.float32)
    unknown = np.isnan(found)
    if not unknown.any():
        return found
    least = np.where(unknown, np.inf, found).min(axis=1, keepdims=True)
    return np.where(unknown, np.where(np.isinf(least), 0.0, least), found).astype(np.float32)


def _tightest(use: Floats, room: Floats, used: Floats) -> Floats:
    """Share of each action that the tightest of its limits has room for, of shape (n_actions,)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(used > room, room / used, 1.0)
    return np.asarray(np.where(use > 0, share[:, None], 1.0).min(axis=0))


def _spread(probabilities: FloatArray, value: FloatArray, use: Floats) -> float:
    """How much value hangs on the limited actions: the mean distance from `no_action`'s; 1 where nothing is known."""
    total, weight = 0.0, 0.0
    limited = (use > 0).any(axis=0)
    for rows in _blocks(len(probabilities)):
        known = _known(value[rows])
        share = np.asarray(probabilities[rows][:, limited], dtype=np.float64)
        total += float((share * np.abs(known - known[:, :1])[:, limited]).sum())
        weight += float(share.sum())
    return total / weight if total > 0 else 1.0


def _blocks(n: int) -> list[slice]:
    return [slice(first, min(first + BLOCK, n)) for first in range(0, n, BLOCK)]


def _require_no_action(eligible: BoolArray) -> None:
    missing = ~eligible[:, 0]
    if missing.any():
        raise PolicyError(
            f"{int(missing.sum())} row(s), the first is row {int(missing.argmax())}, do not allow no_action; "
            "where slots are limited it must be allowed, or the limits could not be met"
        )
