"""A chart, and how its figures are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Report = Mapping[str, Any]
Rows = Sequence[Mapping[str, Any]]

INTERVAL = ("value", "lower", "upper")


@dataclass(frozen=True)
class Chart:
    """A picture and its table.

    Attributes
    ----------
    name : str
        Stable key; anchors and tests use it.
    kind : str
        How it is drawn: by `nba_tasks.report.pictures` for MLflow, by the pages for the browser.
    title, explanation : str
        What is seen, and how to read it.
    data : mapping
        What is drawn, as plain JSON values.
    columns : tuple of str
    rows : sequence of tuples of str
        The same as text.
    legend : mapping of kind to str
        What each kind of mark stands for, where there are several.
    """

    name: str
    kind: str
    title: str
    explanation: str
    data: Mapping[str, Any]
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]] = ()
    legend: Mapping[str, str] = field(default_factory=dict)


def interval(row: Mapping[str, Any]) -> dict[str, Any]:
    """Estimate and range of a row."""
    return {key: row[key] for key in INTERVAL}


def in_range(row: Mapping[str, Any], form: Callable[[Any], str]) -> str:
    """The range in words."""
    return f"{form(row['lower'])} to {form(row['upper'])}"
