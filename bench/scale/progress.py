"""What a run has found so far, on disk: a run that was cut off goes on from here."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.scale.record import Measured, Run, Taken


class Progress:
    """One size's figures, written to a file after each.

    Parameters
    ----------
    file : Path
    scale : float
    """

    def __init__(self, file: Path, scale: float) -> None:
        self.file, self.scale = file, scale
        file.parent.mkdir(parents=True, exist_ok=True)
        self.known: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    @property
    def finished(self) -> bool:
        """Whether every step and floor is known."""
        return bool(self.known.get("finished"))

    def finish(self) -> None:
        """Say so."""
        self._keep("finished", True)

    def once(self, name: str, work: Callable[[], Any]) -> Any:
        """A figure: found now, unless it was before."""
        if name not in self.known:
            self._keep(name, work())
        return self.known[name]

    def step(self, name: str, work: Callable[[], Measured]) -> None:
        """A measured step. One that had begun in an earlier call, which was cut off, is marked."""
        measured: dict[str, Any] = self.known.setdefault("measured", {})
        if name in measured:
            return
        cut_off = self.known.get("running") == name
        self._keep("running", name)
        measured[name] = asdict(work()) | {"cut_off": cut_off}
        self._keep("running", None)

    def floor(self, name: str, work: Callable[[], Taken]) -> None:
        """What a step's work takes without the product."""
        floors: dict[str, Any] = self.known.setdefault("floors", {})
        if name not in floors:
            floors[name] = asdict(work())
            self._keep("floors", floors)

    @property
    def run(self) -> Run:
        """What is known so far."""
        known = self.known
        steps = known.get("measured", {}).values()
        return Run(
            self.scale,
            source=known.get("source", {"rows": {}, "bytes": 0}),
            measured=[Measured(**step | {"taken": Taken(**step["taken"])}) for step in steps],
            floors={name: Taken(**floor) for name, floor in known.get("floors", {}).items()},
            row_bytes=known.get("row bytes", 0.0),
            warehouse_bytes=known.get("warehouse bytes", 0),
        )

    def _keep(self, name: str, value: Any) -> None:
        self.known[name] = value
        written = self.file.with_suffix(".new")
        written.write_text(json.dumps(self.known, indent=1), encoding="utf-8")
        written.replace(self.file)
