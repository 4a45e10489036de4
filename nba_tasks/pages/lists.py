"""The pages of lists: what each night's list looks like as a whole, and whom it is about."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import urlencode

import sqlalchemy as sa
from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse
from sqlalchemy.exc import SQLAlchemyError

from nba_tasks import database
from nba_tasks.pages import charts
from nba_tasks.pages.access import VisitorDep
from nba_tasks.pages.programmes import programme_named
from nba_tasks.pages.rendering import page, pages_of
from nba_tasks.settings import SettingsError, settings

router = APIRouter(prefix="/lists")

ROWS = 25
CUSTOMERS = 50
MOST = 1000
"""Contacts of a list that can be paged through; a page far down would sort the whole list."""


@router.get("")
def every(
    request: Request,
    visitor: VisitorDep,
    programme: str = "",
    number: Annotated[int, Query(alias="page", ge=1, le=1_000_000)] = 1,
) -> HTMLResponse:
    """Every night's list, newest first."""
    wanted = [programme] if programme else list(visitor.programmes)
    shown = [name for name in wanted if name in visitor.programmes]
    parameters = {"programmes": shown, "rows": ROWS, "offset": (number - 1) * ROWS}
    with database.warehouse().connect() as connection:
        total = database.execute(connection, "pages/lists_count", parameters).scalar_one()
        rows = database.execute(connection, "pages/lists", parameters).mappings().all()
    published = {
        name: publications(name, [row["list_date"] for row in rows if row["programme"] == name])
        for name in {row["programme"] for row in rows}
    }
    return page(
        request,
        "lists.html",
        visitor=visitor,
        chosen=programme,
        lists=[{**row, "status": status(row, published[row["programme"]])} for row in rows],
        total=total,
        pages=pages_of(total, ROWS),
        number=number,
        link=lambda to: f"?{urlencode({'programme': programme, 'page': to})}",
    )


@router.get("/{programme}/{list_date}")
def one(
    request: Request,
    visitor: VisitorDep,
    programme: str,
    list_date: dt.date,
    run: str = "",
    number: Annotated[int, Query(alias="page", ge=1, le=1_000_000)] = 1,
) -> HTMLResponse:
    """One night's list.

    Raises
    ------
    HTTPException
        404: no run made that list.
    """
    visitor.require(programme)
    with database.warehouse().connect() as connection:
        runs = (
            database.execute(connection, "pages/list", {"programme": programme, "list_date": list_date})
            .mappings()
            .all()
        )
        found = next((row for row in runs if row["run_id"] == run or not run), None)
        if found is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"No such list of {programme} for {list_date}.")
        gate = database.execute(
            connection, "pages/gate_of_version", {"programme": programme, "version": found["policy_version"]}
        )
        gate_row = gate.mappings().one_or_none()
    published = publications(programme, [list_date])
    may_see = visitor.sees_customers(programme)
    out = (published or {}).get(list_date)
    return page(
        request,
        "list.html",
        programme=programme,
        night=found,
        runs=runs,
        summary=found["summary"],
        status=status(found, published),
        gate=gate_row,
        charts=charts.charts_of_list(found["summary"]),
        may_see=may_see,
        # What the CRM holds is the published run's, whichever run is looked at.
        customers=_customers(programme, list_date, number)
        if may_see and out and out["run_id"] == found["run_id"]
        else (),
        number=number,
        pages=pages_of(min(found["summary"]["to_send"], MOST), CUSTOMERS),
        most=MOST,
        link=lambda to: f"?{urlencode({'run': run, 'page': to})}#customers",
    )


def publications(programme: str, nights: list[dt.date]) -> dict[dt.date, Mapping[str, Any]] | None:
    """What the CRM says of published lists, by night; None where it cannot be asked."""
    try:
        with crm(programme).connect() as connection:
            rows = database.execute(
                connection, "pages/publications", {"programme": programme, "list_dates": nights}
            ).mappings()
            return {row["list_date"]: row for row in rows}
    except (SQLAlchemyError, SettingsError, HTTPException):
        return None


def status(made: Mapping[str, Any], published: Mapping[dt.date, Mapping[str, Any]] | None) -> str:
    """What became of a list, in words."""
    if made["dry_run"]:
        return "dry run"
    if published is None:
        return "unknown: the CRM does not answer"
    publication = published.get(made["list_date"])
    if publication is None or publication["run_id"] != made["run_id"]:
        return "not published"
    if publication["expired_at"]:
        return f"expired: {publication['expired_reason']}"
    return "may be sent" if publication["valid_until"] > dt.datetime.now(dt.UTC) else "its day is over"


def crm(programme: str) -> sa.Engine:
    """The programme's CRM."""
    return database.engine(settings().url(programme_named(programme).crm.url_variable))


def _customers(programme: str, list_date: dt.date, number: int) -> list[Mapping[str, Any]]:
    first = (number - 1) * CUSTOMERS
    if first >= MOST:
        return []
    parameters = {"programme": programme, "list_date": list_date, "rows": CUSTOMERS, "offset": first}
    relation = programme_named(programme).crm.relations.campaign_list
    with crm(programme).connect() as connection:
        rows = database.execute(connection, "pages/campaign_rows", parameters, campaign_list=relation)
        return list(rows.mappings().all())
