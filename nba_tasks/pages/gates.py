"""The pages of gates: all of them, and one with its evidence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, HTTPException, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from markupsafe import Markup
from pydantic import BaseModel, Field

from nba_tasks import database
from nba_tasks.pages import airflow_rest, decision, forms, mlflow_rest, validation
from nba_tasks.pages.access import VisitorDep
from nba_tasks.pages.rendering import STATIC, page, pages_of
from nba_tasks.report import charts_of_gate, wording

router = APIRouter(prefix="/gates")

PAGE_ROWS = 25


class Filters(BaseModel):
    """What the list of gates is narrowed to; an empty field does not narrow."""

    programme: str = ""
    verdict: Literal["", "PROMOTE", "DEFER", "REJECT"] = ""
    decision: Literal["", "waiting", "approved", "rejected", "none"] = ""
    page: int = Field(1, ge=1, le=1_000_000)


@router.get("")
def every(request: Request, visitor: VisitorDep, filters: Annotated[Filters, Query()]) -> HTMLResponse:
    """Every gate, newest first."""
    wanted = [filters.programme] if filters.programme else list(visitor.programmes)
    parameters = {
        "programmes": [name for name in wanted if name in visitor.programmes],
        "verdict": filters.verdict,
        "decision": filters.decision,
        "rows": PAGE_ROWS,
        "offset": (filters.page - 1) * PAGE_ROWS,
    }
    with database.warehouse().connect() as connection:
        total = database.execute(connection, "pages/gates_count", parameters).scalar_one()
        rows = database.execute(connection, "pages/gates", parameters).mappings().all()
    chosen = filters.model_dump(exclude={"page"}, exclude_defaults=True)
    return page(
        request,
        "gates.html",
        visitor=visitor,
        gates=rows,
        total=total,
        filters=filters,
        pages=pages_of(total, PAGE_ROWS),
        number=filters.page,
        link=lambda number: f"?{urlencode({**chosen, 'page': number})}",
    )


Gate = dict[str, Any]


def one(gate_id: int, visitor: VisitorDep) -> Gate:
    """A gate that the person may see.

    Raises
    ------
    HTTPException
        404, whether there is no such gate or it is kept from them.
    """
    with database.warehouse().connect() as connection:
        found = database.execute(connection, "pages/gate", {"gate_id": gate_id}).mappings().one_or_none()
    if found is None or found["programme"] not in visitor.programmes:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"There is no gate {gate_id} that you may see.")
    return dict(found)


GateDep = Annotated[Gate, Depends(one)]


@router.get("/{gate_id}")
async def detail(request: Request, visitor: VisitorDep, gate: GateDep) -> HTMLResponse:
    """One gate: the verdict, what can be decided, and the evidence."""
    return await run_in_threadpool(
        page,
        request,
        "gate.html",
        **_evidence(gate),
        what_ifs=await run_in_threadpool(_what_ifs, gate["gate_id"]),
        decision=await decision.panel(request, visitor, gate),
        links=_links(request, gate),
        token=forms.token(visitor),
    )


@router.get("/{gate_id}/what-if/{what_if_id}")
def what_if(request: Request, gate: GateDep, what_if_id: int) -> HTMLResponse:
    """What other thresholds would have said of a gate's candidate.

    Raises
    ------
    HTTPException
        404: nobody asked that of this gate.
    """
    asked = {"gate_id": gate["gate_id"], "what_if_id": what_if_id}
    with database.warehouse().connect() as connection:
        found = database.execute(connection, "pages/what_if", asked).mappings().one_or_none()
    if found is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"Gate {gate['gate_id']} has no what-if {what_if_id}.")
    return page(
        request,
        "what_if.html",
        **_evidence(gate | {"report": found["report"], "verdict": found["report"]["verdict"]}),
        held=gate,
        what_if=found,
    )


@router.get("/{gate_id}/report.html")
def download(request: Request, gate: GateDep) -> HTMLResponse:
    """The same evidence as one file that needs no server; print it for a PDF."""
    answer = page(request, "gate.html", **_evidence(gate), standalone=True, inline=_inline)
    answer.headers["Content-Disposition"] = f'attachment; filename="{gate["programme"]}-gate-{gate["gate_id"]}.html"'
    return answer


@router.get("/{gate_id}/report.json")
def figures(gate: GateDep) -> Response:
    """The gate's machine-readable report."""
    name = f"{gate['programme']}-gate-{gate['gate_id']}.json"
    return Response(
        json.dumps(gate["report"], indent=1),
        media_type="application/json",
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
    )


@router.get("/{gate_id}/mlflow")
async def in_mlflow(gate: GateDep) -> RedirectResponse:
    """The gate's run in MLflow.

    Raises
    ------
    HTTPException
        502: MLflow does not know it, or does not answer.
    """
    link = await mlflow_rest.run_link(gate["mlflow_run_id"])
    if link is None:
        raise HTTPException(HTTPStatus.BAD_GATEWAY, f"MLflow does not show run {gate['mlflow_run_id']} now.")
    return RedirectResponse(link)


@router.post("/{gate_id}/answer", dependencies=[Depends(forms.sent_from_here)])
async def answer(
    request: Request,
    visitor: VisitorDep,
    gate: GateDep,
    answer: Annotated[Literal["Approve", "Reject"], Form()],
    comment: Annotated[str, Form(max_length=2000)] = "",
) -> RedirectResponse:
    """Answer the review that waits for this gate, as Airflow's own form would.

    Raises
    ------
    HTTPException
        403: the person may not decide. 409: nothing waits for an answer, or an approval comes too late.
    """
    visitor.require_decides(gate["programme"])
    found = await decision.panel(request, visitor, gate)
    if answer not in found.answers:
        raise HTTPException(HTTPStatus.CONFLICT, f"{found.title}. {found.text}")
    body = {"chosen_options": [answer], "params_input": {"comment": comment.strip()}}
    await airflow_rest.ask(request, "PATCH", decision.action_path(gate), json=body)
    return RedirectResponse(f"{request.scope.get('root_path', '')}/gates/{gate['gate_id']}", HTTPStatus.SEE_OTHER)


def _evidence(gate: Gate) -> dict[str, Any]:
    """What the page and the file show alike."""
    report = gate["report"]
    over = wording.period(report["judged"]["horizon"], gate["interval_days"])
    return {
        "gate": gate,
        "report": report,
        "settled": decision.closed(gate),
        "headline": wording.headline(report, gate["interval_days"]),
        "tiles": wording.tiles(report, gate["interval_days"]),
        "reasons": [] if report["opened"] else report["choice"]["reasons"],
        "checks": wording.checklist(report),
        "charts": charts_of_gate(report, over),
    }


def _what_ifs(gate_id: int) -> list[Mapping[str, Any]]:
    with database.warehouse().connect() as connection:
        return list(database.execute(connection, "pages/what_ifs", {"gate_id": gate_id}).mappings().all())


def _links(request: Request, gate: Gate) -> dict[str, str | None]:
    root = str(request.scope.get("root_path", ""))
    programme = gate["programme"]
    report = validation.report(programme, gate["as_of"])
    return {
        "mlflow": f"{root}/gates/{gate['gate_id']}/mlflow",
        "training": airflow_rest.run_page(request, f"{programme}.policy_training", gate["dag_run_id"] or ""),
        "review": airflow_rest.run_page(request, f"{programme}.promotion_review", gate["review_run_id"] or ""),
        "validation": f"{root}{report}" if report else None,
    }


@cache
def _inline(name: str) -> Markup:
    """A stylesheet or script of ours for a file that stands by itself; nothing in it may end the element."""
    return Markup((STATIC / name).read_text(encoding="utf-8").replace("</script", "<\\/script"))
