"""Batches: what had been pulled when a date was first decided on. Every step reads history up to its date's batch."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from nba_tasks.programme import Programme


class BatchError(RuntimeError):
    """No history to read for a date; the message says which step is missing."""


@dataclass(frozen=True)
class Batch:
    """The pinned batch of one `as_of`. History up to it: `batch_id <= b and (superseded_by is null or > b)`."""

    programme_id: int
    batch_id: int
    as_of: dt.date


def read_batch(connection: Connection, programme: Programme, as_of: dt.date) -> Batch:
    """The batch that the first run of `as_of` pinned.

    Raises
    ------
    BatchError
        The date's history was not pulled, or not to the end.
    """
    found = connection.execute(
        sa.text(
            """
            select p.programme_id, b.batch_id, b.merged_at
            from nba.programmes as p
            join nba.batches as b using (programme_id)
            where p.programme = :programme and b.as_of = :as_of
            """
        ),
        {"programme": programme.programme, "as_of": as_of},
    ).one_or_none()
    if found is None or found.merged_at is None:
        raise BatchError(
            f"the history of {programme.programme} as of {as_of} has not been pulled"
            f"{'' if found is None else ' to the end'}: run the contact history DAG (or `nba history`) for it first"
        )
    return Batch(found.programme_id, found.batch_id, as_of)


def newest_batch(connection: Connection, programme: Programme) -> Batch:
    """The last batch that became part of the history.

    Raises
    ------
    BatchError
        There is none.
    """
    found = connection.execute(
        sa.text(
            """
            select p.programme_id, b.batch_id, b.as_of
            from nba.programmes as p
            join nba.batches as b using (programme_id)
            where p.programme = :programme and b.merged_at is not null
            order by b.batch_id desc
            limit 1
            """
        ),
        {"programme": programme.programme},
    ).one_or_none()
    if found is None:
        raise BatchError(f"no history of {programme.programme} has been pulled: run the contact history DAG first")
    return Batch(found.programme_id, found.batch_id, found.as_of)
