from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.study_loop import split_customers
from nba_tasks import registry, score
from nba_tasks.dataset import BoolArray
from nba_tasks.loading import Loaded, Split
from nba_tasks.policy import explore
from nba_tasks.readiness_report import Readiness, logged_windows, readiness
from nba_tasks.shape import CatalogueAction, Shape
from nba_tasks.simulators import channels_world, sales_channels
from nba_tasks.windows import cut_windows
from tests.loop import sales_channels as programme_with

PROGRAMME = programme_with(
    gate={"horizon": 4, "min_effective_size": 300, "harm_min_events": 5, "harm_relative": 2.0, "harm_absolute": 0.005},
    startup={"explore": 0.4, "gain": 0.6},
)
WAIT = -((sales_channels.AS_OF - sales_channels.ANCHOR).days // 7) % 4
"""Epochs from the rule-driven log's end to the next that begins a window."""

CATALOGUE = sales_channels.catalogue()

SEGMENT, VISITS, EMAILS, MAIL_DAYS = (
    channels_world.FEATURES.index(name) for name in ("segment", "visits_2", "emails_4", "days_since_mail")
)


def by_rule(state: NDArray[np.float32], eligible: BoolArray) -> NDArray[np.float64]:
    """A team's rules, which leave nothing to chance.

    Good customers are called after a visit, and get a letter every eight weeks; everybody gets every second e-mail.
    """
    good = state[:, SEGMENT] >= 2
    action = np.where(eligible[:, 1] & (state[:, EMAILS] < 2), 1, 0)
    action = np.where(eligible[:, 2] & good & (state[:, MAIL_DAYS] >= 56), 2, action)
    action = np.where(eligible[:, 3] & good & (state[:, VISITS] > 0), 3, action)
    return np.eye(4)[action]


def starting_up(state: NDArray[np.float32], eligible: BoolArray) -> NDArray[np.float64]:
    return explore(by_rule(state, eligible), eligible, PROGRAMME.startup.explore)


def splits(policy: Any, *, logged: bool, customers: int = 4000) -> dict[Split, Loaded]:
    simulation = sales_channels.simulate(customers, 3, policy=policy)
    played = sales_channels.to_transitions(simulation)
    if not logged:
        played = replace(played, propensity=np.full(len(played), np.nan))
    grid = simulation.grid
    settled = np.sum([grid.settled(epoch) for epoch in grid.epochs], axis=0)
    last = (grid.epochs.start + settled - 1)[np.searchsorted(grid.customer, played.customer)]
    return split_customers(PROGRAMME, played, last)


def look(policy: Any, *, logged: bool) -> Readiness:
    parts = splits(policy, logged=logged)
    return readiness(PROGRAMME, sales_channels.AS_OF, parts["learn"].transitions, parts["select"], CATALOGUE)


@pytest.fixture(scope="module")
def ruled() -> Readiness:
    return look(by_rule, logged=False)


def test_a_rule_driven_log_says_why_it_decides_nothing(ruled: Readiness) -> None:
    text = "\n".join(ruled.lines())
    assert not ruled.ready
    assert ruled.longest_horizon == 0
    assert "no decision has its probability logged" in text
    assert "only 0% of the decisions left a choice" in text
    assert "phone: allowed beside another action in" in text
    assert "not ready: a gain of 0.60 a window of 4 decisions, the gate's horizon, would not be found" in text
    assert "start-up mode with 40% of the decisions drawn at random: a gate could decide from about 20" in text


def test_a_randomised_log_is_ready() -> None:
    found = look(None, logged=True)
    text = "\n".join(found.lines())
    assert found.ready
    assert found.longest_horizon >= 4
    assert "every decision has its probability logged" in text
    assert "100% of the decisions left a choice" in text
    assert "start-up" not in text


def test_start_up_mode_is_ready_about_when_it_was_forecast(ruled: Readiness) -> None:
    """The first epoch after which the real start-up log decides lies within 25%, or one window, of the forecast."""
    ((_, date),) = ruled.startup
    assert date is not None
    forecast = ((date - ruled.as_of).days - 3) / 7 - 1 - WAIT
    parts = splits(starting_up, logged=True)
    data, last = parts["select"].transitions, parts["select"].last_epoch
    begun = -(-int(data.epoch.min()) // 4) * 4  # windows begin at multiples of four
    reached = None
    for epochs in range(4, 27, 2):
        seen = Loaded(data, np.minimum(last, begun + epochs - 1))
        found = readiness(PROGRAMME, ruled.as_of, parts["learn"].transitions, seen, CATALOGUE)
        if found.ready:
            reached = epochs
            break
    assert reached is not None
    assert 8 < forecast <= 26
    assert abs(reached - forecast) <= max(0.25 * forecast, 4)


def test_windows_that_were_logged_are_judged_by_alone() -> None:
    data = splits(None, logged=True, customers=300)["select"].transitions
    half = replace(data, propensity=np.where(data.epoch >= 100, data.propensity, np.nan))
    windows = cut_windows(half, 4)
    chosen = logged_windows(windows, half)
    assert set(chosen.start.tolist()) == {start for start in windows.start.tolist() if start >= 100}
    none = replace(data, propensity=np.full(len(data), np.nan))
    assert len(logged_windows(cut_windows(none, 4), none)) == len(windows)


class Always:
    """A policy that mails."""

    def probabilities(
        self, state: NDArray[np.float32], eligible: BoolArray, values: NDArray[np.float32] | None = None
    ) -> NDArray[np.float64]:
        return np.tile([0.0, 1.0, 0.0, 0.0], (len(state), 1))


def test_start_up_mode_explores_among_what_is_allowed_and_leaves_the_arms_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """40% shared by three allowed actions; holdout and business as usual stay what they are. A champion ends it."""
    champion: int | None = None
    monkeypatch.setattr(registry, "version_of", lambda _, alias: {"version_0": 1, "champion": champion}.get(alias))
    monkeypatch.setattr(registry, "load_once", lambda *_: Always())
    assert score.version_to_serve(PROGRAMME) == 1
    serving = score.serving(PROGRAMME, 1)
    eligible = np.tile([True, True, False, True], (3, 1))
    actions = tuple(CatalogueAction(i, name, None, 0.0, None, None, ()) for i, name in enumerate("abcd"))
    shape = Shape(PROGRAMME, sales_channels.AS_OF, actions)
    found = serving.probabilities(shape, np.zeros((3, 1), np.float32), eligible, np.array(["s", "b", "h"]))
    share = 0.4 / 3
    assert found == pytest.approx(np.array([[share, 0.6 + share, 0, share], [0, 1, 0, 0], [1, 0, 0, 0]]))
    champion = 1
    assert score.serving(PROGRAMME, 1).startup == 0


def test_a_log_too_short_for_a_window_says_so() -> None:
    parts = splits(None, logged=True, customers=200)
    data = parts["select"].transitions
    seen = Loaded(data, np.full(len(data), int(data.epoch.min())))
    found = readiness(PROGRAMME, dt.date(2026, 6, 1), parts["learn"].transitions, seen, CATALOGUE)
    assert not found.ready
    assert found.at_gate is None
    assert list(found.lines())[-1].startswith("not ready")
