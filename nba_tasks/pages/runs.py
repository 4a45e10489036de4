"""The page beside a DAG run: what it did in a few figures, and the way to the gate, the list and MLflow."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse

from nba_tasks import database
from nba_tasks.pages import airflow_rest, mlflow_rest, validation
from nba_tasks.pages.access import VisitorDep
from nba_tasks.pages.rendering import page

router = APIRouter(prefix="/runs")

DAGS = ("contact_history", "policy_training", "gate_what_if", "promotion_review", "nightly_actions", "outcomes")


@router.get("/{dag_id}/{run_id}")
async def summary(request: Request, visitor: VisitorDep, dag_id: str, run_id: str) -> HTMLResponse:
    """What a run did."""
    programme, _, kind = dag_id.rpartition(".")
    if kind not in DAGS:
        parts = ("batch", "day", "gate", "night", "outcomes", "transitions", "validation")
        nothing: dict[str, Any] = dict.fromkeys(parts)
        return page(request, "run.html", kind="", programme=programme, **nothing)
    visitor.require(programme)
    day = await _day(request, dag_id, run_id) if kind == "contact_history" else None
    found = await run_in_threadpool(_found, programme, run_id, day)
    report = validation.report(programme, day) if day else None
    return page(request, "run.html", kind=kind, programme=programme, day=day, validation=report, **found)


@router.get("/{dag_id}/{run_id}/{what}")
async def lead(
    request: Request,
    visitor: VisitorDep,
    dag_id: str,
    run_id: str,
    what: Literal["gate", "mlflow", "list", "validation"],
) -> RedirectResponse:
    """From a task's link to what its run made.

    Raises
    ------
    HTTPException
        404: the run made no such thing, or not yet.
    """
    programme = visitor.require(dag_id.rpartition(".")[0])
    if what == "validation":
        day = await _day(request, dag_id, run_id)
        path = validation.report(programme, day) if day else None
    else:
        path = _path(programme, await run_in_threadpool(_found, programme, run_id, None), what)
    if path is None and what == "mlflow" and (link := await _learned(request, dag_id, run_id)):
        return RedirectResponse(link)
    if path is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, "This run made no such thing, or has not come so far.")
    return RedirectResponse(f"{request.scope.get('root_path', '')}{path}")


def _path(programme: str, found: Mapping[str, Any], what: str) -> str | None:
    """The path below the pages' address of what a run made."""
    gate, night = found["gate"], found["night"]
    if what == "list":
        return f"/lists/{programme}/{night['list_date']}?{urlencode({'run': night['run_id']})}" if night else None
    if gate is None:
        return None
    if what == "mlflow":
        return f"/gates/{gate['gate_id']}/mlflow"
    return f"/gates/{gate['gate_id']}" + (f"/what-if/{gate['what_if_id']}" if gate["what_if_id"] else "")


def _found(programme: str, run_id: str, day: dt.date | None) -> dict[str, Any]:
    """What the warehouse knows of a run."""
    parameters = {"programme": programme, "run_id": run_id}
    with database.warehouse().connect() as connection:

        def first(name: str, **more: Any) -> Mapping[str, Any] | None:
            rows = database.execute(connection, f"pages/{name}", parameters | more).mappings()
            return dict(row) if (row := rows.first()) else None

        gate = first("gate_of_run")
        return {
            "gate": gate,
            "transitions": first("transitions", as_of=gate["as_of"]) if gate else None,
            "night": first("list_of_run"),
            "batch": first("batch", as_of=day) if day else None,
            "outcomes": first("outcomes_of_run"),
        }


async def _day(request: Request, dag_id: str, run_id: str) -> dt.date | None:
    """The date that a contact history run pulled for, from its first task."""
    found = await _returned(request, dag_id, run_id, "pull")
    return dt.date.fromisoformat(found) if found else None


async def _learned(request: Request, dag_id: str, run_id: str) -> str | None:
    """The address of what a training learned in MLflow, before its gate is held or where that failed."""
    found = await _returned(request, dag_id, run_id, "learn")
    return await mlflow_rest.run_link(found) if found else None


async def _returned(request: Request, dag_id: str, run_id: str, task: str) -> str | None:
    """The text that a task of a run returned; None where it has returned nothing."""
    path = f"dags/{dag_id}/dagRuns/{airflow_rest.quoted(run_id)}/taskInstances/{task}/xcomEntries/return_value"
    found = await airflow_rest.ask(request, "GET", path)
    return str(found["value"]).strip('"') if found else None
