from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from nba_tasks.dataset import FloatArray
from nba_tasks.estimators import Critic, doubly_robust
from nba_tasks.gate.sample import Sample
from nba_tasks.gate.sensitivity import LARGEST_GAMMA, Yardstick, constant_critic, sensitivity, worst_case
from tests.gate.cases import Floats, make_sample
from tests.tiny_mdp import BETTER, LOGGING, by_row


def difference(sample: Sample, candidate: Floats, propensity: FloatArray, critic: Critic) -> Floats:
    """Δ of each window by DR under given propensities."""
    changed = replace(sample, propensity=propensity)
    reward, alive = sample.rewards, sample.windows.alive
    mine, theirs = changed.weigh(candidate), changed.weigh(sample.incumbent)
    return doubly_robust(mine, reward, 0.9, critic, alive) - doubly_robust(theirs, reward, 0.9, critic, alive)


def test_without_doubt_it_is_the_estimate() -> None:
    sample, log = make_sample(300, logged=False)
    candidate, critic = by_row(BETTER, log), constant_critic(sample)
    pair = (sample.weigh(candidate), critic), (sample.weigh(sample.incumbent), critic)
    expected = difference(sample, candidate, sample.propensity, critic)
    np.testing.assert_allclose(worst_case(sample, *pair, gamma=1.0), expected, atol=1e-12)


def test_equals_the_smallest_over_every_corner() -> None:
    """Each window of h = 3 against all 2³ combinations of the extreme odds, one propensity array for each."""
    sample, log = make_sample(200, horizon=3, logged=False)
    candidate, critic, gamma = by_row(BETTER, log), constant_critic(sample), 1.6
    pair = (sample.weigh(candidate), critic), (sample.weigh(sample.incumbent), critic)
    found = worst_case(sample, *pair, gamma=gamma)
    smallest = np.full(len(sample.windows), np.inf)
    for corner in itertools.product([1 / gamma, gamma], repeat=3):
        propensity = sample.propensity.copy()
        for step, g in enumerate(corner):
            rows = sample.windows.rows[sample.windows.alive[:, step], step]
            p = sample.propensity[rows]
            propensity[rows] = 1 / (1 + g * (1 - p) / p)
        smallest = np.minimum(smallest, difference(sample, candidate, propensity, critic))
    np.testing.assert_allclose(found, smallest, atol=1e-12)


def test_logged_propensities_are_not_doubted() -> None:
    sample, log = make_sample(200)
    candidate, critic = by_row(BETTER, log), constant_critic(sample)
    pair = (sample.weigh(candidate), critic), (sample.weigh(sample.incumbent), critic)
    np.testing.assert_array_equal(worst_case(sample, *pair, gamma=5.0), worst_case(sample, *pair, gamma=1.0))


def test_the_bound_holds_when_the_model_is_wrong_within_gamma() -> None:
    """The model's odds of a contact are 1.3 times too low among the rested and too high among the tired. The worst case
    at Γ = 1.3 is below the true gain, whatever the direction; at Γ = 1 nothing is claimed."""
    odds = LOGGING[:, 1] / LOGGING[:, 0] * np.array([1 / 1.3, 1.3])
    contact = odds / (1 + odds)
    sample, log = make_sample(20_000, behaviour=np.stack([1 - contact, contact], axis=1), logged=False)
    candidate, critic = by_row(BETTER, log), constant_critic(sample)
    pair = (sample.weigh(candidate), critic), (sample.weigh(sample.incumbent), critic)
    exact, _ = make_sample(20_000, logged=False)
    truth = difference(exact, candidate, exact.propensity, critic).mean()
    assert worst_case(sample, *pair, gamma=1.3).mean() < truth


def test_flips_where_it_says() -> None:
    sample, log = make_sample(6_000, logged=False)
    candidate = by_row(0.7 * LOGGING + 0.3 * BETTER, log)
    weights = {"candidate": sample.weigh(candidate), "incumbent": sample.weigh(sample.incumbent)}
    found = sensitivity(sample, weights, None, 0.05, 0.0, yardstick=Yardstick("wealth", 1.2))
    assert 1 < found.gamma_bound < found.gamma_estimate < LARGEST_GAMMA
    critic = constant_critic(sample)
    pair = (weights["candidate"], critic), (weights["incumbent"], critic)
    at = worst_case(sample, *pair, gamma=found.gamma_estimate)
    assert at.mean() == pytest.approx(0, abs=1e-3)
    assert found.yardstick == 1.2


def test_no_gain_flips_at_once() -> None:
    sample, _ = make_sample(300, logged=False)
    weight = sample.weigh(sample.incumbent)
    found = sensitivity(sample, {"candidate": weight, "incumbent": weight}, None, 0.05, 0.0)
    assert (found.gamma_estimate, found.gamma_bound) == (1.0, 1.0)
