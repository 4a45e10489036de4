"""The kill switch: stops a programme's lists at once, until somebody puts it back."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from nba_tasks.programme import Programme


class SwitchError(RuntimeError):
    """A switch that cannot be thrown; the message says why."""


def stopped(connection: Connection, programme: Programme) -> str | None:
    """Who stopped a programme, when and why; None where it runs."""
    row = connection.execute(
        sa.text(
            """
            select s.stopped_by, s.stopped_at, s.reason from nba.stops as s
            join nba.programmes as p using (programme_id)
            where p.programme = :programme and s.resumed_at is null
            """
        ),
        {"programme": programme.programme},
    ).one_or_none()
    return f"stopped by {row.stopped_by} on {row.stopped_at:%F %R} UTC: {row.reason}" if row else None


def stop(warehouse: Engine, programme: Programme, by: str, reason: str) -> bool:
    """Stop a programme; no list is published from the moment that this returns.

    Returns
    -------
    bool
        False where it was stopped before.

    Raises
    ------
    SwitchError
        The warehouse does not know the programme: nothing was ever pulled.
    """
    with warehouse.begin() as connection:
        known = connection.scalar(
            sa.text("select programme_id from nba.programmes where programme = :programme"),
            {"programme": programme.programme},
        )
        if known is None:
            raise SwitchError(f"{programme.programme} has no history yet: there is nothing to stop")
        done = connection.execute(
            sa.text(
                """
                insert into nba.stops (programme_id, stopped_by, reason) values (:programme_id, :by, :reason)
                on conflict (programme_id) where resumed_at is null do nothing
                """
            ),
            {"programme_id": known, "by": by, "reason": reason},
        )
        return bool(done.rowcount)


def resume(warehouse: Engine, programme: Programme, by: str) -> bool:
    """Let a programme publish again; False where it was not stopped."""
    with warehouse.begin() as connection:
        done = connection.execute(
            sa.text(
                """
                update nba.stops as s set resumed_at = now(), resumed_by = :by
                from nba.programmes as p
                where p.programme_id = s.programme_id and p.programme = :programme and s.resumed_at is null
                """
            ),
            {"programme": programme.programme, "by": by},
        )
        return bool(done.rowcount)
