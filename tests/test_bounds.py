from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize, stats

from nba_tasks.bounds import (
    Clusters,
    Estimate,
    bootstrap_interval,
    clustered_mean,
    gamma_lower,
    gamma_upper,
    sequence_bounds,
    sequence_reach,
    spent_alpha,
)

Floats = NDArray[np.float64]


def ratio_log(rng: np.random.Generator, customers: int) -> tuple[Floats, NDArray[np.int64]]:
    """Windows of customers with 1 to 5 windows each; those with more earn more, and theirs are alike. Mean: 5/3."""
    size = rng.integers(1, 6, size=customers)
    customer = np.repeat(np.arange(customers), size)
    own = rng.exponential(size=customers) + (size - 3) / 3
    return own[customer] + rng.normal(scale=0.3, size=len(customer)), customer


RATIO_TRUTH = 1 + (55 / 15 - 3) / 3
"""E[n (1 + (n − 3)/3)] / E[n] for n uniform on 1 … 5."""


def test_three_windows_by_hand() -> None:
    """Customer 0: 1 and 3, customer 1: 8; mean 4. Residual sums: −3 − 1 = −4 and 4; 2/1 · (16 + 16) / 3² = 64/9.

    A customer's value lies ∓ 4 · 2/3 = 8/3 from the mean, one standard deviation. With a third customer like the first
    the mean moves by −1/3 of it and the variance becomes 1 − 1/9 = 8/9, a standard error of √(8/9/2) = 2/3 of 8/3. The
    sample is not skewed, with the customer added it is towards the better: the quantile stays t's own.
    """
    estimate = clustered_mean(np.array([1.0, 3.0, 8.0]), np.array([0, 0, 1]))
    assert estimate.value == pytest.approx(4)
    assert estimate.standard_error == pytest.approx(8 / 3)
    assert estimate.n_customers == 2
    assert estimate.lower(0.05) == pytest.approx(4 - 8 / 9 - 6.313751514675 * 16 / 9)


def test_a_skewed_sample_by_hand() -> None:
    """Values 0, 0, 0, 4: mean 1, variance 3 (divisor 4), skewness 6/3^1.5 = 1.1547, standard error 1.

    The upper bound adds a 4: mean 8/5, variance (3 (8/5)² + 2 (12/5)²)/5 = 96/25, skewness (−3 (8/5)³ + 2 (12/5)³)/5 /
    (96/25)^1.5 = .40825. The larger, 1.1547, counts: k = −1.1547/√5 = −.516398; t(.95, 3) = 2.353363; under the cube
    root stands 1 − .516398 · (2.353363 + .086066) = −.259716, the root is −.638013; q = 3/−.516398 · (−.638013 − 1) =
    9.515994 standard errors of √(96/25/4) = .979796.
    """
    estimate = clustered_mean(np.array([0.0, 0.0, 0.0, 4.0]), np.arange(4))
    assert estimate.standard_error == pytest.approx(1)
    assert estimate.tails is not None
    assert estimate.tails.skewness == pytest.approx(1.1547005)
    assert estimate.upper(0.05) == pytest.approx(8 / 5 + 9.515994 * 0.979796, rel=1e-4)


def test_without_tails_it_is_the_ordinary_t_interval() -> None:
    values = np.random.default_rng(0).exponential(size=50)
    expected = stats.t.interval(0.9, 49, values.mean(), stats.sem(values))
    estimate = replace(clustered_mean(values, np.arange(50)), tails=None)
    np.testing.assert_allclose(estimate.interval(0.1), expected)


@pytest.mark.parametrize("seed", range(5))
def test_the_slow_reference_of_the_correction_agrees(seed: int) -> None:
    """The customer is really added, and Hall's transformation of the t statistic inverted by search."""
    values = np.random.default_rng(seed).gamma(0.3, size=60) * (-1) ** seed
    estimate = clustered_mean(values, np.arange(60))
    for alpha in (0.2, 0.05, 0.001):
        z = float(stats.t.ppf(1 - alpha, 59))
        for sign, bound in ((1, estimate.lower(alpha)), (-1, estimate.upper(alpha))):
            ours = sign * values
            more = np.append(ours, ours.min())
            k = min(stats.skew(ours), stats.skew(more)) / math.sqrt(61)
            quantile = optimize.brentq(
                lambda t, k=k, z=z: t + k / 3 * t**2 + k**2 / 27 * t**3 + k / 6 - z, -100, 100, xtol=1e-12
            )
            assert sign * bound == pytest.approx(more.mean() - quantile * stats.sem(more), rel=1e-9)


def test_the_correction_vanishes_with_more_customers() -> None:
    estimate = clustered_mean(np.random.default_rng(0).exponential(size=1_000), np.arange(1_000))
    many = estimate.grown(10_000)
    assert many.n_customers == 10_000_000
    assert many.standard_error == pytest.approx(estimate.standard_error / 100)
    assert many.lower(0.05) == pytest.approx(many.value - 1.6448536 * many.standard_error, rel=1e-5)


def test_rare_large_losses_are_allowed_for() -> None:
    """Four customers in 1,000 lose 1, the others next to nothing: 2,000 samples of 2,000, eight losses each.

    Nominally 3% of the lower bounds lie above the mean, and at most 83 do (the 99.9% quantile of 60). Of the plain t
    bounds more than twice as many do.
    """
    rng, share = np.random.default_rng(1), 0.004
    customers = Clusters(np.arange(2_000))
    missed = plain = 0
    for _ in range(2_000):
        estimate = customers.mean(0.02 * rng.standard_normal(2_000) - (rng.random(2_000) < share))
        missed += estimate.lower(0.03) > -share
        plain += replace(estimate, tails=None).lower(0.03) > -share
    assert missed <= stats.binom.ppf(0.999, 2_000, 0.03)
    assert plain > 120


@pytest.mark.parametrize("seed", range(5))
def test_the_slow_reference_agrees(seed: int) -> None:
    values, customer = ratio_log(np.random.default_rng(seed), 40)
    mean = sum(values) / len(values)
    residuals = {
        c: sum(v - mean for v, owner in zip(values, customer, strict=True) if owner == c) for c in set(customer)
    }
    variance = 40 / 39 * sum(r * r for r in residuals.values()) / len(values) ** 2
    estimate = clustered_mean(values, customer)
    assert estimate.value == pytest.approx(mean, rel=1e-9)
    assert estimate.standard_error == pytest.approx(math.sqrt(variance), rel=1e-9)


def test_permuting_and_renaming_customers_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    values, customer = ratio_log(rng, 100)
    order = rng.permutation(len(values))
    before, after = clustered_mean(values, customer), clustered_mean(values[order], 7 * (99 - customer[order]))
    assert after.value == pytest.approx(before.value, rel=1e-9)
    assert after.standard_error == pytest.approx(before.standard_error, rel=1e-9)


def test_more_confidence_is_wider_and_more_data_tighter() -> None:
    rng = np.random.default_rng(2)
    few, many = (clustered_mean(*ratio_log(rng, n)) for n in (200, 5_000))
    assert few.lower(0.01) < few.lower(0.05) < few.value < few.upper(0.05) < few.upper(0.01)
    assert many.standard_error < few.standard_error
    assert gamma_upper(0.01, 1e-5, 1e-4, 0.01) > gamma_upper(0.01, 1e-5, 1e-4, 0.05)
    assert sequence_reach(100, 0.01, 100) > sequence_reach(100, 0.05, 100) > sequence_reach(400, 0.05, 100)


def test_the_lower_bound_of_clustered_windows_covers() -> None:
    """2,000 logs of 200 customers at a nominal 5%: at most 131 missed on either side (the 99.9% quantile of 100
    expected ones), and at least 40 of the lower bounds: customers' values are skewed upwards, and the correction does
    not give that away. Ignoring the clusters would miss three times as often as stated."""
    rng = np.random.default_rng(3)
    below = above = naive = 0
    for _ in range(2_000):
        values, customer = ratio_log(rng, 200)
        estimate = clustered_mean(values, customer)
        below += estimate.lower(0.05) > RATIO_TRUTH
        above += estimate.upper(0.05) < RATIO_TRUTH
        naive += clustered_mean(values, np.arange(len(values))).upper(0.05) < RATIO_TRUTH
    limit = stats.binom.ppf(0.999, 2_000, 0.05)
    assert 40 <= below <= limit
    assert above <= limit
    assert naive > 3 * 0.05 * 2_000


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_customers_bound_nothing(n: int) -> None:
    estimate = clustered_mean(np.ones(2 * n), np.zeros(2 * n, dtype=int))
    assert estimate.lower(0.05) == -math.inf or math.isnan(estimate.lower(0.05))
    assert sequence_bounds(estimate, 0.05, 10) == (-math.inf, math.inf)


def test_spent_alpha_sums_to_alpha() -> None:
    """α₁ = .05 · 6/π² = .0304; the first 10,000 spend all but α · 6/π² / 10,000."""
    assert spent_alpha(0.05, 1) == pytest.approx(0.0303964, rel=1e-5)
    assert sum(spent_alpha(0.05, k) for k in range(1, 10_001)) == pytest.approx(0.05, rel=1e-4)
    with pytest.raises(ValueError, match="counted from 1"):
        spent_alpha(0.05, 0)


def test_the_sequence_by_hand() -> None:
    """α = .05, n = n* = 100: −2 ln α = 5.991465, ln(1 + 5.991465) = 1.944690; ρ² = .07936155, nρ² + 1 = 8.936155;
    √8.936155 / .1 = 29.89340, ln 30.89340 = 3.430543; 2 · 8.936155 / (10⁴ · .07936155) = .02252034; √(…) = .2779509."""
    assert sequence_reach(100, 0.05, 100) == pytest.approx(0.2779509, rel=1e-5)
    low, high = sequence_bounds(Estimate(1.0, 0.2, 100), 0.05, 100)
    assert (low, high) == pytest.approx((1 - 2 * 0.2779509, 1 + 2 * 0.2779509), rel=1e-5)


def test_the_sequence_holds_at_all_looks_where_a_fixed_bound_fails() -> None:
    """2,000 paths, a look after every 10 of 2,000 customers from the 100th on; α = 5%.

    At most α of the paths may cross at all; 130 crossings are 3 standard deviations above 100 (false alarms 1 in 700,
    and fewer as the sequence is conservative). A bound for one look is crossed by far more paths.
    """
    rng = np.random.default_rng(4)
    crossed = fixed = 0
    looks = np.arange(100, 2_001, 10)
    reach = np.array([sequence_reach(int(n), 0.05, 500) for n in looks])
    for _ in range(2_000):
        values = rng.exponential(size=2_000) - 1
        totals, squares = values.cumsum()[looks - 1], (values**2).cumsum()[looks - 1]
        mean = totals / looks
        spread = np.sqrt(squares / looks - mean**2)
        crossed += bool((mean - reach * spread > 0).any())
        fixed += bool((mean - 1.645 * spread / np.sqrt(looks) > 0).any())
    assert crossed <= 130
    assert fixed > 300


def test_the_gamma_bound_of_equal_weights_is_the_exact_poisson_bound() -> None:
    """8 events of weight 1/1000: the exact upper bound of a Poisson mean is χ²₀.₉₅(18)/2 = 14.43465, over 1000."""
    assert gamma_upper(0.008, 8e-6, 1e-3, 0.05) == pytest.approx(0.01443465, rel=1e-6)
    assert gamma_lower(0.008, 8e-6, 0.05) == pytest.approx(stats.chi2.ppf(0.05, 16) / 2 / 1000, rel=1e-9)


def test_the_gamma_bound_without_events_is_the_rule_of_three() -> None:
    assert gamma_upper(0.0, 0.0, 1e-3, 0.05) == pytest.approx(-math.log(0.05) / 1000)
    assert gamma_lower(0.0, 0.0, 0.05) == 0
    assert gamma_upper(0.0, 0.0, 0.0, 0.05) == math.inf


def test_the_gamma_bound_covers_with_few_events() -> None:
    """4,000 samples with 30 events expected at weights 1 and 4, nominal 3%: 163 misses are 4 standard deviations
    above 120 (false alarms 3 in 100,000). The normal bound misses more often."""
    rng = np.random.default_rng(5)
    weights, means = np.array([1.0, 4.0]), np.array([24.0, 6.0])
    truth = float(weights @ means)
    counts = rng.poisson(means, size=(4_000, 2))
    rates, variances = counts @ weights, counts @ weights**2
    gamma = int(np.count_nonzero(gamma_upper(rates, variances, 4.0, 0.03) < truth))
    normal = int(np.count_nonzero(rates + stats.norm.ppf(0.97) * np.sqrt(variances) < truth))
    assert gamma <= 163
    assert normal > gamma


def test_bca_equals_the_reference_and_the_percentiles_of_a_symmetric_sample() -> None:
    values = np.random.default_rng(6).exponential(size=60)
    reference = stats.bootstrap((values,), np.mean, confidence_level=0.9, n_resamples=20_000, rng=7).confidence_interval
    found = bootstrap_interval(values, Clusters(np.arange(60)), 0.1, replicates=20_000, seed=8)
    np.testing.assert_allclose(found, (reference.low, reference.high), rtol=0.02)


def test_bca_resamples_customers() -> None:
    values, customer = ratio_log(np.random.default_rng(9), 300)
    estimate = clustered_mean(values, customer)
    low, high = bootstrap_interval(values, Clusters(customer), 0.1)
    assert (high - low) == pytest.approx(np.diff(estimate.interval(0.1))[0], rel=0.15)
    assert bootstrap_interval(np.ones(10), Clusters(np.arange(10)), 0.1) == (1.0, 1.0)
    assert bootstrap_interval(np.ones(2), Clusters(np.zeros(2, dtype=int)), 0.1) == (-math.inf, math.inf)
