"""Steps of a roll-out: where it stands, and how it goes on, by a person or after clean nights."""

from __future__ import annotations

import datetime as dt
import logging

from nba_tasks import ledger, rollout
from nba_tasks.batches import newest_batch
from nba_tasks.database import crm, warehouse
from nba_tasks.programme import Programme

log = logging.getLogger("nba_tasks")


def go_on(programme: Programme, as_of: dt.date, rolling: rollout.Progress, today: dt.date) -> None:
    """Take the next step of a roll-out where the programme's file leaves that to clean nights."""
    from nba_tasks import registry

    version, share = rolling.step.policy_version, rolling.step.share
    log.info("version %s decides for %s%% (%s nights since)", version, share, rolling.nights)
    if as_of != today or not rolling.clean(programme) or registry.version_of(programme, "champion") != version:
        return
    try:
        with warehouse().begin() as connection:
            if rollout.alarmed(connection, programme, rolling.step):
                log.info("not every night was clean: a person has to take the next step")
                return
            step = rollout.widen(connection, programme, rolling, rollout.CLEAN, today)
    except rollout.RolloutError as error:  # somebody was faster
        log.info("%s", error)
        return
    log.info("from %s on version %s decides for %s%%", step.begins_on, version, step.share)


def under_way(programme: Programme) -> rollout.Progress | None:
    """How far the champion's roll-out has come, by the newest history; None where it serves everybody.

    Raises
    ------
    BatchError
        No history was pulled yet.
    """
    from nba_tasks import decided, registry

    champion = registry.version_of(programme, "champion")
    tomorrow = dt.datetime.now(programme.grid.zone).date() + dt.timedelta(days=1)
    in_use = decided.in_use_before(crm(programme), programme, tomorrow)
    with warehouse().connect() as connection:
        gate = None if champion is None else ledger.gate_of_candidate(connection, programme, champion)
        if champion is None or gate is None:
            return None
        nights = in_use.nights if in_use and in_use.version == champion else ()
        batch = newest_batch(connection, programme)
        return rollout.progress(connection, programme, batch, champion, nights, gate["report"])


def widen(programme: Programme, by: str, comment: str | None = None, expected: int | None = None) -> rollout.Step:
    """Take the next step of the champion's roll-out, from tomorrow's night on.

    Parameters
    ----------
    expected : int, optional
        The share that the person believes to be reached.

    Raises
    ------
    RolloutError
        There is none, or it is held back.
    """
    rolling = under_way(programme)
    if rolling is None:
        raise rollout.RolloutError(f"{programme.programme} has no roll-out under way")
    if expected not in (None, rolling.step.share):
        raise rollout.RolloutError(f"the roll-out is at {rolling.step.share}% now: look again")
    today = dt.datetime.now(programme.grid.zone).date()
    with warehouse().begin() as connection:
        return rollout.widen(connection, programme, rolling, by, today, comment)
