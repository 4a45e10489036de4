"""Markets: the default lies in the ranges, draws are reproducible and stay inside."""

from __future__ import annotations

from dataclasses import asdict

from hypothesis import given
from hypothesis import strategies as st

from nba_tasks.simulators.market import DEFAULT, RANGES, draw_market


def test_default_lies_in_the_published_ranges() -> None:
    for name, (low, high) in RANGES.items():
        assert low <= getattr(DEFAULT, name) <= high, name


@given(st.integers(0, 2**32))
def test_drawn_markets_stay_in_the_ranges(seed: int) -> None:
    market = draw_market(seed)
    assert market == draw_market(seed)
    assert all(low <= getattr(market, name) <= high for name, (low, high) in RANGES.items())
    kept = {name: value for name, value in asdict(market).items() if name not in RANGES}
    assert kept == {name: value for name, value in asdict(DEFAULT).items() if name not in RANGES}
