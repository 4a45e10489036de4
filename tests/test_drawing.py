from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nba_tasks.capacity import solve_prices
from nba_tasks.drawing import draw_together
from nba_tasks.policy import PolicyError
from tests.test_capacity import COST, night, three_limits

Floats = NDArray[np.float64]

CHANNELS = (None, "email", "mail", "mail", "phone")


def probabilities(seed: int, n: int, sharpness: float) -> Floats:
    random = np.random.default_rng(seed)
    share = random.dirichlet(np.full(5, sharpness), n)
    share[random.random((n, 5)) < 0.3] = 0
    share[:, 0] += 1e-3
    return np.asarray(share / share.sum(axis=1, keepdims=True))


def counts(action: NDArray[np.int64]) -> Floats:
    return np.bincount(action, minlength=5).astype(np.float64)


@settings(deadline=None, max_examples=150)
@given(seed=st.integers(0, 100_000), n=st.integers(1, 120), sharpness=st.floats(0.05, 3))
def test_counts_are_their_expectations_rounded(seed: int, n: int, sharpness: float) -> None:
    """Of each action and of each channel; and nobody gets an action that had no chance."""
    wished = probabilities(seed, n, sharpness)
    action = draw_together(wished, CHANNELS, np.random.default_rng(seed + 1))
    assert (wished[np.arange(n), action] > 0).all()
    assert (np.abs(counts(action) - wished.sum(axis=0)) < 1 + 1e-6).all()
    for channel in set(CHANNELS):
        of_channel = np.array([c == channel for c in CHANNELS])
        assert abs(counts(action)[of_channel].sum() - wished[:, of_channel].sum()) < 1 + 1e-6


def test_published_probabilities_match_frequencies_with_capacities_binding() -> None:
    """10,000 draws of a night whose limits bind.

    Every probability of 12 customers lies within 4.9 standard errors of its frequency: 60 of them fail with a
    probability of 6·10⁻⁵. No draw breaks a limit.
    """
    wished, value, eligible = night(11, 12, mixed=True)
    limits = three_limits(wished, 0.6)
    limits = [limits[0], limits[1]]
    prices = solve_prices(wished, value, eligible, limits, even_share=0.1)
    assert all(price > 0 for price in prices.of_limits.values()), "the limits bind"
    served = prices.apply(wished, value, eligible)
    random, draws = np.random.default_rng(5), 10_000
    drawn = np.zeros(served.shape)
    for _ in range(draws):
        action = draw_together(served, CHANNELS, random)
        assert all(np.dot(limit.use, counts(action)) <= limit.at_most for limit in limits)
        drawn[np.arange(12), action] += 1
    error = np.sqrt(served * (1 - served) / draws)
    assert (np.abs(drawn / draws - served) <= 4.9 * error + 1e-9).all()


def test_a_budget_is_overdrawn_by_less_than_one_contact_of_each_kind() -> None:
    wished, _, _ = night(2, 400, mixed=True)
    for seed in range(50):
        spent = COST @ counts(draw_together(wished, CHANNELS, np.random.default_rng(seed)))
        assert spent < COST @ wished.sum(axis=0) + COST.sum()


def test_the_same_generator_gives_the_same_draw() -> None:
    wished = probabilities(3, 1000, 1.0)
    first, second = (draw_together(wished, CHANNELS, np.random.default_rng(8)) for _ in range(2))
    assert (first == second).all()


def test_a_sure_choice_stays() -> None:
    sure = np.eye(5)[[0, 4, 2, 2]]
    assert draw_together(sure, CHANNELS, np.random.default_rng(0)).tolist() == [0, 4, 2, 2]


def test_what_is_no_distribution_is_refused() -> None:
    with pytest.raises(PolicyError, match="must sum to 1"):
        draw_together(np.array([[0.5, 0.4, 0, 0, 0]]), CHANNELS, np.random.default_rng(0))
