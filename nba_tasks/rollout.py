"""Roll-out: a new champion decides for a growing share of the served customers, the policy before for the rest.

Who comes first is a hash's matter: the two groups differ by chance alone, and whoever was reached stays reached. Every
step begins on a night that has not been scored yet. The next one is taken by a person, or after as many clean nights as
the programme's file asks for, and never while a harm is surely more frequent where the new policy decides.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from nba_tasks import database
from nba_tasks.arms import NAMES, PREVIOUS, SERVED, excess_evidence
from nba_tasks.batches import Batch
from nba_tasks.programme import Programme

CLEAN = "clean nights"
"""Who decided, where the programme's file did."""


class RolloutError(RuntimeError):
    """A step that is not taken; the message says why."""


@dataclass(frozen=True)
class Step:
    """How far a policy's roll-out has come.

    Attributes
    ----------
    policy_version, previous_version : int
    share : int
        Per cent of the served customers.
    begins_on : date or None
        Its first night; None: the policy's first.
    decided_by : str
    """

    policy_version: int
    previous_version: int
    share: int
    begins_on: dt.date | None
    decided_by: str


@dataclass(frozen=True)
class Harm:
    """Who suffered a harm since the roll-out began, where the new policy decides and where the one before does.

    Attributes
    ----------
    harm : str
    events, decisions, previous_events, previous_decisions : int
    tolerated : float
        The ratio of rates that the gate tolerates.
    alarming : bool
        It is surely exceeded.
    """

    harm: str
    events: int
    decisions: int
    previous_events: int
    previous_decisions: int
    tolerated: float
    alarming: bool

    def __str__(self) -> str:
        return (
            f"{self.harm}: {self.events:,} in {self.decisions:,} decisions of the new policy, {self.previous_events:,} "
            f"in {self.previous_decisions:,} of the one before; {self.tolerated:.2f} times its rate are tolerated"
        )


@dataclass(frozen=True)
class Progress:
    """A roll-out that has not come to its end.

    Attributes
    ----------
    step : Step
        The newest, which may begin tomorrow.
    following : int
        Per cent of the step after it.
    nights : int
        Published since it began.
    harms : tuple of Harm
    """

    step: Step
    following: int
    nights: int
    harms: tuple[Harm, ...]

    @property
    def alarms(self) -> tuple[Harm, ...]:
        return tuple(harm for harm in self.harms if harm.alarming)

    def clean(self, programme: Programme) -> bool:
        """Whether the file lets the next step be taken without a person."""
        wanted = programme.rollout.clean_nights
        return wanted is not None and self.nights >= wanted and not self.alarms

    def to_dict(self) -> dict[str, Any]:
        """In plain values, as the outcomes keep it."""
        begins_on = self.step.begins_on.isoformat() if self.step.begins_on else None
        return {
            "share": self.step.share,
            "previous_version": self.step.previous_version,
            "begins_on": begins_on,
            "following": self.following,
            "nights": self.nights,
            "harms": [asdict(harm) for harm in self.harms],
        }


STEPS = """
    select r.policy_version, r.previous_version, r.share, r.begins_on, r.decided_by
    from nba.rollouts as r
    join nba.programmes as p using (programme_id)
    where p.programme = :programme and r.policy_version = :version
"""


def newest(connection: Connection, programme: str, version: int) -> Step | None:
    """The last step that was decided; None for a policy that was put to use for everybody at once."""
    row = connection.execute(
        sa.text(f"{STEPS} order by r.share desc limit 1"), {"programme": programme, "version": version}
    ).one_or_none()
    return Step(**row._mapping) if row else None


def step_on(warehouse: Engine, programme: Programme, version: int, night: dt.date) -> Step | None:
    """How far a version's roll-out has come on a night; None where it serves everybody."""
    with warehouse.connect() as connection:
        row = connection.execute(
            sa.text(f"{STEPS} and (r.begins_on is null or r.begins_on <= :night) order by r.share desc limit 1"),
            {"programme": programme.programme, "version": version, "night": night},
        ).one_or_none()
    return Step(**row._mapping) if row and row.share < 100 else None


def begin(warehouse: Engine, programme: Programme, version: int, previous: int, by: str) -> None:
    """Write the first step of a policy that is about to become the champion; repeated, it is the same step.

    Committed before the champion moves: no night can find the new champion without its roll-out.
    """
    if (share := programme.rollout.steps[0]) < 100:
        with warehouse.begin() as connection:
            _write(connection, programme, Step(version, previous, share, None, by), None)


def following(programme: Programme, share: int) -> int:
    """The step after a share."""
    return next((step for step in programme.rollout.steps if step > share), 100)


def widen(
    connection: Connection,
    programme: Programme,
    progress: Progress,
    by: str,
    today: dt.date,
    comment: str | None = None,
) -> Step:
    """Take the next step, from tomorrow's night on.

    Raises
    ------
    RolloutError
        A harm is surely more frequent where the new policy decides, the last step has not been seen at work yet, or
        somebody else was faster.
    """
    database.lock(connection, "rollout", programme.programme)
    if progress.alarms:
        raise RolloutError(
            f"version {progress.step.policy_version} stays at {progress.step.share}%: "
            + "; ".join(map(str, progress.alarms))
            + ". Take it out of use, or wait: with more nights an alarm that chance has raised goes away"
        )
    if progress.nights == 0:
        raise RolloutError(f"no list was published yet with the step to {progress.step.share}%: look at one first")
    last = progress.step
    if newest(connection, programme.programme, last.policy_version) != last:
        raise RolloutError("the roll-out has gone on in the meantime: look again")
    step = Step(last.policy_version, last.previous_version, progress.following, today + dt.timedelta(days=1), by)
    _write(connection, programme, step, comment)
    return step


def _write(connection: Connection, programme: Programme, step: Step, comment: str | None) -> None:
    connection.execute(
        sa.text(
            """
            insert into nba.rollouts
                (programme_id, policy_version, previous_version, share, begins_on, decided_by, comment)
            select programme_id, :policy_version, :previous_version, :share, :begins_on, :decided_by, :comment
            from nba.programmes where programme = :programme
            on conflict do nothing
            """
        ),
        asdict(step) | {"programme": programme.programme, "comment": comment},
    )


def progress(
    connection: Connection,
    programme: Programme,
    batch: Batch,
    version: int,
    nights: Sequence[dt.date],
    report: Mapping[str, Any],
) -> Progress | None:
    """How a version's roll-out goes; None where it has none, or has come to its end.

    Parameters
    ----------
    batch : Batch
        What is known of events.
    nights : sequence of date
        Published with the version.
    report : mapping
        Of its gate: what rate of each harm the policy before was expected to have.
    """
    step = newest(connection, programme.programme, version)
    if step is None or step.share == 100:
        return None
    decided = _decisions(connection, batch, version, nights)
    suffered: dict[tuple[str, dt.date, str], int] = {}
    if nights:
        parameters = {
            "programme_id": batch.programme_id,
            "batch_id": batch.batch_id,
            "version": version,
            "nights": list(nights),
            "first": dt.datetime.combine(min(nights), dt.time(), programme.grid.zone),
            "as_of": batch.as_of,
            "harms": list(programme.harms),
        }
        grid = {"zone": programme.grid.business_timezone, "interval": programme.grid.interval_days}
        rows = database.execute(connection, "outcomes/harms_of_nights", parameters, **grid)
        suffered = {(row.harm, row.as_of, row.arm): row.events for row in rows}
    counts = {
        harm: [
            {arm: (suffered.get((harm, night, arm), 0), n) for arm, n in decided[night].items()}
            for night in sorted(decided)
        ]
        for harm in programme.harms
    }
    alpha = programme.outcomes.alpha / max(len(programme.harms), 1)
    return Progress(
        step=step,
        following=following(programme, step.share),
        nights=sum(step.begins_on is None or night >= step.begins_on for night in nights),
        harms=tuple(
            harm_of_counts(name, nightly, tolerated_ratio(programme, report, name), alpha)
            for name, nightly in counts.items()
        ),
    )


def _decisions(
    connection: Connection, batch: Batch, version: int, nights: Sequence[dt.date]
) -> dict[dt.date, dict[str, int]]:
    """How many customers each arm of the roll-out had on each night, as the published lists counted them."""
    rows = connection.execute(
        sa.text(
            """
            select list_date, summary -> 'arms' as arms from nba.lists
            where programme_id = :programme_id and policy_version = :version and not dry_run
              and list_date = any (:nights)
            """
        ),
        {"programme_id": batch.programme_id, "version": version, "nights": list(nights)},
    )
    codes = {NAMES[arm]: arm for arm in (SERVED, PREVIOUS)}
    return {
        row.list_date: {codes[arm["arm"]]: int(arm["decisions"]) for arm in row.arms if arm["arm"] in codes}
        for row in rows
    }


def finish(connection: Connection, programme: Programme, version: int, by: str) -> None:
    """Let a version serve everybody from now on, if its roll-out had not come to its end: it was put back."""
    last = newest(connection, programme.programme, version)
    if last is not None and last.share < 100:
        _write(connection, programme, Step(version, last.previous_version, 100, None, by), "put back for everybody")


def alarmed(connection: Connection, programme: Programme, step: Step) -> bool:
    """Whether a look at the outcomes since a step began found a harm surely more frequent."""
    return bool(
        connection.execute(
            sa.text(
                """
                select exists (
                    select from nba.outcomes as o
                    join nba.programmes as p using (programme_id)
                    where p.programme = :programme and o.policy_version = :version
                      and (cast(:since as date) is null or o.as_of > :since)
                      and o.content -> 'rollout' -> 'harms' @> '[{"alarming": true}]'
                )
                """
            ),
            {"programme": programme.programme, "version": step.policy_version, "since": step.begins_on},
        ).scalar()
    )


def harm_of_counts(name: str, nights: Sequence[Mapping[str, tuple[int, int]]], tolerated: float, alpha: float) -> Harm:
    """One harm from each night's events and decisions by arm.

    Parameters
    ----------
    nights : sequence of mapping of arm to (events, decisions)
    tolerated : float
    alpha : float
        Of a false alarm, over all looks.
    """
    counts = np.array(
        [[night.get(arm, (0, 0)) for arm in (SERVED, PREVIOUS)] for night in nights], dtype=np.int64
    ).reshape(-1, 2, 2)
    events, decisions = counts[:, :, 0], counts[:, :, 1]
    alarming = excess_evidence(events, decisions, tolerated) > 1 / alpha
    (mine, theirs), (my_decisions, their_decisions) = (part.sum(axis=0).tolist() for part in (events, decisions))
    return Harm(name, mine, my_decisions, theirs, their_decisions, tolerated, alarming)


def tolerated_ratio(programme: Programme, report: Mapping[str, Any], harm: str) -> float:
    """How many times the rate of the policy before the gate tolerates, by its relative or its absolute margin."""
    relative = 1 + programme.gate.harm_relative
    rules = {rule["rule"]: rule["figures"] for rule in report.get("rules", ())}
    rate = rules.get(f"harm:{harm}", {}).get("incumbent_rate") or 0.0
    return max(relative, 1 + programme.gate.harm_absolute / rate) if rate > 0 else relative
