from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nba_tasks.drift import psi, psi_of_counts


def test_two_bins_by_hand() -> None:
    """(.5, .5) against (.6, .4): .1 ln 1.2 − .1 ln .8 = .0405; half a count hardly shows among so many."""
    assert psi_of_counts(np.array([50_000, 50_000]), np.array([60_000, 40_000])).value == pytest.approx(
        0.0405, abs=1e-4
    )


def test_the_chance_bound_holds() -> None:
    """5,000 pairs of 300 and 200 customers from one distribution: at a rate of .001 more than 16 exceed the bound with
    a probability of 2·10⁻⁵."""
    random, beyond = np.random.default_rng(4), 0
    for _ in range(5000):
        found = psi_of_counts(random.multinomial(300, [0.25] * 4), random.multinomial(200, [0.25] * 4))
        beyond += found.value > found.by_chance
    assert beyond <= 16


def test_a_shifted_feature_alarms_and_a_still_one_does_not() -> None:
    random = np.random.default_rng(5)
    then = random.normal(0, 1, 20_000)
    assert not psi(then, random.normal(0, 1, 5000)).moved
    assert psi(then, random.normal(0.8, 1, 5000)).alarming
    segments = random.choice(4, 20_000, p=[0.3, 0.35, 0.25, 0.1]).astype(np.float32)
    assert not psi(segments, random.choice(4, 3000, p=[0.3, 0.35, 0.25, 0.1]).astype(np.float32)).moved
    assert psi(segments, random.choice(4, 3000, p=[0.1, 0.25, 0.35, 0.3]).astype(np.float32)).alarming


def test_a_category_never_seen_before_counts() -> None:
    then = np.repeat([0.0, 1.0, 2.0], 1000)
    assert psi(then, np.repeat([0.0, 1.0, 2.0, 3.0], 300)).alarming
    assert psi(np.zeros(1000), np.ones(1000)).alarming


@given(st.lists(st.integers(0, 50), min_size=2, max_size=8), st.lists(st.integers(0, 50), min_size=2, max_size=8))
def test_symmetric_and_not_negative(then: list[int], now: list[int]) -> None:
    size = min(len(then), len(now))
    one, other = np.array(then[:size]), np.array(now[:size])
    assert psi_of_counts(one, other).value == pytest.approx(psi_of_counts(other, one).value)
    assert psi_of_counts(one, other).value >= 0
    assert psi_of_counts(one, one).value == pytest.approx(0)


def test_nothing_to_compare_moves_nothing() -> None:
    assert not psi_of_counts(np.array([5, 5]), np.array([0, 0])).moved
