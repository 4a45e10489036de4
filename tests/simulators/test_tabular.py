"""The market of a few states: its truth against an independent implementation, and its histories against its truth."""

from __future__ import annotations

import numpy as np
import pytest

from nba_tasks.estimators import Critic, per_decision
from nba_tasks.gate import Sample
from nba_tasks.simulators import tabular
from nba_tasks.simulators.tabular import FUTILE, HARM_HEAVY, LOGGING, RETAIL, VERSION_0, Comparison, TabularMarket
from nba_tasks.windows import cut_windows
from tests.tiny_mdp import TinyMdp

NOTHING = np.eye(3)[np.zeros(6, dtype=int)]


def compared(market: TabularMarket, horizon: int = 3, windows: int = 2) -> Comparison:
    ages = tuple(range(0, windows * horizon, horizon))
    return Comparison(market, LOGGING, VERSION_0, horizon, 0.9, ages)


def test_values_equal_those_of_an_independent_implementation() -> None:
    other = TinyMdp(RETAIL.start, RETAIL.move, RETAIL.reward, RETAIL.leaves)
    for horizon in (1, 4):
        for policy in (LOGGING, NOTHING):
            tables = RETAIL.q_tables(policy, horizon, 0.9)
            np.testing.assert_allclose(tables, other.q_tables(policy, horizon, 0.9), rtol=1e-12)
            assert RETAIL.window_value(policy, LOGGING, horizon, 0.9) == pytest.approx(
                other.value(policy, horizon, 0.9), rel=1e-12
            )


@pytest.mark.parametrize("market", [RETAIL, HARM_HEAVY, FUTILE], ids=["retail", "harm heavy", "futile"])
def test_probabilities_are_probabilities(market: TabularMarket) -> None:
    assert market.start.sum() == pytest.approx(1)
    np.testing.assert_allclose(market.move.sum(axis=2), 1)
    np.testing.assert_allclose(LOGGING.sum(axis=1), 1)
    for chance in (market.orders, market.complains, market.leaves, LOGGING):
        assert (chance > 0).all()
        assert (chance < 1).all()


@pytest.mark.parametrize("market", [RETAIL, HARM_HEAVY], ids=["retail", "harm heavy"])
def test_histories_agree_with_the_truth(market: TabularMarket) -> None:
    """Observed means of 30,000 customers lie within 4 standard errors of the truth: eight comparisons, a false alarm
    in 1 of 2,000 (the seed is fixed)."""
    log = market.simulate(LOGGING, 30_000, 6, np.random.default_rng(2))
    log.check()
    windows = cut_windows(log, 3, 5)
    asked = compared(market)
    sample = Sample.of(
        log,
        windows,
        behaviour=tabular.by_row(LOGGING, log),
        incumbent=tabular.by_row(VERSION_0, log),
        discount=0.9,
        lost_charge=market.lost_customer_value,
    )
    log_weight = np.ones(windows.rows.shape)
    seen = [sample.clusters.mean(per_decision(log_weight, sample.rewards, 0.9))]
    true = [asked.value(LOGGING)]
    for name, mean in (("order", market.orders), ("complaint", market.complains), ("left", market.leaves)):
        events = np.where(windows.alive, log.outcomes[:, tabular.OUTCOMES.index(name)][windows.rows], 0)
        seen.append(sample.clusters.mean(events.mean(axis=1)))
        true.append(asked.rate(LOGGING, mean))
    for estimate, value in zip(seen, true, strict=True):
        assert abs(estimate.value - value) < 4 * estimate.standard_error


def test_a_candidate_gains_what_was_asked_for() -> None:
    asked = compared(RETAIL)
    pair = (NOTHING, RETAIL.best_policy(0.9))
    for gain in (-0.05, 0.0, 0.1):
        candidate = asked.candidate(pair, 0.5, gain)
        assert asked.gain(candidate) == pytest.approx(gain, abs=1e-10)
        np.testing.assert_allclose(candidate.sum(axis=1), 1)
        assert np.abs(candidate - VERSION_0).max() > 0.05, "it is not the incumbent itself"
    with pytest.raises(ValueError, match="gain"):
        asked.candidate(pair, 0.5, 5.0)


def test_nothing_can_be_gained_where_contacts_do_nothing() -> None:
    asked = compared(FUTILE)
    for policy in (NOTHING, LOGGING, np.eye(3)[[2, 1, 0, 2, 1, 0]]):
        assert asked.gain(policy) == pytest.approx(0, abs=1e-12)


def test_the_best_policy_is_the_best() -> None:
    best = RETAIL.best_policy(0.9)
    values = [Comparison(RETAIL, LOGGING, VERSION_0, 200, 0.9).value(p) for p in (best, LOGGING, NOTHING, VERSION_0)]
    assert values[0] == max(values)
    worst = Comparison(RETAIL, LOGGING, VERSION_0, 200, 0.9).value(RETAIL.best_policy(0.9, -1))
    assert worst < min(values)


def test_the_fast_critic_is_the_critic() -> None:
    log = RETAIL.simulate(LOGGING, 500, 9, np.random.default_rng(3), logged=False)
    assert np.isnan(log.propensity).all()
    windows, tables = cut_windows(log, 3, 8), RETAIL.q_tables(VERSION_0, 3, 0.9)
    fast = tabular.critic(tables, VERSION_0, log, windows)
    slow = Critic.of(lambda k: tabular.by_row(tables[k], log), tabular.by_row(VERSION_0, log), log.action, windows)
    np.testing.assert_allclose(fast.value, slow.value)
    np.testing.assert_allclose(fast.action_value, slow.action_value)
    assert len(tabular.catalogue(RETAIL)) == 3
