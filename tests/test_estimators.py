from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from nba_tasks.dataset import Transitions
from nba_tasks.estimators import (
    Critic,
    EstimatorError,
    charged,
    cumulative_weights,
    direct_method,
    doubly_robust,
    effective_size,
    importance_sampling,
    largest_share,
    logged_action_probability,
    on_windows,
    per_decision,
    self_normalised_per_decision,
    weighted_doubly_robust,
    weighted_importance_sampling,
)
from nba_tasks.windows import PADDING, Windows, cut_windows
from tests.tiny_mdp import BETTER, FATIGUE, LOGGING, TinyMdp, by_row

Floats = NDArray[np.float64]
Matrix = list[list[float]]
NAMES = ("IS", "WIS", "PDIS", "SN-PDIS", "DM", "DR", "WDR")


def estimate_all(weight: Floats, reward: Floats, discount: float, critic: Critic, alive: NDArray[np.bool_]) -> Floats:
    """Influence values of all estimators, of shape (7, n_windows)."""
    return np.stack(
        [
            importance_sampling(weight, reward, discount),
            weighted_importance_sampling(weight, reward, discount),
            per_decision(weight, reward, discount),
            self_normalised_per_decision(weight, reward, discount),
            direct_method(critic),
            doubly_robust(weight, reward, discount, critic, alive),
            weighted_doubly_robust(weight, reward, discount, critic, alive),
        ]
    )


def literal_estimates(
    ratio: Matrix, reward: Matrix, value: Matrix, action_value: Matrix, discount: float
) -> list[float]:
    """The estimates by loops and plain products, from their definitions; ended steps hold ratio 1 and zeros."""
    n, horizon = len(ratio), len(ratio[0])
    rho = [[math.prod(ratio[i][: t + 1]) for t in range(horizon)] for i in range(n)]
    rho_before = [[math.prod(ratio[i][:t]) for t in range(horizon)] for i in range(n)]
    returns = [sum(discount**t * reward[i][t] for t in range(horizon)) for i in range(n)]
    trajectory = sum(rho[i][-1] * returns[i] for i in range(n)) / n
    weighted = sum(rho[i][-1] * returns[i] for i in range(n)) / sum(rho[i][-1] for i in range(n))
    decision = sum(discount**t * rho[i][t] * reward[i][t] for i in range(n) for t in range(horizon)) / n
    normalised = doubly = weighted_doubly = 0.0
    for t in range(horizon):
        total = sum(rho[i][t] for i in range(n))
        total_before = sum(rho_before[i][t] for i in range(n))
        for i in range(n):
            normalised += discount**t * rho[i][t] / total * reward[i][t]
            weighted_doubly += discount**t * rho[i][t] / total * (reward[i][t] - action_value[i][t])
            weighted_doubly += discount**t * rho_before[i][t] / total_before * value[i][t]
            following = value[i][t + 1] if t + 1 < horizon else 0.0
            surprise = reward[i][t] + discount * following - action_value[i][t]
            doubly += discount**t * rho[i][t] * surprise / n
    direct = sum(value[i][0] for i in range(n)) / n
    return [trajectory, weighted, decision, normalised, direct, direct + doubly, weighted_doubly]


def windows_of(rows: list[list[int]]) -> Windows:
    return Windows(np.array(rows), np.arange(len(rows)), np.zeros(len(rows), dtype=int), 0)


def test_three_rows_by_hand() -> None:
    """Two windows of h = 2, γ = 1/2. Rows 0 and 1 are window A, row 2 is window B, which ends there.

    target/behaviour: row 0: .8/.4 = 2; row 1: .3/.6 = 1/2; row 2: .5/.5 = 1. So ρ_{0:t} is A: 2, 1; B: 1, 1.
    rewards: A: 1, 4; B: 3. Returns: A: 1 + 4/2 = 3; B: 3.

    IS       (1·3 + 1·3) / 2 = 3                      WIS      (1·3 + 1·3) / (1 + 1) = 3
    PDIS     A: 2·1 + ½·1·4 = 4; B: 3; mean 3.5
    SN-PDIS  t=0: (2·1 + 1·3)/(2 + 1) = 5/3; t=1: (1·4 + 1·0)/(1 + 1) = 2; 5/3 + ½·2 = 8/3
    critic   V̂ A: 2, 3; B: 2 and Q̂ A: 1, 3; B: 2
    DM       (2 + 2) / 2 = 2
    DR       A: 2 + 2·(1 + ½·3 − 1) + ½·1·(4 + 0 − 3) = 5.5; B: 2 + 1·(3 + 0 − 2) = 3; mean 4.25
    WDR      t=0: (2·(1−1) + 1·(3−2))/3 + (2 + 2)/2 = 1/3 + 2
             t=1: ½·[(1·(4−3) + 1·0)/2 + (2·3 + 1·0)/3] = ½·(1/2 + 2) = 5/4;  total 43/12
    """
    windows = windows_of([[0, 1], [2, PADDING]])
    weight = cumulative_weights(np.array([0.8, 0.3, 0.5]), np.array([0.4, 0.6, 0.5]), windows)
    np.testing.assert_allclose(weight, [[2, 1], [1, 1]], rtol=1e-12)
    reward = on_windows(np.array([1.0, 4.0, 3.0]), windows)
    critic = Critic(np.array([[2.0, 3.0], [2.0, 99.0]]), np.array([[1.0, 3.0], [2.0, 99.0]]))
    found = estimate_all(weight, reward, 0.5, critic, windows.alive)
    np.testing.assert_allclose(found.mean(axis=1), [3, 3, 3.5, 8 / 3, 2, 4.25, 43 / 12], rtol=1e-12)
    np.testing.assert_allclose(found[2], [4, 3], rtol=1e-12)
    np.testing.assert_allclose(found[5], [5.5, 3], rtol=1e-12)
    assert effective_size(weight[:, 0]) == pytest.approx(9 / 5)
    assert largest_share(weight[:, 0]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("seed", range(20))
def test_equals_the_literal_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, horizon = int(rng.integers(2, 30)), int(rng.integers(1, 7))
    discount = float(rng.choice([0.0, 0.7, 1.0]))
    length = rng.integers(1, horizon + 1, size=n)
    alive = np.arange(horizon) < length[:, None]
    rows = np.where(alive, alive.ravel().cumsum().reshape(alive.shape) - 1, PADDING)
    total = int(alive.sum())
    behaviour, target = rng.uniform(0.05, 1, total), rng.uniform(0, 1, total) * (rng.random(total) > 0.1)
    windows = windows_of(rows.tolist())
    weight = cumulative_weights(target, behaviour, windows)
    if not (weight.sum(axis=0) > 0).all():
        pytest.skip("no weight at all: self-normalised estimates do not exist")
    ratio = np.where(alive, (target / behaviour)[rows], 1.0)
    reward, value, action_value = (np.where(alive, rng.normal(size=alive.shape), 0.0) for _ in range(3))
    found = estimate_all(weight, reward, discount, Critic(value, action_value), alive).mean(axis=1)
    expected = literal_estimates(ratio.tolist(), reward.tolist(), value.tolist(), action_value.tolist(), discount)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_target_equal_to_behaviour_gives_the_observed_mean() -> None:
    log = FATIGUE.simulate(LOGGING, n=300, epochs=4, seed=3)
    windows = cut_windows(log, 4)
    target = logged_action_probability(by_row(LOGGING, log), log.action, windows)
    weight = cumulative_weights(target, log.propensity, windows)
    assert (weight == 1).all()
    reward = on_windows(log.reward, windows)
    observed = float((reward @ 0.9 ** np.arange(4)).mean())
    for estimator in (importance_sampling, per_decision):
        assert float(estimator(weight, reward, 0.9).mean()) == observed
    for estimator in (weighted_importance_sampling, self_normalised_per_decision):
        assert float(estimator(weight, reward, 0.9).mean()) == pytest.approx(observed, rel=1e-12)


def evaluated(mdp: TinyMdp, log: Transitions, policy: Floats, horizon: int, discount: float, model: Floats) -> Floats:
    """Influence values of all estimators for a policy; the critic's action values are those of `model`."""
    windows = cut_windows(log, horizon)
    target = logged_action_probability(by_row(policy, log), log.action, windows)
    weight = cumulative_weights(target, log.propensity, windows)
    critic = mdp.critic(policy, log, windows, discount, model)
    return estimate_all(weight, on_windows(log.reward, windows), discount, critic, windows.alive)


@pytest.mark.parametrize(("estimator", "model"), [("IS", BETTER), ("PDIS", BETTER), ("DR", BETTER), ("DR", LOGGING)])
def test_unbiased_within_monte_carlo_error(estimator: str, model: Floats) -> None:
    """The mean of 200,000 windows lies within 4.5 standard errors of the truth; false alarms: 7 in a million each.

    DR stays unbiased with another policy's action values, as with this one's.
    """
    log = FATIGUE.simulate(LOGGING, n=200_000, epochs=4, seed=11)
    values = evaluated(FATIGUE, log, BETTER, 4, 0.9, model)[NAMES.index(estimator)]
    truth = FATIGUE.value(BETTER, 4, 0.9)
    error = values.std(ddof=1) / math.sqrt(len(values))
    assert abs(values.mean() - truth) < 4.5 * error
    assert error < 0.01


@pytest.mark.parametrize("estimator", ["WIS", "SN-PDIS", "WDR"])
def test_self_normalised_intervals_hold_the_truth(estimator: str) -> None:
    """400 logs of 1,000 windows; a 90% interval that holds may miss at most 63 of them (one-sided 99.99% quantile)."""
    truth = FATIGUE.value(BETTER, 3, 0.9)
    missed = 0
    for seed in range(400):
        log = FATIGUE.simulate(LOGGING, n=1_000, epochs=3, seed=seed)
        values = evaluated(FATIGUE, log, BETTER, 3, 0.9, LOGGING)[NAMES.index(estimator)]
        missed += abs(values.mean() - truth) > 1.645 * values.std(ddof=1) / math.sqrt(len(values))
    assert missed <= stats.binom.ppf(0.9999, 400, 0.1)


def test_the_exact_critic_makes_estimates_precise() -> None:
    log = FATIGUE.simulate(LOGGING, n=5_000, epochs=4, seed=5)
    values = evaluated(FATIGUE, log, BETTER, 4, 0.9, BETTER)
    assert values[NAMES.index("DR")].std() < 0.8 * values[NAMES.index("PDIS")].std()


CAPPED = TinyMdp(
    start=np.array([1.0, 0.0]),
    move=np.array([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]]),
    pays=np.array([[0.1, 0.5], [0.1, 0.8]]),
    ends=np.zeros((2, 2)),
)
"""The state is whether the customer was contacted last time; contacts in a row pay more."""


def test_a_cap_added_to_an_uncapped_log_is_evaluated_rightly() -> None:
    """Tonight's cap forbids contacts in a row; the log made them. 4.5 standard errors; false alarms 7 in a million.

    Forcing the ratio to 1 where the *target* has one action left would evaluate something else by 20 standard errors.
    """
    capped = np.array([[0.2, 0.8], [1.0, 0.0]])
    log = CAPPED.simulate(np.full((2, 2), 0.5), n=100_000, epochs=4, seed=2)
    values = evaluated(CAPPED, log, capped, 4, 1.0, capped)[NAMES.index("PDIS")]
    truth, error = CAPPED.value(capped, 4, 1.0), values.std(ddof=1) / math.sqrt(len(values))
    assert abs(values.mean() - truth) < 4.5 * error
    windows = cut_windows(log, 4)
    target = logged_action_probability(by_row(capped, log), log.action, windows)
    forced = np.where(log.state[:, 0] == 1, log.propensity, target)
    wrong = per_decision(cumulative_weights(forced, log.propensity, windows), on_windows(log.reward, windows), 1.0)
    assert abs(wrong.mean() - truth) > 20 * error


def test_a_single_action_under_both_masks_has_ratio_one_and_a_forbidden_one_zero() -> None:
    windows = windows_of([[0], [1]])
    weight = cumulative_weights(np.array([1.0, 0.0]), np.array([1.0, 1.0]), windows)
    assert weight.tolist() == [[1.0], [0.0]]


def test_long_products_neither_overflow_nor_vanish() -> None:
    windows = windows_of([list(range(200)), list(range(200, 400))])
    behaviour, target = np.full(400, 0.01), np.full(400, 0.9)
    behaviour[100:200], target[100:200] = 0.9, 0.01
    weight = cumulative_weights(target, behaviour, windows.take(np.array([0])))
    assert weight[0, -1] == pytest.approx(1.0)


def test_a_critic_takes_its_value_under_the_evaluated_policy() -> None:
    """One row, two decisions to go at step 0: V̂ = .25 · 4 + .75 · 8 = 7, Q̂ of the logged action 1 is 8; a forbidden
    action's missing value does no harm."""
    windows = windows_of([[0, PADDING], [1, PADDING]])
    q = np.array([[4.0, 8.0], [math.nan, 3.0]])
    chances = np.array([[0.25, 0.75], [0.0, 1.0]])
    critic = Critic.of(lambda k: q if k == 2 else np.full((2, 2), math.nan), chances, np.array([1, 1]), windows)
    assert critic.value.tolist() == [[7.0, 0.0], [3.0, 0.0]]
    assert critic.action_value.tolist() == [[8.0, 0.0], [3.0, 0.0]]


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.2, math.nan])
def test_unusable_propensities_are_refused(bad: float) -> None:
    with pytest.raises(EstimatorError, match="behaviour"):
        cumulative_weights(np.array([0.5]), np.array([bad]), windows_of([[0]]))


def test_a_lost_customer_is_charged_where_it_was_lost() -> None:
    lost = np.array([False, True, True])
    assert charged(np.array([1.0, 2.0, 3.0]), lost, 5.0).tolist() == [1.0, -3.0, -2.0]
    assert charged(np.ones(3), lost, np.array([9.0, 1.0, 2.0])).tolist() == [1.0, 0.0, -1.0]


def test_no_weight_at_all_says_so() -> None:
    weight, reward = np.zeros((3, 2)), np.ones((3, 2))
    assert np.isnan(self_normalised_per_decision(weight, reward, 1.0)).all()
    assert effective_size(weight[:, -1]) == 0
    assert largest_share(weight[:, -1]) == 1
