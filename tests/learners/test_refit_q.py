"""Fitted Q iteration with refits against a literal reference, and the common interface."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from nba_tasks.dataset import OPEN, Catalogue, DatasetError, Transitions
from nba_tasks.learners.bellman import Learner
from nba_tasks.learners.forest_q import ForestQ, fit_q
from nba_tasks.learners.refit_q import RegressorQ, boosting, fit_q_by_refits, random_forest

from .conftest import MakeLog

small_forest = partial(random_forest, trees=4, max_depth=3, min_samples_leaf=1)


def literal_refits(log: Transitions, catalogue: Catalogue, discount: float, sweeps: int) -> list[list[float]]:
    """The algorithm as figure 1 of the paper writes it: a loop over transitions, one prediction at a time."""
    n_actions = len(catalogue)

    def row(i: int, action: int) -> list[float]:
        return [*log.state[i].tolist(), *catalogue.features[action].tolist()]

    learned = [i for i in range(len(log)) if log.action[i] != OPEN]
    model = None
    for _ in range(sweeps):
        X, y = [], []
        for i in learned:
            best = 0.0
            if model is not None and not log.done[i]:
                following = [a for a in range(n_actions) if log.eligible_target[i + 1, a]]
                best = max(float(model.predict([row(i + 1, a)])[0]) for a in following)
            X.append(row(i, int(log.action[i])))
            y.append(float(log.reward[i]) + discount * best)
        model = small_forest(0)
        model.fit(np.array(X, dtype=np.float32), y)
    assert model is not None
    return [[float(model.predict([row(i, a)])[0]) for a in range(n_actions)] for i in range(len(log))]


def test_equals_the_literal_reference(make_log: MakeLog) -> None:
    log, catalogue = make_log(4, customers=8)
    fitted = fit_q_by_refits(log, catalogue, discount=0.9, regressor=small_forest, max_sweeps=3, tolerance=1e-12)
    expected = literal_refits(log, catalogue, 0.9, 3)
    np.testing.assert_allclose(fitted.q.values(log.state), expected, rtol=1e-5, atol=1e-5)
    assert len(fitted.residuals) == 3


@pytest.mark.parametrize("regressor", [boosting, small_forest])
def test_a_discount_of_0_regresses_the_reward_once(make_log: MakeLog, regressor: object) -> None:
    log, catalogue = make_log(4)
    fitted = fit_q_by_refits(log, catalogue, discount=0.0, regressor=regressor)  # type: ignore[arg-type]
    assert len(fitted.residuals) == 1
    assert fitted.converged


def test_stops_at_the_tolerance_and_reports_every_sweep(make_log: MakeLog) -> None:
    log, catalogue = make_log(4, customers=10)
    told: list[tuple[int, float]] = []
    fitted = fit_q_by_refits(
        log,
        catalogue,
        discount=0.01,
        regressor=small_forest,
        max_sweeps=50,
        tolerance=0.05,
        on_sweep=lambda *sweep: told.append(sweep),
    )
    assert told == list(enumerate(fitted.residuals.tolist(), start=1))
    assert fitted.converged
    assert fitted.residuals[-1] <= 0.05 < fitted.residuals[:-1].min(initial=np.inf)


def test_nothing_to_learn_is_said(make_log: MakeLog) -> None:
    log, catalogue = make_log(0)
    with pytest.raises(DatasetError, match="nothing to learn"):
        fit_q_by_refits(log.rows(log.open), catalogue, discount=0.9)


def test_learners_share_one_interface(make_log: MakeLog) -> None:
    log, catalogue = make_log(1)
    frozen: Learner[ForestQ] = fit_q
    refitted: Learner[RegressorQ] = partial(fit_q_by_refits, regressor=small_forest, max_sweeps=2)
    for fitted in (frozen(log, catalogue, discount=0.5), refitted(log, catalogue, discount=0.5)):
        assert fitted.q.values(log.state).shape == (len(log), len(catalogue))
        assert fitted.q.values(log.state).dtype == np.float32
