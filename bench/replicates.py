"""Thousands of replicates of a study: played side by side, kept as they come, and taken up where a run was cut off.

Every replicate is a pure function of its number. What was found is appended, a line each, to a file that carries a
digest of the code which the figures belong to: changed code plays its replicates anew.
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from nba_tasks.settings import REPOSITORY, Settings

Record = Mapping[str, Any]
"""What one replicate found: plain JSON values."""

UNFINISHED = 75
"""Exit status where the time given ran out before the last replicate ("temporary failure" of sysexits.h)."""


@dataclass(frozen=True)
class Point:
    """One setting of a study.

    Attributes
    ----------
    name : str
        Stable: names the file of its results.
    play : callable
        From the replicate's number (0, 1, …) to its record; a module's function, so that another process finds it.
    replicates : int
    batch : int
        Replicates that one task of a process plays.
    """

    name: str
    play: Callable[[int], Record]
    replicates: int
    batch: int = 20


class Kept:
    """The records of a study on disk.

    Parameters
    ----------
    study : str
    code : sequence of path patterns, relative to the repository
        The files whose change makes figures obsolete.
    """

    def __init__(self, study: str, code: Sequence[str]) -> None:
        self.digest = digest_of(code)
        self.folder = Settings().home / "studies" / study / self.digest
        self.folder.mkdir(parents=True, exist_ok=True)

    def read(self, point: Point) -> dict[int, Record]:
        """Records by replicate; a line that a kill cut off is ignored."""
        path, found = self._path(point), {}
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                number, record = json.loads(line)
            except ValueError:
                continue
            if number < point.replicates:
                found[int(number)] = record
        return found

    def add(self, point: Point, records: Iterable[tuple[int, Record]]) -> None:
        """Append records."""
        with self._path(point).open("a") as file:
            # A line of its own, whatever an earlier kill left behind.
            file.writelines("\n" + json.dumps(pair) for pair in records)
            file.write("\n")

    def _path(self, point: Point) -> Path:
        return self.folder / f"{point.name}.jsonl"


def digest_of(code: Sequence[str]) -> str:
    """A digest of the files that match the patterns, by name and content."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in code for path in REPOSITORY.glob(pattern)}):
        digest.update(f"{path.relative_to(REPOSITORY)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def play_all(
    points: Sequence[Point], kept: Kept, *, processes: int = 2, minutes: float | None = None
) -> dict[str, list[Record]]:
    """The records of every point, in the order of the replicates; missing ones are played and kept.

    Raises
    ------
    typer.Exit
        With `UNFINISHED`, once `minutes` are over and replicates are missing; running it again goes on from there.
    """
    # Each process computes on one core: more threads would only be in each other's way.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    found = {point.name: kept.read(point) for point in points}
    tasks = [
        (point, numbers)
        for point in points
        for numbers in _batches([n for n in range(point.replicates) if n not in found[point.name]], point.batch)
    ]
    missing = sum(len(numbers) for _, numbers in tasks)
    if missing:
        print(f"{missing:,} replicates to play, kept in {kept.folder}", flush=True)
        left = _run(tasks, kept, found, processes, math.inf if minutes is None else 60 * minutes)
        if left:
            print(f"time is up: {left:,} replicates are left; run it again to go on", flush=True)
            raise typer.Exit(UNFINISHED)
    return {name: [records[n] for n in sorted(records)] for name, records in found.items()}


def _batches(numbers: list[int], size: int) -> list[list[int]]:
    return [numbers[i : i + size] for i in range(0, len(numbers), size)]


def _play_batch(play: Callable[[int], Record], numbers: list[int]) -> list[tuple[int, Record]]:
    return [(number, play(number)) for number in numbers]


def _run(
    tasks: list[tuple[Point, list[int]]],
    kept: Kept,
    found: dict[str, dict[int, Record]],
    processes: int,
    seconds: float,
) -> int:
    """Play tasks until they are done or the time is over; returns how many replicates are left."""
    begun = told = time.monotonic()
    done, total = 0, sum(len(numbers) for _, numbers in tasks)
    waiting = iter(tasks)
    running: dict[Future[list[tuple[int, Record]]], Point] = {}
    # Started anew, not forked: a fork of a process whose OpenMP threads have run waits for them for ever.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        while True:
            while len(running) < 2 * processes and time.monotonic() - begun < seconds:
                task = next(waiting, None)
                if task is None:
                    break
                running[pool.submit(_play_batch, task[0].play, task[1])] = task[0]
            if not running:
                return total - done
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                point, records = running.pop(future), future.result()
                kept.add(point, records)
                found[point.name].update(records)
                done += len(records)
                if time.monotonic() - told > 10 or done == total:
                    told = time.monotonic()
                    left = (told - begun) * (total - done) / done
                    print(f"{point.name}: {done:,} of {total:,} replicates, {left / 60:.1f} minutes left", flush=True)
