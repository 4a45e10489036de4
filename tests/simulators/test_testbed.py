"""The testbed's exact values: known truths, and Monte-Carlo agreeing with the enumeration."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nba_tasks.simulators import testbed
from nba_tasks.simulators.choice import Bools, Floats, Policy

FALSE_ALARM_SIGMAS = 4.5  # 7 in a million per comparison, two-sided normal


def random_policy(seed: int) -> Policy:
    """A policy that looks at everything: a random linear score of the state, and softmax."""
    weights = np.random.default_rng(seed).normal(size=(len(testbed.FEATURES), len(testbed.ACTIONS)))

    def policy(state: NDArray[np.float32], eligible: Bools) -> Floats:
        scaled = np.minimum(state, 100) / np.array((1, 4, 3, 100, 100, 100))
        score = np.where(eligible, np.exp(scaled @ weights), 0)
        return np.asarray(score / score.sum(axis=1, keepdims=True))

    return policy


def test_known_values() -> None:
    # An ordinary day brings .9 * .02 + .1 * .22 = .04 purchases, a boosted one .22: 1 and 5.5 an epoch. At best offer 1
    # comes in the second epoch and offer 3 in the third: 1 + 1 + 5.5 + 5.5.
    assert testbed.optimal_value() == pytest.approx(13.0)
    assert testbed.policy_value(testbed.optimal_policy) == pytest.approx(13.0)
    # At random: 4, and 4.5 more for each boosted epoch. (1, 3) has come by the third epoch in 1 of 9 cases, by the
    # fourth in 7 of 27: 1 3 any (3), 1 {1, 2} 3 (2), {2, 3} 1 3 (2). 4 + 4.5 * (3/27 + 7/27).
    assert testbed.policy_value(testbed.uniform_policy) == pytest.approx(4 + 4.5 * 10 / 27)


@pytest.mark.parametrize("seed", [1, 2])
def test_enumeration_agrees_with_play(seed: int) -> None:
    """Fails by chance in 7 of a million runs."""
    policy = random_policy(seed)
    purchases = (testbed.simulate(40_000, seed, policy).events == 2).sum(axis=1)
    error = purchases.std() / np.sqrt(len(purchases))
    assert abs(purchases.mean() - testbed.policy_value(policy)) < FALSE_ALARM_SIGMAS * error


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_no_policy_beats_the_optimum(seed: int) -> None:
    assert testbed.policy_value(random_policy(seed)) <= testbed.optimal_value() + 1e-9


def test_a_policy_must_be_a_distribution() -> None:
    with pytest.raises(ValueError, match="probability of 1"):
        testbed.policy_value(lambda state, eligible: np.full(eligible.shape, 0.25))


def test_transitions_are_well_formed() -> None:
    transitions = testbed.to_transitions(testbed.simulate(500, 3))
    transitions.check()
    assert transitions.done.sum() == 500
    assert not transitions.open.any()
    assert transitions.eligible_logged[np.arange(len(transitions)), transitions.action].all()
    assert set(np.round(transitions.propensity, 6)) == {1.0, 0.333333}


def test_history_agrees_with_transitions() -> None:
    simulation = testbed.simulate(300, 4)
    history, transitions = testbed.to_history(simulation), testbed.to_transitions(simulation)
    assert (history.events["event_type"] == "purchase").sum() == transitions.reward.sum()
    assert len(history.decisions) == len(transitions)
    assert len(history.contacts) == 3 * 300
    local = history.customers["closed_at"].dt.tz_convert(testbed.ZONE).dt.date
    assert set(local) == {testbed.AS_OF - dt.timedelta(days=1)}


def test_an_earlier_day_knows_less() -> None:
    simulation = testbed.simulate(50, 5)
    day = testbed.ANCHOR + dt.timedelta(days=2 * testbed.DAYS)
    history = testbed.to_history(simulation, day)
    midnight = np.datetime64(f"{day}T00:00") - np.timedelta64(1, "h")  # in UTC: Berlin's winter
    assert (history.events["occurred_at"].to_numpy("datetime64[s]") < midnight).all()
    assert len(history.decisions) == 2 * 50
    assert history.customers["closed_at"].isna().all()


def test_programme_names_what_the_simulator_writes() -> None:
    content = yaml.safe_load((Path(__file__).parents[1] / "programmes" / "testbed.yaml").read_text(encoding="utf-8"))
    assert [feature["name"] for feature in content["state"]] == list(testbed.FEATURES)
    assert list(content["events"]) == list(testbed.EVENTS)
    assert content["grid"]["anchor"] == testbed.ANCHOR
    assert content["grid"]["interval_days"] == testbed.DAYS
