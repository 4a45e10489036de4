from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nba_tasks.betting import CAP, Floats, log_wealth, lower_mean, stakes

ALPHA = 0.05


def drawn(runs: int, n: int) -> Floats:
    """Skewed values of mean 1/4, a few of them large."""
    rng = np.random.default_rng(5)
    return np.where(rng.random((runs, n)) < 0.02, rng.gamma(0.5, 20.0, (runs, n)), 0.05 * rng.random((runs, n)) / 0.49)


def test_wealth_by_hand() -> None:
    """Values 1, 0 and 2 against a mean of 1/2 with stakes 1/2, 1/2 and 4: 1 + .5 · .5 = 1.25, then times
    1 − .5 · .5 = .75, then the stake is capped at .75 / .5 = 1.5, and 1 + 1.5 · 1.5 = 3.25."""
    found = np.exp(log_wealth(np.array([1.0, 0.0, 2.0]), np.array([0.5, 0.5, 4.0]), 0.5))
    assert CAP == 0.75
    np.testing.assert_allclose(found, [1.25, 0.9375, 3.046875], rtol=1e-12)


def test_wealth_at_the_true_mean_seldom_ever_reaches_one_in_alpha() -> None:
    """Ville's promise is for all sample sizes together, here 1 to 400. With 2,000 runs at a true 5% more than 144
    exceed by chance once in 100,000."""
    values = drawn(2_000, 400)
    mean = 0.02 * 10.0 + 0.98 * 0.025 / 0.49
    reached = sum(log_wealth(row, stakes(row, ALPHA), mean).max() >= math.log(1 / ALPHA) for row in values)
    assert reached <= stats.binom.isf(1e-5, 2_000, ALPHA)


def test_a_stake_depends_on_earlier_values_only() -> None:
    values = drawn(1, 50)[0]
    later = values.copy()
    later[30:] += 7.0
    np.testing.assert_array_equal(stakes(values, ALPHA)[:31], stakes(later, ALPHA)[:31])


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60), st.floats(0.001, 0.2))
def test_the_bound_is_the_largest_refuted_mean(values: list[float], alpha: float) -> None:
    given_values = np.array(values)
    bound, stake = lower_mean(given_values, alpha), stakes(given_values, alpha)
    assert 0 <= bound <= given_values.max()
    just_above = bound + 1e-6 * max(1.0, bound)
    assert log_wealth(given_values, stake, just_above).max() < math.log(1 / alpha)
    if bound > 1e-6:
        assert log_wealth(given_values, stake, 0.999 * bound).max() >= math.log(1 / alpha)


def test_more_confidence_and_fewer_values_lower_the_bound() -> None:
    values = np.random.default_rng(1).random(4_000)
    assert lower_mean(values[:400], 0.05) < lower_mean(values, 0.05) < 0.5
    assert lower_mean(values, 0.001) < lower_mean(values, 0.05)
    # Of a uniform's mean the t bound of one look is .4925; holding at all looks costs less than as much again.
    assert lower_mean(values, 0.05) > 0.485


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_values_that_cannot_be_bet_on_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite and not negative"):
        lower_mean(np.array([1.0, bad]), ALPHA)
