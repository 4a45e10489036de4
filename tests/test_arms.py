from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nba_tasks.arms import RATIOS, Realised, detectable, excess_evidence, lift, promise_kept, realised, sample_ratio
from nba_tasks.bounds import Estimate

SHARES = {"holdout": 0.05, "business as usual": 0.1, "served policy": 0.85}


def test_the_evidence_of_four_customers_by_hand() -> None:
    """Two arms of a half: Γ(100)/Γ(104) · (50·51·52·53)/(½)⁴ = 16 · 50·51·52·53 / (100·101·102·103)."""
    found = sample_ratio({"a": 4, "b": 0}, {"a": 0.5, "b": 0.5})
    assert found.evidence == pytest.approx(16 * 50 * 51 * 52 * 53 / (100 * 101 * 102 * 103))


def test_sound_assignments_are_seldom_accused_over_all_looks() -> None:
    """200 programmes of 50,000 customers, looked at after every 500th: at α = 1% at most 1% are ever accused.

    More than 8 of 200 would happen by chance with a probability of 2·10⁻⁴ if the rate were exactly 1%.
    """
    random, accused = np.random.default_rng(1), 0
    for _ in range(200):
        seen = np.cumsum(random.multinomial(500, list(SHARES.values()), 100), axis=0)
        looks = (sample_ratio(dict(zip(SHARES, row.tolist(), strict=True)), SHARES) for row in seen)
        accused += any(look.broken(0.01) for look in looks)
    assert accused <= 8


def test_a_lost_tenth_of_an_arm_is_found() -> None:
    """Of 40,000 customers a tenth of the holdout is missing: 200 instead of 5%, found with certainty for practice."""
    counts = {"holdout": 1800, "business as usual": 4000, "served policy": 34_200}
    assert sample_ratio(counts, SHARES).broken(0.01)
    right = {"holdout": 2000, "business as usual": 4000, "served policy": 34_000}
    assert not sample_ratio(right, SHARES).broken(0.01)


def test_an_arm_that_should_not_exist_is_found_at_once() -> None:
    found = sample_ratio({"holdout": 1, "served policy": 9}, {"holdout": 0.0, "served policy": 1.0})
    assert found.broken(1e-6)
    assert not sample_ratio({"holdout": 0, "served policy": 9}, {"holdout": 0.0, "served policy": 1.0}).broken(0.05)
    with pytest.raises(ValueError, match="must name the arms"):
        sample_ratio({"a": 1}, {"b": 1.0})


def test_the_evidence_of_two_events_by_hand() -> None:
    """Arms of 1 and 3 decisions, one event each, nothing tolerated: p(r) = r / (r + 3), so p(1) = 1/4.

    The likelihood ratio of r is p(r) (1 - p(r)) / (1/4 · 3/4) = 16 r / (r + 3)².
    """
    found = excess_evidence(np.array([[1, 1]]), np.array([[1, 3]]), 1.0)
    assert found == pytest.approx(np.mean(16 * RATIOS / (RATIOS + 3) ** 2))
    twice = excess_evidence(np.array([[1, 0], [0, 1]]), np.array([[1, 3], [1, 3]]), 1.0)
    assert twice == pytest.approx(found), "the same events on two nights"
    assert excess_evidence(np.array([[2, 0]]), np.array([[5, 0]]), 1.0) == pytest.approx(1), "nothing to compare with"
    assert excess_evidence(np.zeros((0, 2), int), np.zeros((0, 2), int), 1.2) == pytest.approx(1)


@pytest.mark.parametrize("true_ratio", [1.0, 1.2])
def test_a_policy_within_the_margin_is_seldom_accused_over_a_roll_out(true_ratio: float) -> None:
    """500 roll-outs of 120 nights, looked at every night, a tenth and then half of 3,000 decisions; α = 5%.

    At a rate of exactly 5%, more than 39 accused of 500 would come about with a probability of 0.4%.
    """
    random, accused = np.random.default_rng(5), 0
    decisions = np.array([[300, 2700]] * 60 + [[1500, 1500]] * 60)
    for _ in range(500):
        events = random.poisson(decisions * 0.002 * np.array([true_ratio, 1.0]))
        accused += any(excess_evidence(events[: n + 1], decisions[: n + 1], 1.2) > 20 for n in range(0, 120, 3))
    assert accused <= 39


def test_three_times_the_harm_is_found_within_a_month() -> None:
    """Of 100 such roll-outs at least 90 are accused; at a power of 97% fewer would be seen once in 1,000 times."""
    random, accused = np.random.default_rng(6), 0
    decisions = np.array([[1500, 1500]] * 28)
    for _ in range(100):
        events = random.poisson(decisions * 0.002 * np.array([3.0, 1.0]))
        accused += excess_evidence(events, decisions, 1.2) > 20
    assert accused >= 90


def test_values_of_arms_by_hand() -> None:
    """Served: customers 1 (windows 2, 4) and 2 (window 6): mean 4. Cluster sums less their share: −2 and 2.

    Their variance, 2/1 · (4 + 4) / 9, gives a standard error of 4/3. The holdout's 1 and 3: mean 2, error 1.
    """
    value, customer = np.array([2.0, 4.0, 6.0, 1.0, 3.0]), np.array([1, 1, 2, 8, 9])
    arm = np.array(["served", "served", "served", "holdout", "holdout"])
    found = realised(value, customer, arm)
    assert found["served"].estimate.value == 4
    assert found["served"].estimate.standard_error == pytest.approx(4 / 3)
    assert found["holdout"].windows == 2
    gap = lift(found["served"], found["holdout"])
    assert gap.value == 2
    assert gap.standard_error == pytest.approx(math.sqrt(16 / 9 + 1))


def test_lift_covers_the_true_difference() -> None:
    """2,000 replicates of arms of 60 and 15 customers with different spreads at nominal 90%.

    More than 13% misses would happen by chance with a probability of 2·10⁻⁵ if coverage were exactly 90%.
    """
    random, missed = np.random.default_rng(3), 0
    arm = np.repeat(["served", "usual"], [60, 15])
    for _ in range(2000):
        value = np.concatenate([random.normal(1.0, 1.0, 60), random.normal(0.5, 4.0, 15)])
        found = realised(value, np.arange(75), arm)
        low, high = lift(found["served"], found["usual"]).interval(0.1)
        missed += not low <= 0.5 <= high
    assert missed <= 260


@given(st.floats(-5, 5), st.floats(0.01, 2), st.floats(-1, 1))
def test_a_promise_is_kept_broken_or_open(value: float, error: float, lower: float) -> None:
    found = Estimate(value, error, 1000)
    answer = promise_kept(found, (lower, lower + 1), 0.05)
    assert (answer == "kept") == (found.lower(0.05) > lower)
    assert (answer == "broken") == (found.upper(0.05) < lower)


def test_an_arm_of_one_says_nothing() -> None:
    one = Realised("served", 5, Estimate(1.0, 0.1, 100))
    alone = Realised("holdout", 1, Estimate(0.0, math.inf, 1))
    assert lift(one, alone).lower(0.05) == -math.inf
    assert detectable(1.0, (100, 1), 0.05, 0.8) == math.inf


def test_the_detectable_difference_is_found_as_often_as_stated() -> None:
    """4,000 replicates at 80% power: between 77.5% and 82.5% found; outside by chance with a probability of 10⁻⁴."""
    random = np.random.default_rng(9)
    gap = detectable(2.0, (200, 50), 0.05, 0.8)
    served, usual = random.normal(gap, 2.0, (4000, 200)), random.normal(0, 2.0, (4000, 50))
    error = np.sqrt(served.var(axis=1, ddof=1) / 200 + usual.var(axis=1, ddof=1) / 50)
    found = (served.mean(axis=1) - usual.mean(axis=1)) / error > 1.665
    assert 0.775 <= found.mean() <= 0.825
