from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from nba_tasks.gate import GateError, rules
from nba_tasks.gate.placebo import MIN_CONTACTS, BeforeContact, Placebo, placebo
from nba_tasks.programme import Gate
from tests.gate import triggered
from tests.gate.cases import make_sample


def checked(seed: int, *, n: int = 1_000, epochs: int = 8, planned: float = 0.2, sent: float = 0.0) -> Placebo:
    """The placebo of a log, with models of another log's customers."""
    behaviour, daily = triggered.learned(triggered.simulate(n, epochs, 10_000 + seed, planned=planned, triggered=sent))
    made = triggered.simulate(n, epochs, seed, planned=planned, triggered=sent)
    expected = triggered.expected(made, daily)
    return placebo(made.sample(behaviour), made.before, expected, made.log.outcomes[:, 1])


def test_one_stratum_by_hand() -> None:
    """100 epochs of 100 customers, all starting on one day and looked at for half a day; mail with a chance of 1/2.

    50 were mailed, and each of them bought once before; of the others nobody did. e is ±1/2, f after centring ±1/2,
    so every product is 1/4: the mean is 1/4, over a spread of 1/4 a difference of 1. Its clustered error is 0; known
    under the null hypothesis is √(100 · 1/4 · 1/4) / 100 = 1/40: ten standard errors.
    """
    sample, log = make_sample(100, epochs=1, horizon=1, logged=False)
    action = np.where(log.open, -1, log.customer % 2)
    happened = np.stack([action == 1, action == 1], axis=1).astype(float)
    before = BeforeContact(np.zeros(len(log), dtype=np.int64), np.full(len(log), 0.5), happened)
    mailed = replace(sample, action=action, behaviour=np.full((len(log), 2), 0.5))
    found = placebo(mailed, before, np.zeros((len(log), 2)), None)
    assert found.tests == (), f"25 expected epochs with something before are fewer than {MIN_CONTACTS:.0f}"
    assert found.p_value == 1
    everybody = replace(before, happened=happened + 1)
    test = placebo(mailed, everybody, np.zeros((len(log), 2)), np.ones(len(log))).tests[0]
    assert (test.action, test.measure) == (1, "reward")
    assert test.difference == pytest.approx(1)
    assert test.p_value == pytest.approx(2 * stats.norm.sf(10))


def test_sound_logs_are_accused_at_the_stated_rate() -> None:
    """400 logs in which visitors get more mail, in busy weeks and on weekdays only, but nothing triggers it. At a
    nominal 5% at most 37 may be accused (99.99% quantile of 20); at 1%, the default, 13."""
    values = np.array([checked(seed, n=400, epochs=6).p_value for seed in range(400)])
    for level in (0.05, 0.01):
        assert np.count_nonzero(values < level) <= stats.binom.ppf(0.9999, 400, level)


def test_triggered_mail_is_found() -> None:
    """No mail does anything, and yet 17% of those who got it bought, against 3% of the others. Every one of 40 logs of
    1,000 customers is found out; so are nine in ten where only one visit in twenty is followed by mail."""
    log = triggered.simulate(40_000, 8, 1, planned=0.03, triggered=0.3).log
    bought = log.reward > 0
    assert bought[log.action == 1].mean() == pytest.approx(0.17, abs=0.01)
    assert bought[log.action == 0].mean() == pytest.approx(0.03, abs=0.005)
    assert all(checked(seed, planned=0.03, sent=0.3).p_value < 1e-4 for seed in range(40))
    assert sum(checked(seed, sent=0.05).p_value < 0.01 for seed in range(40)) >= 36


def test_mail_that_spares_recent_visitors_is_found() -> None:
    """The other way round: planned mail is called off for those who visited before it was due."""
    made = triggered.simulate(1_000, 8, 3)
    spared = (made.log.action == 1) & (made.before.happened[:, 1] > 0)
    action = np.where(spared, 0, made.log.action)
    changed = replace(made, log=replace(made.log, action=action))
    behaviour, daily = triggered.learned(changed)
    found = placebo(changed.sample(behaviour), made.before, triggered.expected(made, daily), None)
    assert found.p_value < 1e-4
    assert min(test.difference for test in found.tests) < 0


def test_a_policy_that_reacts_to_the_state_is_no_failure_even_if_one_model_is_poor() -> None:
    """Heavy visitors get twice as much mail: that is what the state tells. Either model may be blind to it, the other
    repairs it; only with both blind the mail is accused. Of 30 logs at 1% at most 4 are (99.99% quantile)."""
    accused = {"neither": 0, "behaviour": 0, "expectation": 0, "both": 0}
    for seed in range(30):
        made = triggered.simulate(1_000, 8, seed, planned=0.5)
        share, daily = triggered.learned(triggered.simulate(1_000, 8, 100 + seed, planned=0.5))
        blind, flat = (np.tile(table.mean(axis=0), (2, 1)) for table in (share, daily))
        models = {"neither": (share, daily), "behaviour": (blind, daily), "expectation": (share, flat)}
        for which, (behaviour, rate) in (models | {"both": (blind, flat)}).items():
            found = placebo(made.sample(behaviour), made.before, triggered.expected(made, rate), None)
            accused[which] += found.p_value < 0.01
    most = stats.binom.ppf(0.9999, 30, 0.01)
    assert max(accused["neither"], accused["behaviour"], accused["expectation"]) <= most
    assert accused["both"] == 30


def test_epochs_with_a_decision_are_left_out() -> None:
    sample, log = make_sample(200)
    before = BeforeContact(np.zeros(len(log), dtype=np.int64), np.full(len(log), 0.5), np.ones((len(log), 2)))
    found = placebo(sample, before, np.zeros((len(log), 2)), None)
    assert (found.epochs, found.tests, found.p_value) == (0, (), 1.0)
    with pytest.raises(GateError, match="an entry for each"):
        placebo(sample, before, np.zeros((3, 2)), None)


def test_the_rule_names_what_was_found_and_a_shorter_interval() -> None:
    sample, _ = make_sample(100, logged=False)
    found = rules.placebo_rule(sample, checked(1, planned=0.03, sent=0.3), Gate(), 7)
    assert found.status == "defer"
    assert "contacts take credit for what triggered them" in found.finding
    assert found.remedy.startswith("a shorter grid.interval_days than 7")
    assert rules.placebo_rule(sample, Placebo(1.0, float("nan")), Gate()).status == "defer"
    quiet = rules.placebo_rule(sample, Placebo(1.0, 0.0), Gate())
    assert quiet.status == "pass"
    assert "hardly anything happened" in quiet.finding
