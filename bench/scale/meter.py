"""Runs a step in processes of its own, and measures it: time, rows, memory of every process, bytes on disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import psutil
import sqlalchemy as sa

from nba_tasks import database

SAMPLES_PER_SECOND = 5


@dataclass(frozen=True)
class Measured:
    """What one step took.

    Attributes
    ----------
    rows : int
        Of the table that the step fills, or reads where it fills none.
    peak : int
        Bytes of the largest process at its largest, children and database sessions included, shared memory excluded.
    peak_all : int
        Bytes of all of them together.
    disk : int
        Bytes by which the warehouse and the CRM grew.
    """

    step: str
    seconds: float
    rows: int
    peak: int
    peak_all: int
    disk: int

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds if self.seconds else 0.0


class Meter:
    """Measures steps one after the other.

    Parameters
    ----------
    postmaster : int
        Process id of the database server: its sessions count as processes of the step.
    urls : sequence of str
        The databases whose growth is the step's disk.
    """

    def __init__(self, postmaster: int, urls: Sequence[str]) -> None:
        self.postmaster, self.urls = postmaster, tuple(urls)
        self.measured: list[Measured] = []

    def step(self, name: str, work: Callable[..., int], *arguments: Any) -> Measured:
        """Run a step in one process; it returns its rows."""
        return self.tasks(name, work, [arguments], at_a_time=1)

    def tasks(self, name: str, work: Callable[..., int], tasks: Sequence[tuple[Any, ...]], at_a_time: int) -> Measured:
        """Run a step's mapped tasks, some at a time; each returns its rows."""
        print(f"{name} …", flush=True)
        before = self._bytes()
        with ProcessPoolExecutor(at_a_time, mp_context=get_context("spawn")) as pool, self._sampling() as peaks:
            list(pool.map(_awake, range(at_a_time)))  # starting Python is not the step's work
            begun = time.monotonic()
            rows = sum(pool.map(work, *zip(*tasks, strict=True)))
            seconds = time.monotonic() - begun
        found = Measured(name, seconds, rows, peaks.largest, peaks.together, self._bytes() - before)
        self.measured.append(found)
        print(f"{name}: {seconds:.1f} s, {rows:,} rows, {peaks.largest / 2**30:.2f} GiB", flush=True)
        return found

    def _bytes(self) -> int:
        total = 0
        for url in self.urls:
            with database.engine(url).connect() as connection:
                total += int(connection.scalar(sa.text("select pg_database_size(current_database())")) or 0)
        return total

    @contextmanager
    def _sampling(self) -> Iterator[_Peaks]:
        peaks, stop = _Peaks(), threading.Event()

        def watch() -> None:
            while not stop.wait(1 / SAMPLES_PER_SECOND):
                peaks.add([_private(process) for process in self._processes()])

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield peaks
        finally:
            stop.set()
            thread.join()

    def _processes(self) -> list[psutil.Process]:
        try:
            return [
                *psutil.Process().children(recursive=True),
                *psutil.Process(self.postmaster).children(recursive=True),
            ]
        except psutil.NoSuchProcess:
            return []


def _awake(_: int) -> None:
    time.sleep(0.1)


class _Peaks:
    """The largest samples so far."""

    def __init__(self) -> None:
        self.largest = self.together = 0

    def add(self, sizes: list[int]) -> None:
        """Take in one sample of every process's bytes."""
        self.largest = max(self.largest, *sizes, 0)
        self.together = max(self.together, sum(sizes))


def _private(process: psutil.Process) -> int:
    """Resident bytes that are the process's own: the server's shared buffers are one, not one a session."""
    try:
        memory = process.memory_info()
    except psutil.Error:
        return 0
    return int(memory.rss - memory.shared)
