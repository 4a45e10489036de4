from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from nba_tasks.gate.exhibits import Exhibits
from nba_tasks.report import charts_of_gate, pictures_of
from nba_tasks.report.pictures import drawn
from tests.gate.reports import make_report

LONG = "a_very_long_name_of_an_action_that_nobody_shortened"


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return make_report(800)


def with_long_names(report: dict[str, Any]) -> dict[str, Any]:
    """The same gate with a dozen actions of long names, and many segments."""
    mix = [row | {"action_id": f"{LONG}_{i}"} for i in range(6) for row in report["action_mix"]]
    tables = [row | {"action_id": f"{LONG}_{i}"} for i in range(6) for row in report["calibration"]]
    cells = [cell | {"action_id": LONG} for cell in report["state_map"]["cells"]]
    segments = [row | {"label": f"{row['label']} {LONG} {i}"} for i in range(6) for row in report["segments"]]
    changed = {"action_mix": mix, "calibration": tables, "segments": segments}
    return report | changed | {"state_map": report["state_map"] | {"cells": cells}}


def shown_texts(figure: Figure) -> Iterator[Text]:
    """Every text that is drawn; of tick labels, those inside the axes' limits."""
    hidden: set[Text] = set()
    for axes in figure.axes:
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                inside = axes.get_visible() and min(low, high) <= tick.get_loc() <= max(low, high)
                hidden |= {tick.label2} if inside else {tick.label1, tick.label2}
    for text in figure.findobj(Text):
        if isinstance(text, Text) and text not in hidden and text.get_visible() and text.get_text().strip():
            yield text


@pytest.mark.parametrize("long", [False, True])
def test_no_text_leaves_a_picture_or_covers_another(report: dict[str, Any], long: bool) -> None:
    """Every tick label, annotation, title and legend, as it is laid out."""
    charts = charts_of_gate(with_long_names(report) if long else report, "4 weeks")
    assert len(charts) == 12
    for chart in charts:
        figure = drawn(chart)
        figure.savefig(io.BytesIO())
        frame = figure.bbox.expanded(1.01, 1.01)
        boxes = [(text.get_text(), text.get_window_extent()) for text in shown_texts(figure)]
        assert len(boxes) > 5
        for text, box in boxes:
            assert frame.contains(box.x0, box.y0), (chart.name, text)
            assert frame.contains(box.x1, box.y1), (chart.name, text)
        for i, (text, box) in enumerate(boxes):
            for other, second in boxes[i + 1 :]:
                assert not box.shrunk(0.9, 0.8).overlaps(second.shrunk(0.9, 0.8)), (chart.name, text, other)


def test_pictures_are_png_by_name(report: dict[str, Any]) -> None:
    pictures = pictures_of(report, 7)
    assert set(pictures) == {
        "values", "ahead", "gain", "bounds", "outcomes", "segments", "action_mix", "state_map", "mix",
        "weight_tail", "calibration", "value_by_epsilon",
    }  # fmt: skip
    assert all(png.startswith(b"\x89PNG") for png in pictures.values())


@pytest.mark.parametrize("n", [1, 2])
def test_tiny_gates_are_drawn(n: int) -> None:
    """Unbounded intervals, no segments: nothing to draw is no error."""
    assert pictures_of(make_report(n), 7)
    assert pictures_of(make_report(n, Exhibits()), 7)
