from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.gate_speed import DISCOUNT
from bench.learning_speed import ENDLESS, Fit, fit, greedy_value, log_of
from nba_tasks.dataset import FloatArray
from nba_tasks.simulators.tabular import LOGGING, RETAIL, Floats


@dataclass(frozen=True)
class Table:
    """Action values that look at the market's state alone."""

    table: Floats

    def values(self, state: FloatArray) -> NDArray[np.float32]:
        return np.asarray(self.table[state[:, 0].astype(int)], dtype=np.float32)


def test_the_log_has_as_many_transitions_as_asked_for() -> None:
    log = log_of(20_000)
    assert log.state.shape == (20_000, 14)
    assert log.state.dtype == np.float32


def test_the_value_of_perfect_action_values_is_the_best_policys() -> None:
    best = RETAIL.best_policy(DISCOUNT)
    expected = RETAIL.window_value(best, LOGGING, ENDLESS, DISCOUNT)
    assert greedy_value(Table(RETAIL.q_tables(best, ENDLESS, DISCOUNT)[-1])) == pytest.approx(expected, rel=1e-12)
    assert greedy_value(Table(-RETAIL.q_tables(best, ENDLESS, DISCOUNT)[-1])) < expected


@pytest.mark.parametrize("kind", ["frozen", "refit"])
def test_a_fit_is_timed_sweep_by_sweep(kind: str) -> None:
    found: Fit = fit("frozen" if kind == "frozen" else "refit", 20_000, 3)
    assert found.transitions == 20_000
    assert found.sweeps >= 3
    assert 0 < found.sweep < found.seconds
    assert 0 < found.preparation < found.seconds
    assert found.value > RETAIL.window_value(LOGGING, LOGGING, ENDLESS, DISCOUNT)
