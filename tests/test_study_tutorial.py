"""The tutorial's recipe: its loops and the fast form are one, and the arithmetic of the study on a few customers."""

from __future__ import annotations

import numpy as np
import pytest

from bench import study_tutorial as study
from bench import tutorial


def test_the_fast_recipe_equals_the_loops() -> None:
    samples = tutorial.samples_of(tutorial.play(12, 3))
    slow, fast = tutorial.recipe_in_loops(samples, 2), tutorial.recipe(samples, 2)
    scores = tutorial.scores(fast, samples.state)
    np.testing.assert_allclose(scores, tutorial.scores(slow, samples.state), rtol=1e-9)
    for epsilon in (0.1, 2 / 3):
        assert tutorial.estimate(samples, scores, epsilon) == pytest.approx(
            tutorial.estimate_in_loops(samples, slow, epsilon)
        )


def test_frames_are_cut_as_published() -> None:
    """One customer: offers 2, 1, 3 on days 2, 5, 9; visits on days 1 and 5, purchases on days 0, 2, 6 and 50."""
    event = np.zeros((1, tutorial.DAYS), np.int64)
    event[0, [1, 5]] = 1
    event[0, [0, 2, 6, 50]] = 2
    played = tutorial.Profiles(np.array([1]), np.array([[2, 5, 9]]), np.array([[2, 1, 3]]), event)
    found = tutorial.samples_of(played)
    # Frames are days 0-1, 3-4, 6-8 and 10-99: what happens on an offer's own day is lost.
    np.testing.assert_array_equal(found.reward, [1, 0, 1, 1])
    np.testing.assert_array_equal(found.action, [2, 1, 3, tutorial.MADE_UP])
    np.testing.assert_array_equal(found.state[2], [1, 2, 5, 2, 100])
    np.testing.assert_array_equal(found.following[3], [1, 2, 5, 2, 9])
    log, _ = tutorial.transitions_of(played)
    np.testing.assert_array_equal(log.reward, [1, 1, 1, 1])  # days 0-1, 2-4, 5-8 and 9-99: nothing is lost
    np.testing.assert_array_equal(log.action, [0, 2, 1, 3])
    np.testing.assert_array_equal(log.state[2], [1, 1, 100, 2, 100, 2])
    log.check()


def test_offers_pay_as_published() -> None:
    """Random offers earn 5.70 ± .07 a customer, offer 1 then 3 throughout 12.9 ± .1 (four standard errors each)."""

    def best(state: tutorial.Floats) -> tutorial.Floats:
        return np.eye(3)[np.where(state[:, 2] < tutorial.DAYS, 2, 0)]

    for decide, expected, error in ((None, 5.70, 0.07), (best, 12.9, 0.1)):
        found, own = tutorial.value(20_000, 5, decide)
        assert abs(found - expected) < 4 * np.hypot(error, own)


def test_one_history_is_complete() -> None:
    record = study.play_seed(0, truth=2_000)
    assert record["ours"] > 10
    low, high = record["ours_by_ours"][1:]
    assert low < record["ours_by_ours"][0] < high
