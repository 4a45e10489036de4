"""Prices fixed at training: what the gate puts on scarce slots and on money, so that it judges what would be published.

Publishing prices every night anew, by who is due. The gate needs prices that depend on nobody whom it judges: they are
those of an average night of the learn split's customers as they are now, with as much of each limit as is theirs. They
are stored with the candidate, and each night's report shows them beside the night's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nba_tasks.capacity import SAMPLE, Limit, Prices, movable, solve_prices
from nba_tasks.dataset import BoolArray, FloatArray, IntArray, Transitions
from nba_tasks.policy import Floats, ServedPolicy


@dataclass(frozen=True)
class AverageNight:
    """Customers as they are now, and what there is for them.

    Attributes
    ----------
    q, behaviour, incumbent : arrays of shape (n, n_actions)
        The candidate's values, and the models' probabilities before any price.
    incumbent_value : array of shape (n, n_actions)
        NaN where the incumbent knows no values (version 0).
    eligible : bool array of shape (n, n_actions)
        By tonight's rules.
    limits : tuple of Limit
        A night's limits, scaled to these customers.
    even_share : float
        See `solve_prices`.
    """

    q: FloatArray
    behaviour: Floats
    incumbent: Floats
    incumbent_value: FloatArray
    eligible: BoolArray
    limits: tuple[Limit, ...]
    even_share: float
    _solved: dict[tuple[float, float], Prices] = field(default_factory=dict, repr=False, compare=False)

    def of_candidate(self, served: ServedPolicy, mix: float) -> Prices:
        """Prices of a candidate at a mix."""
        if (key := (mix, served.epsilon)) not in self._solved:
            wished = served.mixtures(self.q, self.behaviour, self.incumbent, self.eligible)(mix)
            self._solved[key] = self._prices(wished, self.q)
        return self._solved[key]

    @cached_property
    def of_incumbent(self) -> Prices:
        """Prices of the incumbent under the same limits: what it would be published with now."""
        return self._prices(self.incumbent, self.incumbent_value)

    def _prices(self, wished: Floats, value: FloatArray) -> Prices:
        return solve_prices(wished, value, movable(wished, value), self.limits, even_share=self.even_share)


def rows_now(data: Transitions) -> NDArray[np.int64]:
    """The newest row of every customer who is still there; evenly picked where there are more than enough."""
    newest = np.ones(len(data), dtype=bool)
    newest[:-1] = data.customer[1:] != data.customer[:-1]
    return np.flatnonzero(newest & ~data.done)


def scaled(limits: Sequence[Limit], rows: int, due: float) -> tuple[Limit, ...]:
    """What there is for `rows` customers, where the whole of it is for the `due` customers of a night."""
    return tuple(replace(limit, at_most=limit.at_most * rows / due) for limit in limits)


def evenly(rows: IntArray, at_most: int = SAMPLE) -> IntArray:
    """At most so many rows: prices hardly gain from more."""
    return rows[:: max(1, math.ceil(len(rows) / at_most))]
