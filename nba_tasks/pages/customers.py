"""The page of one customer: what happened, what was known, and why tonight's action was chosen."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse
from sqlalchemy.exc import SQLAlchemyError

from nba_tasks import database
from nba_tasks.arms import HOLDOUT, NAMES, PREVIOUS
from nba_tasks.pages import charts
from nba_tasks.pages.access import VisitorDep
from nba_tasks.pages.lists import crm
from nba_tasks.pages.programmes import programme_named
from nba_tasks.pages.rendering import page
from nba_tasks.programme import CustomerFeature, Programme
from nba_tasks.report.numbers import plain

router = APIRouter(prefix="/customers")

Row = Mapping[str, Any]
DAYS_BACK = 182
ARMS = NAMES | {HOLDOUT: "holdout: never contacted"}
SPLITS = {"l": "learn", "s": "select", "g": "gate", "h": "holdout"}


@router.get("/{programme}")
def trace(
    request: Request,
    visitor: VisitorDep,
    programme: str,
    customer: Annotated[str, Query(alias="id", max_length=200)] = "",
    night: dt.date | None = None,
) -> HTMLResponse:
    """One customer, as of the last night or another one.

    Raises
    ------
    HTTPException
        403: the person may not see customers' rows. 404: there is no such customer.
    """
    visitor.require_sees_customers(programme)
    known = programme_named(programme)
    with database.warehouse().connect() as connection:
        found = database.execute(connection, "pages/customer", {"programme": programme, "customer_id": customer})
        who = found.mappings().one_or_none()
        if who is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"{programme} has no customer {customer!r}.")
        nights = database.execute(connection, "pages/customer_nights", {"customer_key": who["customer_key"]}).mappings()
        scored = {(row["as_of"], row["policy_version"]): row for row in reversed(nights.all())}
        actions = dict(database.execute(connection, "pages/actions", {"programme": programme}).tuples().all())
        decisions = _decisions(known, customer)
        chosen_night = night or max((*(scored_for for scored_for, _ in scored), *decisions), default=None)
        end = chosen_night or dt.datetime.now(known.grid.zone).date()
        since = dt.datetime.combine(end - dt.timedelta(days=DAYS_BACK), dt.time(), known.grid.zone)
        happened = (
            database.execute(
                connection, "pages/customer_history", {"customer_key": who["customer_key"], "since": since}
            )
            .mappings()
            .all()
        )
        decision = decisions.get(chosen_night) if chosen_night else None
        score = _score(scored, chosen_night, decision)
        version = int(decision["policy_version"]) if decision else score["policy_version"] if score else None
        gate = (
            database.execute(connection, "pages/gate_of_version", {"programme": programme, "version": version})
            .mappings()
            .one_or_none()
        )
    return page(
        request,
        "customer.html",
        programme=programme,
        who=who,
        arm=ARMS[(score and score["arm"]) or who["arm"]],
        split=SPLITS[who["split"]],
        zone=known.grid.business_timezone,
        night=chosen_night,
        nights=sorted({*(scored_for for scored_for, _ in scored), *decisions}, reverse=True),
        decision=decision,
        score=score,
        version=version,
        gate=gate,
        state=_state(known, score),
        charts=[
            *charts.choice(actions, score, decision),
            charts.timeline(happened, decisions, (since.date(), end), known.grid.zone),
        ],
    )


def _decisions(programme: Programme, customer: str) -> dict[dt.date, Row]:
    """The customer's published decisions by night.

    Raises
    ------
    HTTPException
        503: the CRM, which holds them, does not answer.
    """
    try:
        with crm(programme.programme).connect() as connection:
            rows = database.execute(
                connection,
                "pages/customer_decisions",
                {"customer_id": customer, "programme": programme.programme},
                decisions=programme.crm.relations.decisions,
            ).mappings()
            return {row["decided_at"].astimezone(programme.grid.zone).date(): row for row in rows}
    except SQLAlchemyError:
        raise HTTPException(
            HTTPStatus.SERVICE_UNAVAILABLE, "The CRM, which holds decisions, does not answer."
        ) from None


def _score(scored: Mapping[tuple[dt.date, int], Row], night: dt.date | None, decision: Row | None) -> Row | None:
    """What a night's decision rests on; without one, what the night was scored with last."""
    versions = [version for scored_for, version in scored if scored_for == night]
    if night is None or not versions:
        return None
    if decision is None:
        return scored[(night, versions[-1])]
    if decision["arm"] == NAMES[PREVIOUS]:
        # Before a roll-out reaches a customer, another version decides than the one that the night was scored for.
        others = (scored[(night, other)] for other in reversed(versions))
        return next((row for row in others if row["arm"] == PREVIOUS), None)
    return scored.get((night, int(decision["policy_version"])))


def _state(programme: Programme, score: Row | None) -> list[tuple[str, str]]:
    """What was known of the customer before the decision, in words."""
    if score is None:
        return []
    features = programme.state
    if len(features) != len(score["state"]):
        return [(f"column {number}", plain(value)) for number, value in enumerate(score["state"], 1)]
    return [
        (feature.name.replace("_", " "), _in_words(feature, value))
        for feature, value in zip(features, score["state"], strict=True)
    ]


def _in_words(feature: Any, value: float) -> str:
    if isinstance(feature, CustomerFeature) and feature.categories:
        code = int(value)
        return feature.categories[code] if 0 <= code < len(feature.categories) else "unknown"
    if getattr(feature, "measure", "").startswith("days_since") and value == getattr(feature, "missing", None):
        return "never"
    return plain(value)
