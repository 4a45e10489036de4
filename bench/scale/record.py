"""What a run of the bench found: tables for people, target lines for machines, and a dated record."""

from __future__ import annotations

import datetime as dt
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

import psutil

GIB = 2**30
NIGHT = ("pull", "validate", "merge", "plan", "transitions", "learn", "gate", "score", "publish")
"""The steps from pull to list."""


@dataclass
class Taken:
    """What some work took.

    Attributes
    ----------
    seconds : float
        On the wall.
    cpu : float
        Of the processor, of all processes, database sessions included: whatever else runs on the machine.
    peak : int
        Bytes of the largest process at its largest, children and database sessions included, shared memory excluded.
    peak_all : int
        Bytes of all of them together.
    """

    seconds: float = 0.0
    cpu: float = 0.0
    peak: int = 0
    peak_all: int = 0

    def __add__(self, other: Taken) -> Taken:
        return Taken(
            self.seconds + other.seconds,
            self.cpu + other.cpu,
            max(self.peak, other.peak),
            max(self.peak_all, other.peak_all),
        )


@dataclass(frozen=True)
class Measured:
    """One step.

    Attributes
    ----------
    rows : int
        Of the table that the step fills, or reads where it fills none.
    disk : int
        Bytes by which the warehouse and the CRM grew.
    load : float
        The machine's load when the step began: above 0, something else was running.
    cut_off : bool
        An earlier call was cut off within the step: what it had done is not in the seconds.
    """

    step: str
    taken: Taken
    rows: int
    disk: int
    load: float = 0.0
    cut_off: bool = False

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.taken.seconds if self.taken.seconds else 0.0


@dataclass
class Run:
    """One size.

    Attributes
    ----------
    source : dict
        Rows of the CRM's relations; bytes of contacts, events and customers with their keys.
    floors : dict of str to Taken
    row_bytes : float
        Heap of a transition.
    warehouse_bytes : int
        After the first night's transitions.
    """

    scale: float
    source: dict[str, Any]
    measured: list[Measured]
    floors: dict[str, Taken] = field(default_factory=dict)
    row_bytes: float = 0.0
    warehouse_bytes: int = 0

    def of(self, *steps: str) -> Taken:
        """Some steps together."""
        return sum((m.taken for m in self.measured if m.step in steps), Taken())

    @property
    def everybody_floor(self) -> Taken:
        """Bare predict and COPY of a list of every customer."""
        return sum((floor for name, floor in self.floors.items() if name.startswith("everybody")), Taken())


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


Clock = Callable[[Taken], float]
WALL, CPU = attrgetter("seconds"), attrgetter("cpu")


def targets(run: Run, tenth: Run | None) -> list[AtMost]:
    """What is promised of a run."""
    found = [
        *times(run, WALL),
        AtMost("transition_row_bytes", run.row_bytes, 110),
        AtMost("peak_process_gib", max(m.taken.peak for m in run.measured) / GIB, 6),
        AtMost("warehouse_to_source_bytes", run.warehouse_bytes / run.source["bytes"], 6),
    ]
    return found + (list(growth(run, tenth, WALL)) if tenth else [])


def times(run: Run, clock: Clock) -> list[AtMost]:
    """The promises about time, by the clock on the wall or by the processor's."""
    built = clock(run.of("transitions"))
    listed = clock(run.of("everybody: score", "everybody: publish"))
    return [
        AtMost("transitions_to_rewrite", built / clock(run.floors["transitions"]), 4),
        AtMost("increment_to_full_build", clock(run.of("next night: transitions")) / built, 0.15),
        AtMost("score_and_publish_to_floor", listed / clock(run.everybody_floor), 3),
        AtMost("learn_and_gate_minutes", clock(run.of("learn", "gate")) / 60, 10),
        AtMost("night_minutes", clock(run.of(*NIGHT)) / 60, 25),
    ]


def growth(run: Run, tenth: Run, clock: Clock) -> Iterator[AtMost]:
    """Each step against itself at a tenth of the size."""
    for measured in run.measured:
        before = clock(tenth.of(measured.step))
        if before:
            name = f"growth_{measured.step.replace(' ', '_').replace(':', '')}"
            yield AtMost(name, clock(measured.taken) / before, 12)


def write(run: Run, tenth: Run | None, promised: Sequence[AtMost], folder: Path | None) -> str:
    """The report's text; kept in the folder under today's date as well."""
    lines = "\n".join(str(target) for target in promised)
    by_processor = [*times(run, CPU), *(growth(run, tenth, CPU) if tenth else [])]
    figures = "\n".join(f"{figure.name} {figure.figure:.4g}" for figure in by_processor)
    text = (
        f"{markdown(run, tenth)}\n\n```text\n{lines}\n```\n\n"
        f"The same by the processor's clock, which others on the machine do not disturb:\n\n```text\n{figures}\n```\n"
    )
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{dt.date.today()}-scale-{run.scale:g}.md").write_text(text, encoding="utf-8")
    return f"{text}\n{lines}"


def markdown(run: Run, tenth: Run | None) -> str:
    """The tables of a run, finished or not."""
    rows = ", ".join(f"{count:,} {name}" for name, count in run.source["rows"].items() if count)
    steps = [_row(m, tenth) for m in run.measured]
    floors = [f"| {name} | {floor.seconds:.1f} | {floor.cpu:.1f} |" for name, floor in run.floors.items()]
    return "\n".join(
        [
            f"# W1 × {run.scale:g}, {dt.date.today()}",
            "",
            f"{platform.machine()}, {psutil.cpu_count()} cores, {psutil.virtual_memory().total / GIB:.0f} GiB. "
            f"The CRM holds {rows}: {run.source['bytes'] / GIB:.2f} GiB of contacts, events and customers with keys. "
            f"The warehouse takes {run.warehouse_bytes / GIB:.2f} GiB, a transition {run.row_bytes:.1f} bytes.",
            "",
            "`load` is the machine's when the step began: above 0, something else was running beside it. A step with a "
            "star was cut off; its figures are those of going on.",
            "",
            "| step | seconds | CPU seconds | rows | rows/s | largest process, GiB | all, GiB | disk, MiB | load "
            "| × a tenth's | × its CPU |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
            *steps,
            "",
            "| floor | seconds | CPU seconds |",
            "|---|---|---|",
            *floors,
        ]
    )


def _row(m: Measured, tenth: Run | None) -> str:
    before = tenth.of(m.step) if tenth else Taken()
    ratios = [f"{now / then:.1f}" if then else "" for now, then in _pairs(m.taken, before)]
    taken = m.taken
    return (
        f"| {m.step}{'*' if m.cut_off else ''} | {taken.seconds:.1f} | {taken.cpu:.1f} | {m.rows:,} | {m.rate:,.0f} "
        f"| {taken.peak / GIB:.2f} | {taken.peak_all / GIB:.2f} | {m.disk / 2**20:,.0f} | {m.load:.1f} "
        f"| {' | '.join(ratios)} |"
    )


def _pairs(now: Taken, then: Taken) -> list[tuple[float, float]]:
    return [(now.seconds, then.seconds), (now.cpu, then.cpu)]
