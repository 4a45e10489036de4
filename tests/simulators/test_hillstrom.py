"""The e-mail test through the contract: a file in, the arm means out."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pytest

from nba_tasks.programme import read_programme
from nba_tasks.simulators import hillstrom

PROGRAMME = Path(__file__).parents[2] / "dags" / "programmes" / "hillstrom.yaml"
PUBLISHED_VISITS = {"No E-Mail": 0.10617, "Mens E-Mail": 0.18276, "Womens E-Mail": 0.15140}


def test_a_generated_file_reads_back(tmp_path: Path) -> None:
    data = hillstrom.generate(200, seed=1)
    data.to_csv(tmp_path / "test.csv.xz", index=False)
    assert hillstrom.read(tmp_path / "test.csv.xz").equals(data)
    assert tuple(data.columns) == hillstrom.COLUMNS


def test_generated_rates_are_close_to_the_published_ones() -> None:
    """Within 4 standard errors and .006 of the published rates, which the generator only imitates."""
    data = hillstrom.generate(60_000, seed=2)
    for arm, rate in PUBLISHED_VISITS.items():
        visits = data.loc[data["segment"] == arm, "visit"]
        assert abs(visits.mean() - rate) < 0.006 + 4 * np.sqrt(rate / len(visits))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"segment": "Post"}, "segment holds Post"), ({"spend": None}, "spend are missing")],
)
def test_a_strange_file_is_refused(tmp_path: Path, change: dict[str, str | None], message: str) -> None:
    data = hillstrom.generate(20, seed=3)
    for column, value in change.items():
        data = data.drop(columns=column) if value is None else data.assign(**{column: value})
    data.to_csv(tmp_path / "test.csv", index=False)
    with pytest.raises(ValueError, match=message):
        hillstrom.read(tmp_path / "test.csv")


def test_history_keeps_every_arm_mean() -> None:
    data = hillstrom.generate(3000, seed=4)
    history = hillstrom.to_history(data)
    assert (history.decisions["eligible_actions"] == "{no_action,mens_email,womens_email}").all()
    assert set(history.decisions["probabilities"]) == {"{0.333333333,0.333333333,0.333333333}"}
    spent = history.events[history.events["event_type"] == "purchase"].groupby("customer_id")["value"].sum()
    arm = history.decisions.set_index("customer_id")["action_id"]
    spend = spent.reindex(arm.index, fill_value=0.0).groupby(arm).mean()
    truth = data.groupby("segment")["spend"].mean()
    for action, segment in zip(hillstrom.ACTIONS, hillstrom.SEGMENTS, strict=True):
        assert spend[action] == pytest.approx(truth[segment])
    assert len(history.contacts) == (data["segment"] != "No E-Mail").sum()


def test_events_lie_in_the_two_weeks() -> None:
    history = hillstrom.to_history(hillstrom.generate(500, seed=5))
    days = history.events["occurred_at"].dt.tz_convert(hillstrom.ZONE).dt.date
    assert days.min() >= hillstrom.ANCHOR
    assert days.max() < hillstrom.AS_OF
    assert history.events["event_id"].is_unique


def test_too_early_a_day_is_refused() -> None:
    with pytest.raises(ValueError, match="two weeks"):
        hillstrom.to_history(hillstrom.generate(10, seed=6), hillstrom.AS_OF - dt.timedelta(days=1))


def test_programme_reads_what_the_history_holds() -> None:
    programme = read_programme(PROGRAMME)
    assert set(programme.feature_names) == set(hillstrom.FEATURE_COLUMNS)
    assert set(programme.events) == {"visit", "conversion", "purchase"}
    assert programme.grid.anchor == hillstrom.ANCHOR
    assert programme.grid.interval_days == hillstrom.DAYS
