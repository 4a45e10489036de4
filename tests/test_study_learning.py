"""The study of learning: the testbed from a hundred customers, and what the tables and targets say."""

from __future__ import annotations

import numpy as np
import pytest

from bench.study_learning import (
    DRAWN,
    LEARNED,
    NOTHING,
    below_best,
    market_of,
    market_targets,
    play_testbed,
    shown,
    told_nothing,
)
from nba_tasks.simulators.market import DEFAULT, MYOPIC_IS_OPTIMAL, draw_market


def record(gain: float, error: float = 0.1) -> dict[str, dict[str, object]]:
    """A market in which the learned policy gains so much over the better of two baselines."""
    return {
        "value": {LEARNED: 1.0 + gain, "better": 1.0, "worse": 0.0},
        "gain": {"better": [gain, error], "worse": [1.0 + gain, error]},
    }


def test_a_hundred_customers_teach_the_testbed() -> None:
    assert play_testbed(0)["share"] > 0.9


def test_no_gain_is_said_where_there_is_none() -> None:
    lines = shown("a market", record(0.1))
    assert lines[1].endswith("no gain")
    assert lines[2].endswith("  gain")
    assert shown("a market", record(-0.3))[1].endswith("LOSS")


def test_only_a_sure_loss_against_the_best_baseline_counts() -> None:
    assert not below_best(record(-0.25))
    assert below_best(record(-0.35))
    (target,) = market_targets({"default": record(-0.35)}, [record(0.1)], quick=True)
    assert not target.holds


def test_where_contacts_do_nothing_the_reports_are_asked(capsys: pytest.CaptureFixture[str]) -> None:
    (target,) = market_targets({NOTHING: record(-0.35)}, [record(0.1)], quick=True)
    assert target.holds, "its loss is printed, and its reports are judged"
    none, some = ({"value": v, "lower": v - 0.1, "upper": v + 0.1} for v in (0.0, 0.2))
    assert told_nothing([none] * 9 + [some]).holds
    assert not told_nothing([none] * 8 + [some] * 2).holds
    assert "no gain" in capsys.readouterr().out


def test_the_gain_is_ranked_over_the_drawn_markets() -> None:
    rng = np.random.default_rng(0)
    gaining = market_targets({}, [record(0.1 * gain) for gain in rng.random(DRAWN)], quick=False)
    assert [target.name for target in gaining[1:]] == ["learning_over_better_p_value", "learning_over_worse_p_value"]
    assert all(target.holds for target in gaining)
    nothing = market_targets({}, [record(0.0)] * DRAWN, quick=False)
    assert not nothing[1].holds


def test_markets_by_name_and_number() -> None:
    assert market_of("default", 3) == DEFAULT
    assert market_of("myopic_is_optimal", 0) == MYOPIC_IS_OPTIMAL
    assert market_of("drawn", 3) == draw_market(3)
    with pytest.raises(KeyError):
        market_of("no such market", 0)
