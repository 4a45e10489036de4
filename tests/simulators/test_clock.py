"""Local days and seconds become the instants that a calendar says."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nba_tasks.simulators.clock import day_number, instants

ZONE = ZoneInfo("Europe/Berlin")


@given(st.dates(dt.date(2000, 1, 1), dt.date(2037, 1, 1)), st.integers(4 * 3600, 86_399))
def test_instants_agree_with_the_calendar(date: dt.date, second: int) -> None:
    (instant,) = instants(np.array([day_number(date)]), np.array([second]), ZONE)
    clock = dt.time(second // 3600, second // 60 % 60, second % 60)
    assert instant.to_pydatetime() == dt.datetime.combine(date, clock, ZONE)


def test_the_small_hours_are_refused() -> None:
    with pytest.raises(ValueError, match="04:00"):
        instants(np.array([0]), np.array([2 * 3600]), ZONE)
