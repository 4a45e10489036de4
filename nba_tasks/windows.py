"""Cut transitions into windows: the runs of h epochs on which a policy is judged."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nba_tasks.dataset import BoolArray, IntArray, Transitions

PADDING = -1
"""Row index of a step that comes after the end of the relationship."""

NEVER = int(np.iinfo(np.int64).max)
"""Calendar end of a log in which every relationship ended: nothing was cut off."""


class WindowError(ValueError):
    """Windows that cannot be cut; the message says what to change."""


@dataclass(frozen=True)
class Windows:
    """Non-overlapping runs of `horizon` epochs, each starting with a customer alive and due.

    Attributes
    ----------
    rows : int array of shape (n_windows, horizon)
        Row of the transitions at each step; `PADDING` after the step that ended the relationship.
    customer : int array of shape (n_windows,)
        Whose window it is: the cluster of every variance.
    start : int array of shape (n_windows,)
        Epoch of the first step.
    n_dropped : int
        Windows with at least one settled epoch that the end of the log cut off.
    """

    rows: NDArray[np.int64]
    customer: IntArray
    start: IntArray
    n_dropped: int

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def horizon(self) -> int:
        return int(self.rows.shape[1])

    @property
    def alive(self) -> BoolArray:
        """bool array of shape (n_windows, horizon): steps at which a decision was taken."""
        return np.asarray(self.rows != PADDING)

    def take(self, chosen: IntArray | BoolArray) -> Windows:
        """The chosen windows; choose them by calendar or hash, never by what happened in them."""
        return replace(self, rows=self.rows[chosen], customer=self.customer[chosen], start=self.start[chosen])

    def one_each(self, order: IntArray) -> Windows:
        """One window per customer, the one lowest in `order` (n_windows,): a hash, fixed when the customer enters."""
        by_customer = np.lexsort((order, self.customer))
        customer = self.customer[by_customer]
        first = np.ones(len(self), dtype=bool)
        first[1:] = customer[1:] != customer[:-1]
        return self.take(by_customer[first])


def cut_windows(transitions: Transitions, horizon: int, last_epoch: IntArray | int | None = None) -> Windows:
    """Cut windows by calendar: they start where `epoch % horizon == 0` and are never chosen by outcome.

    A window counts if all its epochs *could* be observed, that is, if its last epoch is settled on the customer's
    grid, whether or not the relationship ended before. Keeping a window only because an end completed it early, while
    the survivors' windows beside it are cut by the log's end, would choose windows by their outcome.

    Parameters
    ----------
    transitions : Transitions
        Ordered by customer and epoch.
    horizon : int
        h, the number of decisions in a window.
    last_epoch : int or int array of shape (n,), optional
        Last epoch of each row's customer that is settled by the calendar, had the customer stayed. Left out, it is
        read from the customers whose log goes on: the grid's offset makes their logs end at two neighbouring epochs
        at most, so the earlier of the two holds for everybody.

    Raises
    ------
    WindowError
        The horizon is below 1.
    """
    if horizon < 1:
        raise WindowError(f"the horizon must be at least 1 decision, not {horizon}")
    n = len(transitions)
    settled = ~transitions.open
    end = np.asarray(_calendar_end(transitions) if last_epoch is None else last_epoch)
    first = np.flatnonzero(settled & (transitions.epoch % horizon == 0))
    rows = np.full((len(first), horizon), PADDING, dtype=np.int64)
    rows[:, 0] = first
    following = transitions.next_row
    ended = transitions.done[first] if n else np.zeros(0, dtype=bool)
    observed = np.ones(len(first), dtype=bool)
    for step in range(1, horizon):
        before = rows[:, step - 1]
        after = np.where(ended | ~observed, PADDING, following[before])
        has_row = (after != PADDING) & settled[after]
        observed &= ended | has_row
        rows[:, step] = np.where(has_row, after, PADDING)
        ended = ended | (has_row & transitions.done[after])
    last = end[first] if end.ndim else end
    whole = observed & (transitions.epoch[first] + horizon - 1 <= last)
    return Windows(
        rows=rows[whole],
        customer=transitions.customer[first][whole],
        start=transitions.epoch[first][whole],
        n_dropped=int(np.count_nonzero(~whole)),
    )


def _calendar_end(transitions: Transitions) -> int:
    """The last epoch that is settled for everybody, whatever their offset; `NEVER` if no log is cut off."""
    if len(transitions) == 0:
        return NEVER
    last_row = np.ones(len(transitions), dtype=bool)
    last_row[:-1] = transitions.customer[1:] != transitions.customer[:-1]
    # Of an open last row, the epoch before it is the last settled one.
    settled_until = transitions.epoch[last_row] - transitions.open[last_row]
    goes_on = ~transitions.done[last_row]
    if not goes_on.any():
        return NEVER
    ends = settled_until[goes_on]
    latest = int(ends.max())
    return latest - 1 if (ends == latest - 1).any() else latest
