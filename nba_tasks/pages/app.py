"""The pages' application. Every route asks for Airflow's login; nothing is loaded from elsewhere."""

from __future__ import annotations

import mimetypes
from http import HTTPStatus

from airflow.api_fastapi.app import get_auth_manager
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from nba_tasks.pages import airflow_rest, customers, gates, lists, policies, runs, validation, words
from nba_tasks.pages.access import may_open_pages
from nba_tasks.pages.rendering import HEADERS, STATIC, page

# Without documentation routes: they would be served to anybody.
app = FastAPI(
    title="Next best actions", docs_url=None, redoc_url=None, openapi_url=None, dependencies=[Depends(may_open_pages)]
)
for room in (gates, lists, customers, policies, runs, validation, words):
    app.include_router(room.router)


@app.get("/")
def start(request: Request) -> RedirectResponse:
    """The list of gates."""
    return RedirectResponse(f"{request.scope.get('root_path', '')}/gates")


@app.get("/static/{name:path}")
def static(name: str) -> FileResponse:
    """A stylesheet or script of the pages.

    Raises
    ------
    HTTPException
        404: there is no such file.
    """
    path = (STATIC / name).resolve()
    if not path.is_relative_to(STATIC) or not path.is_file():
        raise HTTPException(HTTPStatus.NOT_FOUND, "There is no such file.")
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return FileResponse(path, media_type=kind, headers={**HEADERS, "Cache-Control": "private, max-age=3600"})


@app.exception_handler(StarletteHTTPException)
def refused(request: Request, error: StarletteHTTPException) -> HTMLResponse:
    """What a person reads instead of a page that they may not see, or that is not there."""
    back = str(request.url.path)
    login = get_auth_manager().get_url_login(next_url=back) if error.status_code == HTTPStatus.UNAUTHORIZED else None
    return page(
        request,
        "refused.html",
        error.status_code,
        title=HTTPStatus(error.status_code).phrase,
        detail=error.detail,
        login=login,
    )


@app.exception_handler(airflow_rest.Refused)
def refused_by_airflow(request: Request, error: airflow_rest.Refused) -> HTMLResponse:
    """Airflow's own refusal of what a page asked of it for this person."""
    title = HTTPStatus(error.status).phrase
    return page(request, "refused.html", error.status, title=title, detail=str(error), login=None)


@app.exception_handler(RequestValidationError)
def misunderstood(request: Request, error: RequestValidationError) -> HTMLResponse:
    """An address or form that says something impossible."""
    detail = "; ".join(f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors())
    return page(request, "refused.html", 422, title="Not understood", detail=detail, login=None)
