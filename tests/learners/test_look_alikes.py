"""Look-alikes on the learned Q-function's trees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nba_tasks.learners.artefacts import ArtefactError
from nba_tasks.learners.baselines import with_returns_as_reward
from nba_tasks.learners.forest_q import ForestQ, fit_q
from nba_tasks.learners.look_alikes import NAMES, LookAlikes

from .conftest import MakeLog


@pytest.fixture
def q(make_log: MakeLog) -> ForestQ:
    log, catalogue = make_log(1, customers=300)
    return fit_q(log, catalogue, discount=0.9, trees=8, min_samples_leaf=10, grow_rows=None).q


def test_without_a_future_both_are_the_learned_values(make_log: MakeLog) -> None:
    """With γ = 0 the learned Q-function is itself a regression of the reward on the same trees."""
    log, catalogue = make_log(2, customers=300)
    q = fit_q(log, catalogue, discount=0.0, trees=8, min_samples_leaf=10).q
    for values in LookAlikes.fit(q, log, 0.0).values(log.state).values():
        np.testing.assert_allclose(values, q.values(log.state), rtol=1e-5, atol=1e-5)


def test_each_averages_its_own_target(make_log: MakeLog, q: ForestQ) -> None:
    """Level and effect are averages of what they are fitted to, so that the logged actions' values average to it."""
    log, _ = make_log(1, customers=300)
    rows = np.flatnonzero(~log.open)
    targets = (log.reward, with_returns_as_reward(log, 0.9).reward)
    for (name, values), target in zip(LookAlikes.fit(q, log, 0.9).values(log.state).items(), targets, strict=True):
        assert name in NAMES
        fitted = values[rows, log.action[rows]]
        assert fitted.mean() == pytest.approx(target[rows].mean(), abs=1e-5)
        assert np.corrcoef(fitted, target[rows])[0, 1] > 0.3


def test_stored_values_are_read_back_and_other_trees_refused(make_log: MakeLog, q: ForestQ, tmp_path: Path) -> None:
    log, catalogue = make_log(1, customers=300)
    fitted = LookAlikes.fit(q, log, 0.9)
    fitted.save(tmp_path / "look_alikes")
    again = LookAlikes.load(tmp_path / "look_alikes", q)
    for name, values in fitted.values(log.state).items():
        np.testing.assert_array_equal(again.values(log.state)[name], values)
    other = fit_q(log, catalogue, discount=0.9, trees=5, min_samples_leaf=10).q
    with pytest.raises(ArtefactError, match="must hold 2 rows"):
        LookAlikes.load(tmp_path / "look_alikes", other)
