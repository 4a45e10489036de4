"""Simple policies."""

from __future__ import annotations

import numpy as np
import pytest

from nba_tasks.dataset import DatasetError
from nba_tasks.learners.baselines import (
    BehaviourCloning,
    Greedy,
    Preference,
    best_single_action,
    no_contact,
    with_returns_as_reward,
)
from nba_tasks.learners.behaviour import BehaviourModel
from nba_tasks.learners.forest_q import fit_q
from nba_tasks.learners.fqe import forest_on_returns

from .conftest import MakeLog

ELIGIBLE = np.array([[True, True, True], [False, True, True], [True, False, False]])


def test_preferences_fall_back_in_order() -> None:
    state = np.zeros((3, 1))
    np.testing.assert_array_equal(no_contact().probabilities(state, ELIGIBLE).argmax(axis=1), [0, 1, 0])
    np.testing.assert_array_equal(Preference([2, 0]).probabilities(state, ELIGIBLE).argmax(axis=1), [2, 2, 0])
    with pytest.raises(DatasetError, match="row 1"):
        no_contact().probabilities(state[:2], np.array([[True], [False]]))


def test_greedy_and_cloning_take_the_best_eligible_action(make_log: MakeLog) -> None:
    log, catalogue = make_log(1)
    q = fit_q(log, catalogue, discount=0.0, trees=5).q
    model = BehaviourModel.fit(log, 0)
    for policy, score in (
        (Greedy(q), q.values(log.state)),
        (BehaviourCloning(model), model.probabilities(log.state, log.eligible_target)),
    ):
        found = policy.probabilities(log.state, log.eligible_target)
        np.testing.assert_array_equal(found.sum(axis=1), 1)
        best = np.where(log.eligible_target, score, -np.inf).max(axis=1)
        np.testing.assert_array_equal((found * score).sum(axis=1), best)


def test_the_best_single_action_is_found(make_log: MakeLog) -> None:
    """In the small logs an action's index is what it adds to the reward in half of the states: the last is best."""
    log, catalogue = make_log(3, customers=400)
    forest = forest_on_returns(log, catalogue, horizon=2, discount=0.9, trees=10, min_samples_leaf=10)
    found = best_single_action(log, catalogue, horizon=2, discount=0.9, forest=forest)
    assert found == Preference([2, 0])


def test_returns_are_summed_backwards(make_log: MakeLog) -> None:
    log, _ = make_log(6)
    expected = np.array(log.reward, dtype=np.float64)
    for row in range(len(log) - 2, -1, -1):
        if log.customer[row] == log.customer[row + 1]:
            expected[row] += 0.5 * expected[row + 1]
    found = np.asarray(with_returns_as_reward(log, 0.5).reward, dtype=np.float64)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
