from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from nba_tasks.gate.weights import mean_weights, unsupported_mass
from tests.gate.cases import make_sample
from tests.tiny_mdp import BETTER, LOGGING, by_row


def test_sound_propensities_are_accused_at_the_stated_rate() -> None:
    """300 logs, 1% each by Bonferroni: at most 10 accusations (the 99.9% quantile of 3 expected ones)."""
    accused = 0
    for seed in range(300):
        sample, log = make_sample(400, seed)
        candidate = by_row(BETTER, log)
        tests = mean_weights(sample, candidate, sample.weigh(candidate))
        assert {(test.step, test.action) for test in tests} >= {(0, None), (0, 0), (0, 1), (3, None)}
        accused += min(test.p_value for test in tests) * len(tests) < 0.01
    assert accused <= stats.binom.ppf(0.999, 300, 0.01)


def test_wrong_propensities_are_found_at_their_action() -> None:
    """The log says 50/50 of the rested, who were contacted with 40%: contacts look too light by a fifth."""
    sample, log = make_sample(4_000)
    rested = log.state[:, 0] == 0
    wrong = replace(sample, propensity=np.where(rested, 0.5, sample.propensity))
    candidate = by_row(BETTER, log)
    tests = {(t.step, t.action): t for t in mean_weights(wrong, candidate, wrong.weigh(candidate))}
    assert tests[0, 1].p_value < 1e-6
    assert tests[0, 1].mean < 1 < tests[0, 0].mean


def test_mass_without_support_shows_as_a_shortfall() -> None:
    """Behind tired customers' contacts, which the log is made to lack, half of the target's weight is missing there."""
    sample, log = make_sample(4_000, horizon=1)
    keep = ~((log.state[:, 0] == 1) & (log.action == 1))[sample.windows.rows[:, 0]]
    never = np.array([[0.6, 0.4], [1.0, 0.0]])
    lacking = replace(
        sample,
        windows=sample.windows.take(keep),
        behaviour=by_row(never, log),
        propensity=np.where(log.state[:, 0] == 1, 1.0, sample.propensity),
    )
    target = by_row(np.full((2, 2), 0.5), log)
    tests = {(t.step, t.action): t for t in mean_weights(lacking, target, lacking.weigh(target))}
    assert tests[0, None].mean < 0.9
    assert tests[0, None].p_value < 1e-6


def test_cells_without_data_are_not_tested() -> None:
    sample, log = make_sample(30)
    rare = by_row(np.array([[0.999, 0.001]] * 2), log)
    assert {t.action for t in mean_weights(sample, rare, sample.weigh(rare)) if t.step == 3} <= {None, 0}


def test_unsupported_mass_by_hand() -> None:
    """The log contacts the tired with 0.0005; the candidate with 0.4: their share of the decisions times 0.4. What a
    policy inherits below the threshold (0.0008) does not count."""
    faint = np.array([[0.6, 0.4], [0.9995, 0.0005]])
    sample, log = make_sample(500, behaviour=faint)
    tired = float((log.state[sample.rows, 0] == 1).mean())
    assert unsupported_mass(sample, by_row(np.array([[0.5, 0.5], [0.6, 0.4]]), log), 1e-3) == pytest.approx(0.4 * tired)
    assert unsupported_mass(sample, by_row(np.array([[0.5, 0.5], [0.9992, 0.0008]]), log), 1e-3) == 0
    assert unsupported_mass(sample, by_row(LOGGING, log), 1e-3) == pytest.approx(0.5 * tired)
