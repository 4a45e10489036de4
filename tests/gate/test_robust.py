from __future__ import annotations

import numpy as np
import pytest

from nba_tasks.gate import judge
from nba_tasks.gate.robust import robust_bounds
from tests.gate.cases import SMALL, make_sample
from tests.tiny_mdp import BETTER, FATIGUE, LOGGING, by_row

HALF_BETTER = 0.5 * LOGGING + 0.5 * BETTER
WIDE = (-10.0, 10.0)


def test_holds_the_truth_and_narrows_with_customers() -> None:
    """With α = .1% and a bound that errs less often than that, one of four ends misses once in 250 at most."""
    truth = FATIGUE.value(HALF_BETTER, 4, 0.9) - FATIGUE.value(LOGGING, 4, 0.9)
    widths = []
    for n in (2_000, 20_000):
        sample, log = make_sample(n, epochs=4)
        reward = sample.reward
        found = robust_bounds(sample, by_row(HALF_BETTER, log), 1e-3, (float(reward.min()), float(reward.max())))
        assert found.lower < truth < found.upper
        assert found.lower < found.estimate < found.upper
        assert found.clipped_share == 0
        widths.append(found.upper - found.lower)
    assert widths[1] < 0.6 * widths[0]


def test_the_estimate_is_per_decision_importance_sampling() -> None:
    """With one window a customer both judge the same windows."""
    sample, log = make_sample(1_000, epochs=4)
    verdict = judge(sample, by_row(HALF_BETTER, log), SMALL, reward_range=WIDE, bootstrap_replicates=0)
    pdis = next(f.value for f in verdict.estimates if (f.estimator, f.policy) == ("PDIS", "difference"))
    assert verdict.robust is not None
    assert verdict.robust.estimate == pytest.approx(pdis, abs=1e-12)


def test_decides_nothing() -> None:
    sample, log = make_sample(1_500)
    verdicts = [
        judge(sample, by_row(HALF_BETTER, log), SMALL, reward_range=given, bootstrap_replicates=0)
        for given in (None, WIDE)
    ]
    assert verdicts[0].rules == verdicts[1].rules
    assert verdicts[0].robust is None


def test_clips_and_says_so() -> None:
    sample, log = make_sample(500)
    rows = sample.reward[sample.windows.one_each(np.arange(len(sample.windows))).rows]
    middle = float(np.median(rows))
    found = robust_bounds(sample, by_row(HALF_BETTER, log), 0.05, (middle - 1e-9, middle + 1e-9))
    assert 0 < found.clipped_share < 1
    assert found.lowest_reward <= 0 <= found.highest_reward


def test_a_reward_that_never_is_has_no_gain() -> None:
    sample, log = make_sample(300)
    found = robust_bounds(sample, by_row(HALF_BETTER, log), 0.05, (0.0, 0.0))
    assert (found.estimate, found.lower, found.upper) == (0.0, 0.0, 0.0)
