"""Runs a step in processes of its own, and measures it: time, rows, memory of every process, bytes on disk."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import psutil
import sqlalchemy as sa

from bench.scale.progress import Progress
from bench.scale.record import Measured, Taken
from nba_tasks import database

SAMPLES_PER_SECOND = 5


class Meter:
    """Measures steps one after the other.

    Parameters
    ----------
    postmaster : int
        Process id of the database server: its sessions count as processes of the step.
    urls : sequence of str
        The databases whose growth is the step's disk.
    progress : Progress
        Keeps what was measured.
    """

    def __init__(self, postmaster: int, urls: Sequence[str], progress: Progress) -> None:
        self.postmaster, self.urls, self.progress = postmaster, tuple(urls), progress

    def step(self, name: str, work: Callable[..., int], *arguments: Any) -> None:
        """Run a step in one process; it returns its rows."""
        self.tasks(name, work, [arguments], at_a_time=1)

    def tasks(self, name: str, work: Callable[..., int], tasks: Sequence[tuple[Any, ...]], at_a_time: int) -> None:
        """Run a step's mapped tasks, some at a time; each returns its rows. A step that is known already is not run."""
        self.progress.step(name, lambda: self._measured(name, work, tasks, at_a_time))

    def floor(self, name: str, work: Callable[..., Taken], *arguments: Any) -> None:
        """What the step's work takes without the product; `work` gets the meter as well. Not run if it is known."""
        self.progress.floor(name, lambda: work(self, *arguments))

    def _measured(
        self, name: str, work: Callable[..., int], tasks: Sequence[tuple[Any, ...]], at_a_time: int
    ) -> Measured:
        print(f"{name} …", flush=True)
        before, load = self._bytes(), os.getloadavg()[0]
        with ProcessPoolExecutor(at_a_time, mp_context=get_context("spawn")) as pool:
            list(pool.map(_awake, range(at_a_time)))  # starting Python is not the step's work
            with self.taking() as taken:
                rows = sum(pool.map(work, *zip(*tasks, strict=True)))
        print(f"{name}: {taken.seconds:.1f} s, {rows:,} rows, {taken.peak / 2**30:.2f} GiB", flush=True)
        return Measured(name, taken, rows, self._bytes() - before, load)

    def _bytes(self) -> int:
        total = 0
        for url in self.urls:
            with database.engine(url).connect() as connection:
                total += int(connection.scalar(sa.text("select pg_database_size(current_database())")) or 0)
        return total

    @contextmanager
    def taking(self) -> Iterator[Taken]:
        """What the block takes: filled in when it is done."""
        taken, stop = Taken(), threading.Event()
        begun, before = time.monotonic(), {id: sample.cpu for id, sample in self._samples()}
        now = dict(before)
        watching = 0.0  # processor's seconds of the watching itself

        def watch() -> None:
            nonlocal watching
            while True:
                stopped = stop.wait(1 / SAMPLES_PER_SECOND)
                found = dict(self._samples())
                sizes = [sample.private for sample in found.values()]
                taken.peak, taken.peak_all = max(taken.peak, *sizes, 0), max(taken.peak_all, sum(sizes))
                now.update({id: sample.cpu for id, sample in found.items()})
                if stopped:
                    watching = time.thread_time()
                    return

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield taken
        finally:
            taken.seconds = time.monotonic() - begun
            stop.set()
            thread.join()
            taken.cpu = sum(seconds - before.get(id, 0.0) for id, seconds in now.items()) - watching

    def _samples(self) -> Iterator[tuple[tuple[int, float], _Sample]]:
        """Every process of the bench and of the server, by what tells it from an earlier one with its number."""
        try:
            processes = [
                psutil.Process(),
                *psutil.Process().children(recursive=True),
                *psutil.Process(self.postmaster).children(recursive=True),
            ]
        except psutil.NoSuchProcess:
            return
        for process in processes:
            try:
                yield (process.pid, process.create_time()), _Sample(process)
            except psutil.Error:
                continue


class _Sample:
    """One process at one moment.

    Attributes
    ----------
    private : int
        Resident bytes that are the process's own: the server's shared buffers are one, not one a session.
    cpu : float
        Seconds of the processor since it began.
    """

    def __init__(self, process: psutil.Process) -> None:
        memory, times = process.memory_info(), process.cpu_times()
        self.private = int(memory.rss - memory.shared)
        self.cpu = float(times.user + times.system)


def _awake(_: int) -> None:
    time.sleep(0.1)
