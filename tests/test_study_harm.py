from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench import study_harm as study
from nba_tasks.gate.harms import compare_harm, next_event, tolerated
from nba_tasks.windows import Windows
from tests.gate.cases import make_sample

SETTING = study.Setting("another", 0.15, 0.5, 4, 5e-3, 40)


def test_the_candidate_lies_exactly_at_the_margin() -> None:
    decisions = study.draw_decisions(SETTING, np.random.default_rng(0))
    assert decisions is not None
    mine, theirs = (
        float((weight * decisions.intensity).mean()) for weight in (decisions.candidate, decisions.incumbent)
    )
    factor, allowed = tolerated(theirs, study.GATE)
    assert theirs == pytest.approx(SETTING.rate, rel=1e-9)
    assert mine == pytest.approx(factor * theirs + allowed, rel=1e-9)


def test_a_harm_that_cannot_reach_the_margin_is_said() -> None:
    """The incumbent takes the action in 15% of its decisions, the candidate in some 24%: 3.5 times is out of reach."""
    assert study.draw_decisions(replace(SETTING, mix=0.1, rate=2e-4), np.random.default_rng(0)) is None


def test_many_logs_at_once_equal_the_gates_own_test_of_each() -> None:
    rng = np.random.default_rng(1)
    decisions = study.draw_decisions(SETTING, rng)
    assert decisions is not None
    log, event = study.draw_events(decisions, 5, rng)
    once = np.unique(np.stack([log, event]), axis=1)  # the study counts an event twice on one decision as two decisions
    log, event = once[0], once[1]
    n, shape = len(decisions.intensity), (-1, SETTING.horizon)
    windows = Windows(np.arange(n).reshape(shape), decisions.customer[:: SETTING.horizon], np.zeros(n // 4, int), 0)
    weights = {"candidate": decisions.candidate.reshape(shape), "incumbent": decisions.incumbent.reshape(shape)}
    for number in range(5):
        counts = np.bincount(event[log == number], minlength=n).astype(float)
        sample = replace(make_sample(10)[0], windows=windows, outcomes=counts[:, None], outcome_names=("harm",))
        test = compare_harm(sample, weights, "harm", study.GATE)
        found = study.count(decisions, 5, log, event, test.factor)
        low, high = study.excess_bounds(decisions, found, test.factor, next_event, 0.03)
        assert found.effective_events[number] == pytest.approx(test.candidate.effective_events, rel=1e-9)
        assert low[number] == pytest.approx(test.lower(0.03), rel=1e-9)
        assert high[number] == pytest.approx(test.upper(0.03), rel=1e-9)


def test_a_block_counts_every_log_once_and_repeats_itself() -> None:
    record = study.play(SETTING, 200, 3)
    assert record == study.play(SETTING, 200, 3)
    assert record["logs"] == 200
    assert 0 <= record["gate 1 passed"] <= record["gate 1 alone"] <= 200
    assert record["gate 2 alone"] <= record["gate 1 alone"]


def test_targets_tell_a_bound_that_misses() -> None:
    """1,000 logs: 30 passes are what α allows, 90 are not."""
    counts = {f"gate {k} {what}": 5 for k in (1, 2) for what in ("passed", "rejected")}
    widths = {"gate 1 width": 1.2, "largest 1 width": 3.0}
    good = study.Found(SETTING, [{"logs": 1_000} | counts | widths])
    bad = study.Found(SETTING, [{"logs": 1_000} | counts | widths | {"gate 1 passed": 90}])
    assert all(target.holds for target in study.targets([good]))
    assert {t.name for t in study.targets([good, bad]) if not t.holds} == {
        "harm_at_margin_passed_attempt_1",
        "harm_settings_surely_above_attempt_1",
    }
