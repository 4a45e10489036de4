from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nba_tasks.gate.sample import GateError, Sample, check_splits
from nba_tasks.windows import cut_windows
from tests.tiny_mdp import FATIGUE, LOGGING, by_row


def test_the_propensity_is_the_logged_one_else_the_models() -> None:
    log = FATIGUE.simulate(LOGGING, n=20, epochs=2, seed=0)
    half = np.where(np.arange(len(log)) % 2 == 0, 0.25, np.nan)
    sample = Sample.of(
        replace(log, propensity=half),
        cut_windows(log, 2),
        behaviour=by_row(LOGGING, log),
        incumbent=by_row(LOGGING, log),
        discount=1.0,
    )
    settled = ~log.open
    modelled = LOGGING[log.state[:, 0].astype(int), log.action]
    expected = np.where(sample.logged, 0.25, modelled)
    np.testing.assert_array_equal(sample.propensity[settled], expected[settled])
    assert 0 < sample.logged_share < 1


def test_the_charge_for_lost_customers_enters_the_reward() -> None:
    log = FATIGUE.simulate(LOGGING, n=200, epochs=2, seed=0)
    rows = by_row(LOGGING, log)
    sample = Sample.of(log, cut_windows(log, 2), behaviour=rows, incumbent=rows, discount=1.0, lost_charge=10.0)
    np.testing.assert_array_equal(sample.reward, log.reward - 10 * log.lost)


def test_no_complete_window_is_an_error() -> None:
    log = FATIGUE.simulate(LOGGING, n=5, epochs=2, seed=0)
    with pytest.raises(GateError, match="no complete window of 4 decisions"):
        Sample.of(
            log,
            cut_windows(log, 4),
            behaviour=by_row(LOGGING, log),
            incumbent=by_row(LOGGING, log),
            discount=1.0,
        )


def test_an_unknown_harm_is_an_error() -> None:
    log = FATIGUE.simulate(LOGGING, n=5, epochs=2, seed=0)
    with pytest.raises(GateError, match="complaint is not among the outcomes paid, left"):
        Sample.of(
            log,
            cut_windows(log, 2),
            behaviour=by_row(LOGGING, log),
            incumbent=by_row(LOGGING, log),
            discount=1.0,
            harms=("complaint",),
        )


@pytest.mark.parametrize(("table", "message"), [([[0.5, 0.6]] * 2, "do not sum to 1"), ([[-0.5, 1.5]] * 2, "negative")])
def test_an_incumbent_that_is_no_policy_is_an_error(table: list[list[float]], message: str) -> None:
    log = FATIGUE.simulate(LOGGING, n=5, epochs=2, seed=0)
    with pytest.raises(GateError, match=message):
        Sample.of(
            log,
            cut_windows(log, 2),
            behaviour=by_row(LOGGING, log),
            incumbent=by_row(np.array(table), log),
            discount=1.0,
        )


def test_a_customer_in_two_splits_is_an_error() -> None:
    check_splits(learn=np.array([1, 2]), select=np.array([3]), gate=np.array([4, 4]))
    with pytest.raises(GateError, match=r"1 customer\(s\) are in both the learn and the gate split, e.g. 2"):
        check_splits(learn=np.array([1, 2]), select=np.array([3]), gate=np.array([2, 4]))
