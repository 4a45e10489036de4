"""The bench keeps what it has measured: a run that was cut off goes on, and says in which step it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.scale.progress import Progress
from bench.scale.record import Measured, Run, Taken, markdown, targets


def measured(step: str, seconds: float = 1.0) -> Measured:
    return Measured(step, Taken(seconds, 2 * seconds, 2**30, 2**31), rows=100, disk=0)


def test_a_run_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    def killed() -> Measured:
        raise KeyboardInterrupt

    def never() -> Measured:
        raise AssertionError("measured before")

    file = tmp_path / "progress.json"
    first = Progress(file, 0.1)
    first.step("pull", lambda: measured("pull"))
    first.floor("pull", lambda: Taken(0.5, 0.5))
    with pytest.raises(KeyboardInterrupt):
        first.step("merge", killed)
    again = Progress(file, 0.1)
    again.step("pull", never)
    again.step("merge", lambda: measured("merge", 3.0))
    assert [(m.step, m.taken.seconds, m.cut_off) for m in again.run.measured] == [
        ("pull", 1.0, False),
        ("merge", 3.0, True),
    ]
    assert Progress(file, 0.1).run.floors == {"pull": Taken(0.5, 0.5)}
    assert "| merge* | 3.0 | 6.0 |" in markdown(again.run, None)


def test_targets_are_ratios_of_one_run_and_growth_is_of_two() -> None:
    def run(scale: float, seconds: float) -> Run:
        steps = ("transitions", "next night: transitions", "learn", "gate", "everybody: score", "everybody: publish")
        floors = {name: Taken(seconds / 2, seconds / 2) for name in ("transitions", "everybody: publish")}
        found = [measured(step, seconds) for step in steps]
        return Run(scale, {"rows": {}, "bytes": 10}, found, floors, row_bytes=111, warehouse_bytes=59)

    found = {target.name: target for target in targets(run(1, 130), run(0.1, 10))}
    assert str(found["transitions_to_rewrite"]) == "target transitions_to_rewrite 2 4 ok"
    assert str(found["increment_to_full_build"]) == "target increment_to_full_build 1 0.15 short"
    assert str(found["transition_row_bytes"]) == "target transition_row_bytes 111 110 short"
    assert str(found["score_and_publish_to_floor"]) == "target score_and_publish_to_floor 4 3 short"
    assert str(found["warehouse_to_source_bytes"]) == "target warehouse_to_source_bytes 5.9 6 ok"
    assert str(found["growth_everybody_score"]) == "target growth_everybody_score 13 12 short"
