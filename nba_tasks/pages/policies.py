"""The pages of policies: which one is in use, where each came from, and the way back to the one before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, HTTPException, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy.exc import SQLAlchemyError

from nba_tasks import database, rollout
from nba_tasks.batches import BatchError
from nba_tasks.pages import forms, mlflow_rest
from nba_tasks.pages.access import Visitor, VisitorDep
from nba_tasks.pages.programmes import programme_named
from nba_tasks.pages.rendering import page, pages_of
from nba_tasks.programme import ProgrammeError
from nba_tasks.settings import SettingsError

router = APIRouter(prefix="/policies")

ROWS = 25


@router.get("")
async def first(request: Request, visitor: VisitorDep) -> RedirectResponse:
    """The policies of the first programme that the person may see."""
    if not visitor.programmes:
        raise HTTPException(HTTPStatus.NOT_FOUND, "There is no programme that you may see.")
    return RedirectResponse(f"{request.scope.get('root_path', '')}/policies/{visitor.programmes[0]}")


@router.get("/{programme}")
async def lineage(
    request: Request, visitor: VisitorDep, programme: str, number: Annotated[int, Query(alias="page", ge=1)] = 1
) -> HTMLResponse:
    """A programme's policies, each from its data to its lists."""
    visitor.require(programme)
    named = await mlflow_rest.aliases(programme)
    return await run_in_threadpool(_lineage, request, visitor, programme, number, named)


def _lineage(
    request: Request, visitor: Visitor, programme: str, number: int, named: dict[str, int] | None
) -> HTMLResponse:
    parameters = {"programme": programme, "rows": ROWS, "offset": (number - 1) * ROWS}
    with database.warehouse().connect() as connection:
        total = database.execute(connection, "pages/policies_count", parameters).scalar_one()
        rows = database.execute(connection, "pages/policies", parameters).mappings().all()
        changes = database.execute(connection, "pages/champions", parameters).mappings().all()
        champion = (named or {}).get("champion")
        rolling = None if champion is None else rollout.newest(connection, programme, champion)
    may_decide = _may_decide(visitor, programme)
    return page(
        request,
        "policies.html",
        visitor=visitor,
        programme=programme,
        named=named,
        roles=_roles(named or {}),
        policies=rows,
        changes=changes,
        pages=pages_of(total, ROWS),
        number=number,
        link=lambda to: f"?{urlencode({'page': to})}",
        rolling=rolling if rolling and rolling.share < 100 else None,
        may_decide=may_decide,
        may_roll_back=bool(named and {"previous", "champion"} <= named.keys()) and may_decide,
    )


def _may_decide(visitor: Visitor, programme: str) -> bool:
    """Whether the person decides here, and is among the reviewers where the programme's file names some."""
    if not visitor.decides(programme):
        return False
    try:
        reviewers = programme_named(programme).review.reviewers
    except (HTTPException, ProgrammeError):  # its file is gone or faulty, and with it who may: the terminal can
        return False
    return not reviewers or str(visitor.user.get_id()) in reviewers


def _require_may_decide(visitor: Visitor, programme: str) -> None:
    visitor.require_decides(programme)
    if not _may_decide(visitor, programme):
        raise HTTPException(HTTPStatus.FORBIDDEN, f"Only the reviewers that {programme}'s file names may decide here.")


def _roles(named: dict[str, int]) -> dict[int, list[str]]:
    """What each version is called now."""
    words = {"champion": "in use", "previous": "in use before", "version_0": "business as usual"}
    found: dict[int, list[str]] = {}
    for alias, word in words.items():
        if alias in named:
            found.setdefault(named[alias], []).append(word)
    return found


@router.get("/{programme}/rollback")
async def confirm(request: Request, visitor: VisitorDep, programme: str) -> HTMLResponse:
    """What going back would do, and the question whether it is meant.

    Raises
    ------
    HTTPException
        403: the person may not decide. 409: there is nothing to go back to.
    """
    _require_may_decide(visitor, programme)
    named = await mlflow_rest.aliases(programme)
    if not named or "champion" not in named or "previous" not in named:
        raise HTTPException(HTTPStatus.CONFLICT, f"{programme} has no earlier champion to go back to.")
    return page(
        request,
        "rollback.html",
        programme=programme,
        champion=named["champion"],
        previous=named["previous"],
        token=forms.token(visitor),
    )


@router.post("/{programme}/rollback", dependencies=[Depends(forms.sent_from_here)])
def roll_back(
    request: Request,
    visitor: VisitorDep,
    programme: str,
    champion: Annotated[int, Form()],
    comment: Annotated[str, Form(max_length=2000)] = "",
) -> RedirectResponse:
    """Put the champion before the present one back.

    Raises
    ------
    HTTPException
        403: the person may not decide. 409: the policy in use is no longer the one that was shown. 502: no MLflow.
    """
    from mlflow.exceptions import MlflowException

    from nba_tasks import registry, review

    _require_may_decide(visitor, programme)
    try:
        review.roll_back(
            database.warehouse(),
            programme_named(programme),
            decided_by=visitor.name,
            comment=comment.strip() or None,
            expected=champion,
        )
    except registry.RegistryError as error:
        raise HTTPException(HTTPStatus.CONFLICT, str(error)) from None
    except MlflowException as error:
        raise HTTPException(
            HTTPStatus.BAD_GATEWAY, f"MLflow does not answer: look which version is in use before trying again. {error}"
        ) from None
    return RedirectResponse(f"{request.scope.get('root_path', '')}/policies/{programme}", HTTPStatus.SEE_OTHER)


@contextmanager
def _answering() -> Iterator[None]:
    """What stands in the way, as a person is told it."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (rollout.RolloutError, BatchError, SettingsError) as error:
        raise HTTPException(HTTPStatus.CONFLICT, str(error)) from None
    except MlflowException as error:
        raise HTTPException(HTTPStatus.BAD_GATEWAY, f"MLflow does not answer: {error}") from None
    except SQLAlchemyError:
        raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "A database does not answer.") from None


@router.get("/{programme}/rollout")
def progress(request: Request, visitor: VisitorDep, programme: str) -> HTMLResponse:
    """How the roll-out goes, and the question whether the next step is meant.

    Raises
    ------
    HTTPException
        403: the person may not decide. 409: no roll-out is under way. 503: a database does not answer.
    """
    from nba_tasks import rollout_steps

    _require_may_decide(visitor, programme)
    with _answering():
        rolling = rollout_steps.under_way(programme_named(programme))
    if rolling is None:
        raise HTTPException(HTTPStatus.CONFLICT, f"{programme} has no roll-out under way.")
    return page(request, "rollout.html", programme=programme, rolling=rolling, token=forms.token(visitor))


@router.post("/{programme}/rollout", dependencies=[Depends(forms.sent_from_here)])
def widen(
    request: Request,
    visitor: VisitorDep,
    programme: str,
    share: Annotated[int, Form()],
    comment: Annotated[str, Form(max_length=2000)] = "",
) -> RedirectResponse:
    """Take the next step of the roll-out.

    Raises
    ------
    HTTPException
        403: the person may not decide. 409: it is held back, or no longer where it was shown. 502, 503: see `progress`.
    """
    from nba_tasks import rollout_steps

    _require_may_decide(visitor, programme)
    with _answering():
        rollout_steps.widen(programme_named(programme), visitor.name, comment.strip() or None, expected=share)
    return RedirectResponse(f"{request.scope.get('root_path', '')}/policies/{programme}", HTTPStatus.SEE_OTHER)
