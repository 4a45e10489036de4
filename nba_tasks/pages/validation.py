"""Great Expectations' own report of a night, from the state folder. It may quote customers' rows."""

from __future__ import annotations

import datetime as dt
import mimetypes
from http import HTTPStatus

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse

from nba_tasks.pages.access import VisitorDep
from nba_tasks.pages.rendering import HEADERS
from nba_tasks.settings import settings

router = APIRouter(prefix="/validation")

FIRST = "index.html"
# It quotes what customers typed, and names scripts and styles to load from elsewhere: nothing in it runs or is fetched.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'self'"


def report(programme: str, as_of: dt.date) -> str | None:
    """The path of a night's report below the pages' address; None where there is none."""
    found = settings().home / "validation" / programme / as_of.isoformat() / FIRST
    return f"/validation/{programme}/{as_of}/{FIRST}" if found.is_file() else None


@router.get("/{programme}/{as_of}/{name:path}")
def file(visitor: VisitorDep, programme: str, as_of: dt.date, name: str) -> FileResponse:
    """A file of a night's report.

    Raises
    ------
    HTTPException
        403: it may show customers' rows, and the person may not see those. 404: there is no such file.
    """
    visitor.require(programme)
    if name != FIRST:
        visitor.require_sees_customers(programme)
    folder = (settings().home / "validation" / programme / as_of.isoformat()).resolve()
    path = (folder / name).resolve()
    if not path.is_relative_to(folder) or not path.is_file():
        raise HTTPException(HTTPStatus.NOT_FOUND, "There is no such report.")
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    headers = HEADERS | {"Content-Security-Policy": POLICY, "Cache-Control": "no-store"}
    return FileResponse(path, media_type=kind, headers=headers)
