from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nba_tasks.dataset import OPEN, Transitions
from nba_tasks.windows import PADDING, WindowError, cut_windows
from tests.tiny_mdp import FATIGUE, LOGGING

Life = tuple[int, int, str]
"""First epoch, settled epochs, and how the log ends: "done", "open" (an open row follows) or "absent"."""


def make_log(lives: list[Life]) -> Transitions:
    customer: list[int] = []
    epoch: list[int] = []
    action: list[int] = []
    done: list[bool] = []
    for who, (first, length, ending) in enumerate(lives):
        rows = length + (ending == "open")
        customer += [who] * rows
        epoch += range(first, first + rows)
        action += [0] * length + [OPEN] * (ending == "open")
        done += [False] * (rows - 1) + [ending == "done"] if rows else []
    n = len(customer)
    return Transitions(
        customer=np.array(customer, dtype=int),
        epoch=np.array(epoch, dtype=int),
        state=np.zeros((n, 1)),
        action=np.array(action, dtype=int),
        reward=np.zeros(n),
        outcomes=np.zeros((n, 0)),
        eligible_logged=np.ones((n, 2), dtype=bool),
        eligible_target=np.ones((n, 2), dtype=bool),
        propensity=np.full(n, 0.5),
        done=np.array(done, dtype=bool),
        lost=np.array(done, dtype=bool),
        outcome_names=(),
    )


def literal_windows(log: Transitions, horizon: int) -> tuple[list[tuple[int, ...]], int]:
    """One customer, one epoch at a time, from the definition."""
    histories: dict[int, list[int]] = defaultdict(list)
    for row in range(len(log)):
        histories[int(log.customer[row])].append(row)
    lasts = [history[-1] for history in histories.values() if not log.done[history[-1]]]
    ends = [int(log.epoch[last]) - int(log.action[last] == OPEN) for last in lasts]
    end = math.inf
    if ends:
        end = max(ends) - 1 if max(ends) - 1 in ends else max(ends)
    windows, dropped = [], 0
    for history in histories.values():
        at = {int(log.epoch[row]): row for row in history}
        for start, first in at.items():
            if start % horizon or log.action[first] == OPEN:
                continue
            rows, ended = [first], bool(log.done[first])
            for epoch in range(start + 1, start + horizon):
                if ended or epoch not in at or log.action[at[epoch]] == OPEN:
                    break
                rows.append(at[epoch])
                ended = bool(log.done[at[epoch]])
            if (ended or len(rows) == horizon) and start + horizon - 1 <= end:
                windows.append((*rows, *[PADDING] * (horizon - len(rows))))
            else:
                dropped += 1
    return windows, dropped


lives = st.lists(
    st.tuples(st.integers(0, 5), st.integers(1, 12), st.sampled_from(["done", "open", "absent"])),
    min_size=1,
    max_size=8,
)


@given(lives=lives, horizon=st.integers(1, 5))
@settings(max_examples=300, deadline=None)
def test_equals_a_literal_cutter(lives: list[Life], horizon: int) -> None:
    log = make_log(lives)
    windows = cut_windows(log, horizon)
    expected, dropped = literal_windows(log, horizon)
    assert [tuple(rows) for rows in windows.rows] == expected
    assert windows.n_dropped == dropped
    assert (windows.customer == log.customer[windows.rows[:, 0]]).all()
    assert (windows.start % horizon == 0).all()
    used = windows.rows[windows.alive]
    assert len(np.unique(used)) == len(used)


def test_three_customers() -> None:
    """h = 2. Rows 0-4 are customer 0 (epochs 0-3 settled, 4 open), 5 is customer 1 (ends in epoch 0), 6-7 customer 2
    (joins in epoch 1, epochs 1 and 2 settled, then absent).

    The log goes on until epochs 3 (customer 0) and 2 (customer 2): epoch 2 is settled for everybody, so only windows
    from epoch 0 count. Customer 0's second window (epochs 2 and 3) and customer 2's only one (epoch 2) are dropped.
    """
    windows = cut_windows(make_log([(0, 4, "open"), (0, 1, "done"), (1, 2, "absent")]), horizon=2)
    assert windows.rows.tolist() == [[0, 1], [5, PADDING]]
    assert windows.customer.tolist() == [0, 1]
    assert windows.n_dropped == 2


def test_a_given_calendar_end_is_used() -> None:
    log = make_log([(0, 4, "open"), (0, 3, "open")])
    exact = cut_windows(log, 2, last_epoch=np.where(log.customer == 0, 3, 2))
    assert exact.rows.tolist() == [[0, 1], [2, 3], [5, 6]]
    assert len(cut_windows(log, 2)) == 2


def test_ends_do_not_choose_windows_by_outcome() -> None:
    """The log ends inside the second window; those who left in it before must not be the only ones to count."""
    log = FATIGUE.simulate(LOGGING, n=500, epochs=6, seed=1)
    windows = cut_windows(log, 4)
    assert set(windows.start.tolist()) == {0}
    left = log.done & (log.epoch >= 4)
    assert left.any()
    assert not np.isin(windows.rows, np.flatnonzero(left)).any()


def test_horizon_one_is_every_settled_row() -> None:
    log = make_log([(0, 3, "open"), (2, 1, "done")])
    assert cut_windows(log, 1).rows.ravel().tolist() == [0, 1, 2, 4]


def test_horizon_below_one_is_refused() -> None:
    with pytest.raises(WindowError, match="at least 1"):
        cut_windows(make_log([(0, 1, "open")]), 0)


def test_one_window_each_by_lowest_order() -> None:
    windows = cut_windows(make_log([(0, 6, "open"), (0, 6, "open")]), 2)
    order = np.array([2, 1, 3, 9, 7, 8])
    assert windows.one_each(order).rows[:, 0].tolist() == [2, 9]
