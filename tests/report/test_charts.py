"""Charts of a real gate: what is drawn is what the table says."""

from __future__ import annotations

import json

import pytest

from nba_tasks import ledger
from nba_tasks.report import Chart, charts_of_gate
from tests.loop import Installation

LATER_PARTS = (
    "robust",
    "policies",
    "learned_gains",
    "segments",
    "action_mix",
    "weight_tail",
    "calibration",
    "value_by_epsilon",
    "state_map",
)


@pytest.fixture(scope="module")
def report(trained: Installation) -> dict[str, object]:
    gate = ledger.last_gate(trained.warehouse, "sales_channels")
    assert gate is not None
    found: dict[str, object] = gate["report"]
    return found


def drawn(chart: Chart) -> int:
    """How many marks a chart draws."""
    data = chart.data
    if "lines" in data:
        return sum(len(line["points"]) for line in data["lines"])
    if "panels" in data:
        return sum(len(panel["bins"]) for panel in data["panels"])
    return len(data["cells"] if "cells" in data else data["rows"])


def test_every_part_of_a_report_has_its_chart(report: dict[str, object]) -> None:
    found = {chart.name: chart for chart in charts_of_gate(report, "2 weeks")}
    assert list(found) == [
        "values", "ahead", "gain", "bounds", "outcomes", "segments", "action-mix", "state-map", "mix",
        "weight-tail", "calibration", "value-by-epsilon",
    ]  # fmt: skip


def test_the_table_holds_what_is_drawn(report: dict[str, object]) -> None:
    for chart in charts_of_gate(report, "2 weeks"):
        json.dumps(chart.data, allow_nan=False)
        assert len(chart.rows) == drawn(chart) > 0, chart.name
        assert {len(row) for row in chart.rows} == {len(chart.columns)}, chart.name
        assert all(isinstance(cell, str) for row in chart.rows for cell in row), chart.name


def test_a_report_of_the_first_version_shows_what_it_has(report: dict[str, object]) -> None:
    earlier = {key: value for key, value in report.items() if key not in LATER_PARTS}
    found = charts_of_gate(earlier, "2 weeks")
    assert [chart.name for chart in found] == ["values", "gain", "outcomes", "mix"]
    assert {row[0] for row in found[0].rows} == {"new policy", "policy in use", "as it really went"}


def test_what_thinking_ahead_adds_is_said_in_a_word(report: dict[str, object]) -> None:
    gains = [
        {"over": over, "value": value, "standard_error": 0.1, "lower": value - 0.2, "upper": value + 0.2}
        for over, value in (("no contact", 0.3), ("behaviour cloning", 0.1), ("myopic look-alike", -0.3))
    ]
    found = {chart.name: chart for chart in charts_of_gate({**report, "learned_gains": gains}, "2 weeks")}
    assert [row[-1] for row in found["ahead"].rows] == ["gain", "no gain shown", "loss"]


def test_nothing_estimated_draws_nothing(report: dict[str, object]) -> None:
    nothing: dict[str, object] = {"estimates": [], "outcomes": [], "deciding": None, "choice": {"forecasts": []}}
    assert charts_of_gate(report | dict.fromkeys(LATER_PARTS, ()) | nothing, "2 weeks") == []
