"""Publish: draw tonight's actions and write decisions and campaign list into the CRM, both or neither."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection, Engine

from nba_tasks import bulk, database, lists, switch
from nba_tasks.arms import PREVIOUS
from nba_tasks.batches import Batch, read_batch
from nba_tasks.capacity import Prices
from nba_tasks.dataset import BoolArray
from nba_tasks.decisions import Decisions, Scored, decisions_of
from nba_tasks.eligibility import in_force
from nba_tasks.hashing import hash63
from nba_tasks.policy import apply_rules
from nba_tasks.programme import Consent, Programme, Suppression
from nba_tasks.score import Serving, permitted, unpack
from nba_tasks.shape import Shape
from nba_tasks.tonight import Night, draw_night
from nba_tasks.transitions import shape_of


class PublishError(RuntimeError):
    """A list that must not be published; the message says why."""


@dataclass(frozen=True)
class Publication:
    """What a night's run left behind.

    Attributes
    ----------
    written : bool
        False for a dry run, and where the night's list was already published (it is returned unchanged).
    changed_since_scoring : int
        Customers drawn anew or left out because, after scoring, they withdrew consent, came onto a list that forbids
        contacts, or ended the relationship.
    """

    list_date: dt.date
    policy_version: int
    decisions: int
    to_send: int
    written: bool
    changed_since_scoring: int = 0


def ensure_tables(connection: Connection, programme: Programme) -> None:
    """Make the tables that this project writes in the CRM, where they are missing."""
    relations = programme.crm.relations
    names = {
        "decisions": database.quote_identifier(relations.decisions),
        "campaign_list": database.quote_identifier(relations.campaign_list),
        "publications": "publications",
        "campaign_list_tonight": "campaign_list_tonight",
    }
    missing = [
        name
        for name, relation in names.items()
        if connection.scalar(sa.text("select to_regclass(:relation)"), {"relation": relation}) is None
    ]
    if missing:
        # A `decisions` table that the CRM has already belongs to somebody else: it is written to, never altered.
        query = database.statement(
            "crm/published",
            decisions=names["decisions"],
            campaign_list=names["campaign_list"],
            make_decisions="decisions" in missing,
        )
        connection.exec_driver_sql(query.replace("%", "%%"))


def publish(
    crm: Engine,
    warehouse: Engine,
    programme: Programme,
    as_of: dt.date,
    serve: Serving,
    run_id: str,
    *,
    dry_run: bool = False,
    today: dt.date | None = None,
) -> Publication:
    """Publish the list of `as_of`: `decisions` and the campaign table in one transaction of the CRM.

    A published list is immutable: a second run returns it. A run for another date than today is dry; a run that is dry
    by wish shows what the list would be, whether one is out or not.

    Parameters
    ----------
    serve : Serving
        The policies that `nba.scores` was computed with.
    today : date, optional
        The business time zone's date; given only where time is simulated.

    Raises
    ------
    PublishError
        The night was not scored to its end with this policy and these settings, an implausible share of the customers
        scored has vanished from the CRM since, or somebody has stopped the programme.
    """
    today = today or dt.datetime.now(programme.grid.zone).date()
    with warehouse.connect() as reader, crm.begin() as writer:
        ensure_tables(writer, programme)
        database.lock(writer, "publish", programme.programme)
        if not dry_run and (published := _published(writer, programme, as_of)):
            return published
        batch = read_batch(reader, programme, as_of)
        shape = shape_of(reader, programme, batch)
        scores, held_back = _read_scores(reader, shape, batch, serve)
        if serve.before is None and (scores.arm == PREVIOUS).any():
            raise PublishError(
                f"{programme.programme} {as_of} was scored while version {serve.version} was being rolled out, and now "
                "it serves everybody: run the nightly actions DAG again from its first task"
            )
        eligible, gone = _recheck(writer, shape, scores)
        scores, changed = _rescored(shape, scores.without(gone), eligible[~gone], serve)
        new = serve.new(shape, scores.arm, scores.eligible)
        night = _draw(shape, scores, new, serve.served.prices)
        versions = serve.version, serve.before.version if serve.before else serve.version
        moved = serve.moved(scores.state, scores.eligible & ~new, scores.arm, scores.value, night.action)
        made = decisions_of(shape, run_id, versions, scores, scores.probability, night, new, moved)
        dry = dry_run or as_of != today
        changed += int(gone.sum())
        summary = lists.summarise(shape, made.drawn, scores.state, scores.eligible, night)
        little = [shape.actions[index].action_id for index in np.flatnonzero(new.any(axis=0))]
        summary |= {"held_back": held_back, "little_evidence": little, "changed_since_scoring": changed}
        lists.record(warehouse, batch.programme_id, as_of, run_id, serve.version, summary, dry_run=dry)
        result = Publication(as_of, serve.version, made.n_decisions, made.n_to_send, False, changed)
        if dry:
            return result
        # The last thing before anything is written: whoever throws the switch now finds the list expired.
        if why := switch.stopped(reader, programme):
            raise PublishError(f"{programme.programme} is {why}; `nba resume {programme.programme}` puts it back")
        _write(writer, programme, as_of, run_id, serve.version, made)
    return Publication(**{**result.__dict__, "written": True})


def published(crm: Engine, programme: Programme, as_of: dt.date) -> Publication | None:
    """The publication of a night; None where there is none."""
    with crm.begin() as connection:
        ensure_tables(connection, programme)
        return _published(connection, programme, as_of)


def _published(connection: Connection, programme: Programme, as_of: dt.date) -> Publication | None:
    row = connection.execute(
        sa.text(
            """
            select policy_version, decisions, to_send from publications
            where programme = :programme and list_date = :as_of
            """
        ),
        {"programme": programme.programme, "as_of": as_of},
    ).one_or_none()
    return Publication(as_of, row.policy_version, row.decisions, row.to_send, False) if row else None


def _read_scores(connection: Connection, shape: Shape, batch: Batch, serve: Serving) -> tuple[Scored, lists.HeldBack]:
    """The night's scores, and what the rules forbade in them."""
    programme = shape.programme
    parameters = {
        "programme": programme.programme,
        "programme_id": batch.programme_id,
        "salt": programme.salt,
        "as_of": str(batch.as_of),
        "version": serve.version,
    }
    scored = connection.execute(
        sa.text(
            """
            select shard, held_back from nba.scored_shards
            where programme_id = :programme_id and as_of = cast(:as_of as date)
              and policy_version = :version and fingerprint = :fingerprint
            """
        ),
        parameters | {"fingerprint": shape.fingerprint(tonight=True)},
    )
    held_back = dict(tuple(row) for row in scored)
    if missing := sorted(set(range(programme.shards)) - set(held_back)):
        raise PublishError(
            f"shard {', '.join(map(str, missing))} of {programme.programme} {batch.as_of} was not scored with version "
            f"{serve.version} and the programme file as it is now: run the nightly actions DAG again"
        )
    features = [feature.column for feature in shape.features]
    arrays = {
        "expected_value": (len(shape.actions), pa.float64()),
        "probability": (len(shape.actions), pa.float64()),
        "state": (len(features), pa.float32()),
    }
    query = database.statement("publish/scores", arrays={name: length for name, (length, _) in arrays.items()})
    columns = {"customer_key": pa.int32(), "customer_id": pa.string(), "arm": pa.string()}
    columns |= {"eligible": pa.int32(), "draw": pa.float64()}
    columns |= {f"{name}_{position}": of for name, (length, of) in arrays.items() for position in range(length)}
    found = bulk.read(connection, query, columns, parameters)

    def array(name: str, dtype: Any) -> NDArray[Any]:
        return bulk.matrix(found, [f"{name}_{position}" for position in range(arrays[name][0])], dtype)

    scores = Scored(
        customer_key=found.column("customer_key").to_numpy(),
        customer_id=found.column("customer_id").combine_chunks(),
        arm=found.column("arm").to_numpy().astype(str),
        eligible=unpack(found.column("eligible").to_numpy(), len(shape.actions)),
        uniform=found.column("draw").to_numpy(),
        state=array("state", np.float32),
        value=array("expected_value", np.float64),
        probability=array("probability", np.float64),
    )
    return scores, lists.in_all(held_back.values())


def _recheck(crm: Connection, shape: Shape, scores: Scored) -> tuple[BoolArray, NDArray[np.bool_]]:
    """Eligibility as the CRM knows it now; who ended the relationship is gone.

    Consent withdrawn since scoring counts, and so does who has come onto a list that forbids contacts.

    Returns
    -------
    eligible : bool array of shape (n, n_actions)
    gone : bool array of shape (n,)
        Closed accounts, events that end the relationship (also late ones, within the settlement lag), and customers
        whom the CRM does not know any more.

    Raises
    ------
    PublishError
        More of the customers are unknown to the CRM than `validation.max_vanished_share` allows.
    """
    programme = shape.programme
    eligible = scores.eligible.copy()
    query = database.statement(
        "publish/customers_now",
        customers=programme.crm.relations.customers,
        events=programme.crm.relations.events,
        flags=programme.flags,
    )
    first_day = shape.as_of - dt.timedelta(days=programme.grid.settlement_lag_days)
    parameters = {
        "ending_events": [name for name, event in programme.events.items() if event.ends],
        "since": dt.datetime.combine(first_day, dt.time(), programme.grid.zone),
    }
    types = {"customer_id": pa.string(), "gone": pa.bool_(), **dict.fromkeys(programme.flags, pa.bool_())}
    now = bulk.read(crm, query, types, parameters)
    # The row of each customer in what the CRM says, -1 for one whom it does not know any more.
    row = pc.index_in(scores.customer_id, value_set=now.column("customer_id").combine_chunks())
    row = row.fill_null(-1).to_numpy()
    known = row >= 0
    _refuse_vanished(programme, ~known)

    def says(column: str) -> NDArray[np.bool_]:
        return np.asarray(np.append(now.column(column).to_numpy(), False)[row], dtype=bool)

    contacts = [(action, action.channel) for action in shape.actions if action.channel is not None]
    for rule in (rule for rule in programme.rules if in_force(rule, shape.as_of)):
        for action, channel in contacts:
            if isinstance(rule, Consent) and (consent := programme.channels[channel].consent):
                eligible[:, action.index] &= says(consent)
            elif isinstance(rule, Suppression) and rule.channel in (None, channel):
                eligible[:, action.index] &= ~says(rule.column)
    return permitted(eligible, scores.arm), says("gone") | ~known


def _refuse_vanished(programme: Programme, vanished: NDArray[np.bool_]) -> None:
    """A source that is being loaded looks as if everybody had left; a single customer is no share."""
    allowed = programme.validation.max_vanished_share
    if vanished.sum() > 1 and vanished.mean() > allowed:
        raise PublishError(
            f"{vanished.sum()} of the {len(vanished)} customers scored are no longer in "
            f"{programme.crm.relations.customers} ({vanished.mean():.0%}; validation.max_vanished_share allows "
            f"{allowed:.0%}): is it being loaded? Run the publish task again once it is complete"
        )


def _rescored(shape: Shape, scores: Scored, eligible: BoolArray, serve: Serving) -> tuple[Scored, int]:
    """The scores with what is eligible now; where that changed since scoring, with the probabilities given now.

    Returns
    -------
    scores : Scored
    changed : int
        Customers whose eligible actions are others than when they were scored.
    """
    changed = (scores.eligible != eligible).any(axis=1)
    if not changed.any():
        return scores, 0
    probability = scores.probability.copy()
    again = serve.probabilities(shape, scores.state[changed], eligible[changed], scores.arm[changed])
    probability[changed] = apply_rules(again, eligible[changed])
    return replace(scores, eligible=eligible, probability=probability), int(changed.sum())


def _draw(shape: Shape, scores: Scored, new: BoolArray, at_training: Prices | None) -> Night:
    """Tonight's draw; the same scores give the same one. What new actions are thought to be worth moves nothing."""
    programme = shape.programme
    seed = hash63(programme.programme, "draw", f"{programme.salt}|{shape.as_of}", "everybody")
    value = np.where(new, np.nan, scores.value)
    return draw_night(shape, scores.arm, value, scores.probability, scores.uniform, seed, at_training)


def _write(
    crm: Connection,
    programme: Programme,
    as_of: dt.date,
    run_id: str,
    version: int,
    made: Decisions,
) -> None:
    parameters = {"programme": programme.programme, "as_of": as_of, "version": version, "run_id": run_id}
    _expire(crm, programme, as_of, f"replaced by the list of {as_of}")
    crm.execute(
        sa.text(
            """
            insert into publications
                (programme, list_date, policy_version, run_id, decisions, to_send, valid_until)
            values (:programme, :as_of, :version, :run_id, :decisions, :to_send, :valid_until)
            """
        ),
        parameters
        | {"decisions": made.n_decisions, "to_send": made.n_to_send}
        | {"valid_until": dt.datetime.combine(as_of + dt.timedelta(days=1), dt.time(), programme.grid.zone)},
    )
    bulk.write(crm, programme.crm.relations.decisions, made.decisions)
    bulk.write(crm, programme.crm.relations.campaign_list, made.to_send)


def _expire(crm: Connection, programme: Programme, before: dt.date, reason: str) -> int:
    return int(
        crm.execute(
            sa.text(
                """
                update publications set expired_at = now(), expired_reason = :reason
                where programme = :programme and list_date < :before and expired_at is null
                """
            ),
            {"programme": programme.programme, "before": before, "reason": reason},
        ).rowcount
    )


def expire(crm: Engine, programme: Programme, as_of: dt.date, reason: str) -> int:
    """Mark lists of earlier nights expired: after a failed, late or stale night nobody may send yesterday's.

    Parameters
    ----------
    as_of : date
        The lists before it.

    Returns
    -------
    int
        Lists that were still valid.
    """
    with crm.begin() as connection:
        ensure_tables(connection, programme)
        database.lock(connection, "publish", programme.programme)
        return _expire(connection, programme, as_of, reason)


def preview(crm: Engine, programme: Programme, as_of: dt.date, rows: int = 10) -> list[dict[str, Any]]:
    """The first rows of a night's campaign list, most valuable first."""
    with crm.connect() as connection:
        found = connection.execute(
            sa.text(
                f"""
                select customer_id, action_id, channel, expected_value, value_over_no_action, reason, policy_version
                from {database.quote_identifier(programme.crm.relations.campaign_list)}
                where programme = :programme and list_date = :as_of
                order by value_over_no_action desc nulls last, customer_id
                limit :rows
                """
            ),
            {"programme": programme.programme, "as_of": as_of, "rows": rows},
        )
        return [dict(row._mapping) for row in found]
