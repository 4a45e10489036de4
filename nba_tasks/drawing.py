r"""Draw one action per customer from exact probabilities: each by itself, or together, so that hard capacities hold.

Independent draws meet a capacity on average only. To meet it always, two customers who both may get a or b exchange
probability, at random and without bias, until one of them has made up its mind: every sum over customers stays what it
was, every customer's expectation too (pivotal sampling [1]_, dependent rounding [2]_). What a few last customers leave
undecided is an integral flow from customers over actions and channels: pushing it around its cycles at random ends in
whole numbers, and each action and each channel gets the number of contacts that was expected, rounded down or up.

References
----------
.. [1] Deville, Tillé (1998), Unequal probability sampling without replacement through a splitting method.
.. [2] Gandhi, Khuller, Parthasarathy, Srinivasan (2006), Dependent rounding and its applications to approximation
   algorithms, JACM 53.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nba_tasks.dataset import FloatArray
from nba_tasks.policy import Floats, PolicyError

SURE = 1e-9
"""A probability this close to 0 or 1 is one: what sums of millions of roundings leave."""


def draw(probability: FloatArray, uniform: FloatArray) -> NDArray[np.int64]:
    """Draw one action per row: the first whose cumulative probability exceeds the row's uniform number in [0, 1).

    Parameters
    ----------
    probability : array of shape (n, n_actions)
        Rows sum to 1.
    uniform : array of shape (n,)
    """
    cumulative = np.cumsum(np.asarray(probability, np.float64), axis=1)
    # Rounding may leave the sum just below 1: a number above it would draw an action that does not exist.
    return np.asarray((uniform[:, None] >= cumulative / cumulative[:, -1:]).sum(axis=1), dtype=np.int64)


def draw_together(
    probability: FloatArray, channels: Sequence[str | None], random: np.random.Generator
) -> NDArray[np.int64]:
    """Draw one action per row; each action's and each channel's count is its expectation, rounded down or up.

    Parameters
    ----------
    probability : array of shape (n, n_actions)
        Rows sum to 1.
    channels : sequence of str or None, length n_actions
        The channel of each action.
    random : Generator
        The same generator and rows give the same draw. Put the rows in an order that says nothing of the customers:
        neighbours are drawn against each other.

    Returns
    -------
    int array of shape (n,)
        P(action = a) is the row's probability of a, exactly.

    Raises
    ------
    PolicyError
        A row is no distribution.
    """
    mass = np.array(probability, dtype=np.float64, order="F")
    if (mass < 0).any() or (np.abs(mass.sum(axis=1) - 1) > 1e-6).any():
        raise PolicyError("probabilities must not be negative and must sum to 1 in every row")
    n_actions = mass.shape[1]
    for a in range(n_actions):
        for b in range(a + 1, n_actions):
            _exchange(mass, a, b, random)
    _settle(mass, channels, random)
    return np.asarray(mass.argmax(axis=1), dtype=np.int64)


def _exchange(mass: Floats, a: int, b: int, random: np.random.Generator) -> None:
    """Let rows that may get both a and b fight in pairs, round by round, until at most one is left that may.

    A pair moves t of one row's b to its a, and t of the other's a to its b, or the reverse; t goes as far as it can,
    and which way is drawn so that nobody's expectation changes.
    """
    one, other = mass[:, a], mass[:, b]
    rows = np.flatnonzero((one > 0) & (other > 0))
    while len(rows) > 1:
        pairs = len(rows) // 2
        i, j = rows[:pairs], rows[pairs : 2 * pairs]
        there, back = np.minimum(other[i], one[j]), np.minimum(one[i], other[j])
        step = np.where(random.random(pairs) * (there + back) < back, there, -back)
        one[i] += step
        other[i] -= step
        one[j] -= step
        other[j] += step
        rows = np.concatenate([rows[2 * pairs :], i, j])
        rows = rows[(one[rows] > 0) & (other[rows] > 0)]


@dataclass
class _Edge:
    """A flow between two nodes of the network; only its fractional part is still to be decided."""

    tail: Hashable
    head: Hashable
    flow: float

    @property
    def open(self) -> bool:
        return abs(self.flow - round(self.flow)) > SURE

    def room(self, sign: int) -> float:
        """How far the flow may go up (sign 1) or down (-1) to the next whole number."""
        return math.ceil(self.flow) - self.flow if sign > 0 else self.flow - math.floor(self.flow)

    def push(self, step: float) -> None:
        moved = self.flow + step
        self.flow = float(round(moved)) if abs(moved - round(moved)) <= SURE else moved


def _settle(mass: Floats, channels: Sequence[str | None], random: np.random.Generator) -> None:
    """Decide the last rows: no two of them share two open actions, so that there are few."""
    rows = np.flatnonzero((mass > 0).sum(axis=1) > 1)
    wishes = [(int(i), int(a)) for i in rows for a in np.flatnonzero(mass[i])]
    if not wishes:
        return
    total = mass.sum(axis=0)
    of_channel = {c: sum(total[a] for a, channel in enumerate(channels) if channel == c) for c in set(channels)}
    decisions = [_Edge(("row", i), ("action", a), float(mass[i, a])) for i, a in wishes]
    edges = [
        *decisions,
        *(_Edge(("action", a), ("channel", c), float(total[a])) for a, c in enumerate(channels)),
        *(_Edge(("channel", c), "all", float(used)) for c, used in sorted(of_channel.items(), key=str)),
    ]
    while undecided := [edge for edge in edges if edge.open]:
        _push_around(_cycle(undecided), random)
    for (i, a), edge in zip(wishes, decisions, strict=True):
        mass[i, a] = edge.flow


def _cycle(edges: list[_Edge]) -> list[tuple[_Edge, int]]:
    """A cycle of open edges, each with 1 where it is passed forwards and -1 where backwards.

    There is one: flows into a node sum to a whole number, so that no node has a single open edge.
    """
    at: dict[Hashable, list[_Edge]] = {}
    for edge in edges:
        at.setdefault(edge.tail, []).append(edge)
        at.setdefault(edge.head, []).append(edge)
    node, path, met = edges[0].tail, [], {edges[0].tail: 0}
    last: _Edge | None = None
    while True:
        onward = next((edge for edge in at[node] if edge is not last), None)
        if onward is None:  # rounding left a whole sum a hair off: the edge is whole as well
            assert last is not None
            last.flow = float(round(last.flow))
            return []
        forwards = onward.tail == node
        path.append((onward, 1 if forwards else -1))
        node, last = (onward.head if forwards else onward.tail), onward
        if node in met:
            return path[met[node] :]
        met[node] = len(path)


def _push_around(cycle: list[tuple[_Edge, int]], random: np.random.Generator) -> None:
    """Push the flow one way or the other until an edge is whole; which way leaves every expectation as it is."""
    if not cycle:
        return
    there = min(edge.room(sign) for edge, sign in cycle)
    back = min(edge.room(-sign) for edge, sign in cycle)
    step = there if random.random() * (there + back) < back else -back
    for edge, sign in cycle:
        edge.push(sign * step)
