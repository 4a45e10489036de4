"""What the DAG files share: the date that a run decides for."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nba_tasks import workflow
from tests.databases import make_programme

DATES = st.dates(dt.date(2020, 1, 1), dt.date(2025, 12, 31))


def context(*events: dict[str, Any], **params: Any) -> dict[str, Any]:
    """A task's context: its form, and the asset events that started the run, as Airflow hands them over."""
    carried = [SimpleNamespace(extra=extra, timestamp=None) for extra in events]
    return {
        "params": {"as_of": None, **params},
        "triggering_asset_events": {"history": carried[:1], "more": carried[1:]},
    }


@given(st.lists(DATES, min_size=1, max_size=6))
def test_of_several_queued_histories_the_latest_date_counts(dates: list[dt.date]) -> None:
    events = [{"as_of": day.isoformat()} for day in dates]
    assert workflow.as_of(context(*events), make_programme()) == max(dates)


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=6))
def test_of_several_queued_gates_the_newest_counts(gates: list[int]) -> None:
    assert workflow.from_event(context(*({"gate_id": gate} for gate in gates)), "gate_id") == max(gates)


def test_the_form_comes_first_and_an_event_without_the_key_says_nothing() -> None:
    programme = make_programme()
    today = dt.datetime.now(programme.grid.zone).date()
    assert workflow.as_of(context({"as_of": "2024-03-01"}, as_of="2024-02-01"), programme) == dt.date(2024, 2, 1)
    assert workflow.as_of(context({}, {"gate_id": 3}), programme) == today
    assert workflow.as_of({"params": {}}, programme) == today


def test_a_date_ahead_is_refused() -> None:
    with pytest.raises(ValueError, match="2999-01-01 lies ahead"):
        workflow.as_of(context(as_of="2999-01-01"), make_programme())
