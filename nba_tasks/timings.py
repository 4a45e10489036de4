"""How long each step of the flow took, kept in the warehouse: what a night costs, and which step grows."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from nba_tasks.database import warehouse
from nba_tasks.programme import Programme


@dataclass
class Work:
    """A step at work.

    Attributes
    ----------
    shard : int or None
        Of a mapped task.
    rows : int
        Set by the step: rows that it wrote, or read where it writes none.
    seconds : float
        Known once the step is done.
    """

    shard: int | None = None
    rows: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        which = "" if self.shard is None else f"shard {self.shard}: "
        rate = f", {self.rows / self.seconds:,.0f} rows/s" if self.rows and self.seconds else ""
        return f"{which}{self.rows:,} rows in {self.seconds:.1f} s{rate}"


@contextmanager
def timed(programme: Programme, as_of: dt.date, step: str, shard: int | None = None) -> Iterator[Work]:
    """Time the block as a step of the programme's flow; a block that fails leaves no row."""
    work, begun, started_at = Work(shard), time.monotonic(), dt.datetime.now(dt.UTC)
    yield work
    work.seconds = time.monotonic() - begun
    with warehouse().begin() as connection:
        connection.execute(
            sa.text(
                """
                insert into nba.timings (programme, as_of, step, shard, started_at, seconds, rows)
                values (:programme, :as_of, :step, :shard, :started_at, :seconds, :rows)
                """
            ),
            {
                "programme": programme.programme,
                "as_of": as_of,
                "step": step,
                "shard": shard,
                "started_at": started_at,
                "seconds": work.seconds,
                "rows": work.rows,
            },
        )
