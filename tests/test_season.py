"""The season's customers are the simulator's, its log is what learning takes, and its promises are counted right."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from bench import season
from bench.season_play import OTHERS, begin, play_season
from bench.season_postgres import LENIENT
from bench.season_setting import WEEKS, Setting
from bench.season_world import Life, transitions
from nba_tasks.simulators import sales_channels
from nba_tasks.simulators.channels_world import MAIL, logging_policy
from nba_tasks.simulators.choice import published
from nba_tasks.simulators.market import DEFAULT


def lived(customers: int, seed: int, weeks: int) -> Life:
    """The CRM team's own contacts, for some weeks."""
    grid = sales_channels.grid_of(customers, seed, sales_channels.AS_OF, DEFAULT)
    life = Life.of(grid, seed, DEFAULT)
    first, policy = int(life.grid.first.min()), logging_policy(DEFAULT)
    for epoch in range(first, first + weeks):
        due = life.due(epoch)
        life.answer(due, published(policy(due.state, due.eligible), due.eligible))
    return life


def test_customers_live_as_the_simulator_has_them_live() -> None:
    """Row by row: the log of a season's first half-year is the simulator's, up to the epochs that have settled."""
    mine = transitions(lived(400, 11, 20).log, set())
    theirs = sales_channels.to_transitions(sales_channels.simulate(400, 11))
    last = int(mine.epoch.max())
    theirs = theirs.rows((theirs.epoch < last) & ~theirs.open)
    mine.check()
    mine = mine.rows(~mine.open)
    np.testing.assert_array_equal(mine.customer + 1, theirs.customer)
    for name in ("epoch", "state", "action", "reward", "outcomes", "eligible_target", "propensity", "done"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name), err_msg=name)


def test_what_is_retired_is_not_offered_and_a_branch_has_its_own_future() -> None:
    life = lived(200, 3, 5)
    branch = life.branch()
    epoch = int(life.log[-1].epoch[0]) + 1
    branch.retired.add(MAIL)
    due = branch.due(epoch)
    assert life.due(epoch).eligible[:, MAIL].any()
    assert not due.eligible[:, MAIL].any()
    branch.answer(due, np.where(due.eligible, 1.0, 0.0) / due.eligible.sum(axis=1, keepdims=True))
    assert len(life.log) == 5
    assert (life.world.contacted != branch.world.contacted).any()
    assert not transitions(life.log, {MAIL}).eligible_target[:, MAIL].any()


@pytest.mark.slow
def test_a_small_season_is_played_to_its_end() -> None:
    """Half of the customers of a study are too few for a gate to open; the lists go on all the same."""
    found = play_season(Setting("test", customers=500, every=13, trees=5, retires=4), 0)
    assert set(found["weeks"]) == {"ours", *OTHERS}
    assert all(len(weeks) == WEEKS for weeks in found["weeks"].values())
    assert season.total(found, "ours", "mail", 4) == 0
    assert season.total(found, OTHERS[0], "mail", 0, 4) > 0
    # The first week of business as usual and of our lists, nothing being promoted yet, differs by the model's error.
    assert abs(season.total(found, "ours", "email", 0, 1) / season.total(found, OTHERS[0], "email", 0, 1) - 1) < 0.2


@pytest.mark.slow
def test_what_is_new_is_drawn_by_chance_until_it_is_known() -> None:
    """Letters come in week 4: 5% of the served arm's decisions where they are allowed, none in business as usual. Of
    some nine thousand decisions one in fifty to one in ten are letters, by more than five standard deviations."""
    found = play_season(Setting("test", customers=500, every=13, trees=5, adds=4), 0)
    assert season.total(found, "ours", "mail", 0, 4) == 0
    assert season.total(found, OTHERS[0], "mail") == 0
    share = season.total(found, "ours", "mail", 4) / season.total(found, "ours", "decisions", 4)
    assert 0.02 < share < 0.1


@pytest.mark.slow
def test_a_team_that_kept_no_propensities_has_a_season_too() -> None:
    """The half-year's are estimated, and the first gate judges by them; the season's decisions are logged."""
    setting = Setting("test", customers=2_000, trees=5, unlogged=True, gate=tuple(LENIENT.items()))
    season_, first = begin(setting, 2)
    season_.train(0)
    (gate,) = season_.events
    assert gate["verdict"] == "PROMOTE"
    due = season_.ours.due(first)
    season_.ours.answer(due, season_.chosen("ours", due), season_.drawn_by(first))
    assert [np.isnan(made.propensity).all() for made in season_.ours.log] == [True] * WEEKS + [False]


def record(ours: float, usual: float, events: list[dict[str, Any]], *, after: float | None = None) -> dict[str, Any]:
    """A season whose lines earn the same every week; `after`: what ours earns from the turn on."""

    def weeks(value: float, later: float) -> list[dict[str, float]]:
        return [
            {"value": value if week < season.TURN else later, "unsubscribes": 2.0, "decisions": 100.0, "mail": 0.0}
            for week in range(WEEKS)
        ]

    lines = {line: weeks(usual, usual) for line in season.LINES} | {
        "ours": weeks(ours, ours if after is None else after)
    }
    return {"weeks": lines, "events": events}


def promotion(true: float) -> dict[str, Any]:
    return {"verdict": "PROMOTE", "week": 1, "mix": 0.2, "promised": [0.1, 0.05, 0.15], "true": [true, 0.01]}


def test_targets_by_hand() -> None:
    """Three seasons of four promote, one of the three does harm: 1 of 3 is at most 86.5% by Clopper and Pearson."""
    seasons = [
        record(11, 10, [promotion(0.1)]),
        record(12, 10, [promotion(-0.1)]),
        record(13, 10, [promotion(0.1)]),
        record(10, 10, []),
    ]
    found = {target.name: target for target in season.targets(seasons, [], [], [], [])}
    assert found["season_harmful_promotions"].figure == pytest.approx(0.8647, abs=1e-4)
    assert found["season_promoted"].figure == 0.75
    assert found["season_gain_over_usual"].figure == pytest.approx(0.15)
    assert found["season_unsubscribes_per_value"].figure == pytest.approx((10 / 11 + 10 / 12) / 2)
    assert [target.holds for target in found.values()] == [False, False, True, True]
    assert season.clopper_pearson_upper(0, 59) < 0.05 < season.clopper_pearson_upper(0, 58)
    assert season.clopper_pearson_upper(0, 0) == 1.0


def test_a_turn_is_survived_by_demotion_or_by_gain() -> None:
    loses = record(12, 10, [], after=9)
    gone = record(12, 10, [{"verdict": "DEMOTE", "week": season.TURN + 3, "why": "it loses"}], after=9)
    gains = record(12, 10, [], after=11)
    for seasons, soon, later in (([loses], False, False), ([gone], True, False), ([gains], True, True)):
        found = {target.name: target for target in season.targets([], seasons, [], [], [])}
        assert found["season_turn_soon"].holds == soon
        assert found["season_turn_later"].holds == later


def test_what_was_added_or_not_logged_has_to_pay_in_the_end() -> None:
    for after, holds in ((11, True), (9, False)):
        added, unlogged = season.targets([], [], [], *[[record(10, 10, [], after=after)]] * 2)
        assert (added.name, added.holds) == ("season_addition_later", holds)
        assert (unlogged.name, unlogged.holds) == ("season_unlogged_later", holds)


def test_no_two_settings_have_the_same_customers() -> None:
    """As many seasons as a full study has of each."""
    for quick in (True, False):
        firsts = sorted(setting.first for setting in season.settings(quick))
        assert all(later - earlier >= 1_000 for earlier, later in itertools.pairwise(firsts))


def test_intervals_are_those_of_independent_seasons() -> None:
    assert season.interval([1.0, 2.0, 3.0]) == "2.000 (-0.484 to 4.484)"
