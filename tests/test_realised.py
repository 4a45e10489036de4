from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from nba_tasks.arms import BUSINESS_AS_USUAL, HOLDOUT, SERVED
from nba_tasks.dataset import Transitions
from nba_tasks.realised import Decided, Promise, arms_table, demotion, earned, incumbents_gain, promise_table

INCUMBENT = np.array([0.8, 0.2])


def decided(customers: int, epochs: int, seed: int, gain: float, *, usual: float = 0.2) -> Decided:
    """A contact earns 1 with noise. The served policy contacts half of the time, the incumbent a fifth of it.

    `gain` is what a contact adds; business as usual (a share `usual` of the customers) does as the incumbent would.
    """
    random = np.random.default_rng(seed)
    n = customers * epochs
    arm = np.repeat(np.where(np.arange(customers) < usual * customers, BUSINESS_AS_USUAL, SERVED), epochs)
    chance = np.where(arm == SERVED, 0.5, INCUMBENT[1])
    action = (random.random(n) < chance).astype(np.int64)
    reward = 1 + gain * action + random.normal(0, 1, n)
    harm = (random.random(n) < 0.1).astype(np.float64)
    data = Transitions(
        customer=np.repeat(np.arange(customers), epochs),
        epoch=np.tile(np.arange(epochs), customers),
        state=np.zeros((n, 1), np.float32),
        action=action,
        reward=reward,
        outcomes=harm[:, None],
        eligible_logged=np.ones((n, 2), dtype=bool),
        eligible_target=np.ones((n, 2), dtype=bool),
        propensity=np.where(action == 1, chance, 1 - chance),
        done=np.zeros(n, dtype=bool),
        lost=np.zeros(n, dtype=bool),
        outcome_names=("complaint",),
    )
    return Decided(data, arm.astype(str), np.full(n, epochs - 1), np.zeros(n, dtype=bool), np.zeros(n))


def probabilities(found: Decided) -> NDArray[np.float64]:
    return np.tile(INCUMBENT, (len(found.data), 1))


def test_windows_by_hand() -> None:
    """Customer 1 is served and earns 1, 3 in a window of two; customer 2, usual, 2, 0; customer 3 left after a 5.

    With γ = .5 the windows are worth 2.5, 2, and 5 less the charge of 4: 1.
    """
    data = Transitions(
        customer=np.array([1, 1, 2, 2, 3]),
        epoch=np.array([0, 1, 0, 1, 0]),
        state=np.zeros((5, 1), np.float32),
        action=np.array([1, 0, 0, 1, 1]),
        reward=np.array([1.0, 3, 2, 0, 5]),
        outcomes=np.array([[1.0], [1], [0], [0], [1]]),
        eligible_logged=np.ones((5, 2), dtype=bool),
        eligible_target=np.ones((5, 2), dtype=bool),
        propensity=np.full(5, 0.5),
        done=np.array([False, False, False, False, True]),
        lost=np.array([False, False, False, False, True]),
        outcome_names=("complaint",),
    )
    arm = np.array([SERVED, SERVED, BUSINESS_AS_USUAL, BUSINESS_AS_USUAL, SERVED])
    found = earned(Decided(data, arm, np.full(5, 1), np.zeros(5, dtype=bool), np.full(5, 4.0)), 2, 0.5, ("complaint",))
    assert found.arms[SERVED].estimate.value == pytest.approx((2.5 + 1) / 2)
    assert found.arms[BUSINESS_AS_USUAL].estimate.value == 2
    assert found.harms["complaint"][SERVED].estimate.value == pytest.approx((1 + 0.5) / 2)
    assert found.over(HOLDOUT) is None
    rows = {row["arm"]: row for row in arms_table(found, 0.05)}
    assert rows["served policy"]["windows"] == 2
    assert rows["business as usual"]["lower"] is None, "one customer has no interval"


def test_the_gain_of_the_policy_before_is_found_in_the_log_of_the_one_in_use() -> None:
    """A contact costs .3: contacting a fifth instead of half of the time gains .09 a decision, .36 a window of four."""
    found = decided(8000, 8, 1, gain=-0.3, usual=0.0)
    gain = incumbents_gain(found, probabilities(found), 4, 1.0, 500)
    assert gain is not None
    low, high = gain.interval(0.01)
    assert low < 0.36 < high
    assert gain.lower(0.05) > 0
    assert incumbents_gain(found, probabilities(found), 4, 1.0, 1e6) is None, "too little counts"


def test_a_policy_that_loses_is_proposed_and_one_that_gains_is_not() -> None:
    bad, good = decided(6000, 8, 2, gain=-0.5), decided(6000, 8, 3, gain=0.5)
    text = demotion(earned(bad, 4, 1.0, ()), None, 2, 0.05)
    assert text is not None
    assert "less than business as usual" in text
    assert demotion(earned(good, 4, 1.0, ()), None, 2, 0.05) is None
    alone = decided(6000, 8, 2, gain=-0.5, usual=0.0)
    before = incumbents_gain(alone, probabilities(alone), 4, 1.0, 500)
    text = demotion(earned(alone, 4, 1.0, ()), before, 2, 0.05)
    assert text is not None
    assert "the policy before would have earned" in text


def test_a_policy_that_is_no_worse_is_seldom_proposed_over_all_looks() -> None:
    """200 policies that change nothing, looked at six times: at most 2α = 10% are ever proposed.

    More than 32 would happen by chance with a probability of 6·10⁻³ if the rate were exactly 10%; it is lower.
    """
    proposed = 0
    for seed in range(200):
        whole = decided(300, 12, 1000 + seed, gain=0.0)
        for look, weeks in enumerate(range(2, 13, 2), start=1):
            seen = Decided(whole.data, whole.arm, np.full(len(whole.data), weeks - 1), whole.differs, whole.charge)
            before = incumbents_gain(seen, probabilities(seen), 2, 1.0, 10)
            if demotion(earned(seen, 2, 1.0, ()), before, look, 0.05):
                proposed += 1
                break
    assert proposed <= 32


def test_promises_stand_beside_what_came_true() -> None:
    found = earned(decided(4000, 8, 5, gain=0.5), 4, 1.0, ())
    promise = Promise(7, (5.0, 4.8, 5.2), (0.6, 0.4, 0.8), over_version_0=True)
    value, gain = promise_table(found, promise, 0.05)
    assert (value["kept"], gain["kept"]) == ("kept", "kept")
    boast = Promise(7, (9.0, 8.8, 9.2), (3.0, 2.8, 3.2), over_version_0=True)
    assert [row["kept"] for row in promise_table(found, boast, 0.05)] == ["broken", "broken"]
    assert promise_table(found, None, 0.05) == []
