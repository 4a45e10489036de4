"""What a run of the bench found: tables for people, target lines for machines, and a dated record."""

from __future__ import annotations

import datetime as dt
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench.scale.meter import Measured

GIB = 2**30
NIGHT = ("pull", "validate", "merge", "plan", "transitions", "learn", "gate", "score", "publish")
"""The steps from pull to list."""


@dataclass
class Run:
    """One size.

    Attributes
    ----------
    source : dict
        Rows of the CRM's relations; bytes of contacts, events and customers with their keys.
    floors : dict of str to float
        Seconds.
    row_bytes : float
        Heap of a transition.
    warehouse_bytes : int
        After the first night's transitions.
    """

    scale: float
    source: dict[str, Any]
    measured: list[Measured]
    floors: dict[str, float] = field(default_factory=dict)
    row_bytes: float = 0.0
    warehouse_bytes: int = 0

    def seconds(self, *steps: str) -> float:
        """Of some steps together."""
        return sum(m.seconds for m in self.measured if m.step in steps)

    @property
    def everybody_floor(self) -> float:
        """Bare predict and COPY of a list of every customer."""
        return sum(seconds for name, seconds in self.floors.items() if name.startswith("everybody"))


@dataclass(frozen=True)
class AtMost:
    """A figure that must not be above its bound."""

    name: str
    figure: float
    bound: float

    @property
    def holds(self) -> bool:
        return self.figure <= self.bound

    def __str__(self) -> str:
        return f"target {self.name} {self.figure:.4g} {self.bound:.4g} {'ok' if self.holds else 'short'}"


def targets(run: Run, tenth: Run | None) -> list[AtMost]:
    """What is promised of a run."""
    built = run.seconds("transitions")
    found = [
        AtMost("transitions_to_rewrite", built / run.floors["transitions"], 4),
        AtMost("transition_row_bytes", run.row_bytes, 110),
        AtMost("increment_to_full_build", run.seconds("next night: transitions") / built, 0.15),
        AtMost(
            "score_and_publish_to_floor",
            run.seconds("everybody: score", "everybody: publish") / run.everybody_floor,
            3,
        ),
        AtMost("learn_and_gate_minutes", run.seconds("learn", "gate") / 60, 10),
        AtMost("night_minutes", run.seconds(*NIGHT) / 60, 25),
        AtMost("peak_process_gib", max(m.peak for m in run.measured) / GIB, 6),
        AtMost("warehouse_to_source_bytes", run.warehouse_bytes / run.source["bytes"], 6),
    ]
    if tenth:
        found += [
            AtMost(f"growth_{step.replace(' ', '_').replace(':', '')}", ratio, 12) for step, ratio in growth(run, tenth)
        ]
    return found


def growth(run: Run, tenth: Run) -> Iterator[tuple[str, float]]:
    """Seconds of each step against those at a tenth of the size."""
    for measured in run.measured:
        yield measured.step, measured.seconds / max(tenth.seconds(measured.step), 1e-9)


def write(run: Run, tenth: Run | None, promised: Sequence[AtMost], folder: Path | None) -> str:
    """The report's text; kept in the folder under today's date as well."""
    lines = "\n".join(str(target) for target in promised)
    text = f"{_markdown(run, tenth)}\n\n```text\n{lines}\n```\n"
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{dt.date.today()}-scale-{run.scale:g}.md").write_text(text, encoding="utf-8")
    return f"{text}\n{lines}"


def _markdown(run: Run, tenth: Run | None) -> str:
    rows = ", ".join(f"{count:,} {name}" for name, count in run.source["rows"].items() if count)
    ratio = dict(growth(run, tenth)) if tenth else {}
    steps = [
        f"| {m.step} | {m.seconds:.1f} | {m.rows:,} | {m.rate:,.0f} | {m.peak / GIB:.2f} | {m.peak_all / GIB:.2f} "
        f"| {m.disk / 2**20:,.0f} | {ratio.get(m.step, float('nan')):.1f} |"
        for m in run.measured
    ]
    floors = [f"| {name} | {seconds:.1f} |" for name, seconds in run.floors.items()]
    return "\n".join(
        [
            f"# W1 × {run.scale:g}, {dt.date.today()}",
            "",
            f"{platform.machine()}, {psutil.cpu_count()} cores, {psutil.virtual_memory().total / GIB:.0f} GiB. "
            f"The CRM holds {rows}: {run.source['bytes'] / GIB:.2f} GiB of contacts, events and customers with keys. "
            f"The warehouse takes {run.warehouse_bytes / GIB:.2f} GiB, a transition {run.row_bytes:.1f} bytes.",
            "",
            "| step | seconds | rows | rows/s | largest process, GiB | all, GiB | disk, MiB | × a tenth's |",
            "|---|---|---|---|---|---|---|---|",
            *steps,
            "",
            "| floor | seconds |",
            "|---|---|",
            *floors,
        ]
    )
