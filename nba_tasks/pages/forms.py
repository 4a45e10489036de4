"""Forms that change something: sent by the person they were shown to, from one of these pages."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from airflow.configuration import conf
from fastapi import Form, HTTPException, Request
from itsdangerous import BadData, URLSafeTimedSerializer

from nba_tasks.pages.access import Visitor, VisitorDep

VALID_SECONDS = 12 * 3600


def _signer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(conf.get_mandatory_value("api", "secret_key"), salt="nba-pages")


def token(visitor: Visitor) -> str:
    """What a form carries to show that it was served to this person."""
    return str(_signer().dumps(str(visitor.user.get_id())))


def sent_from_here(request: Request, visitor: VisitorDep, token: Annotated[str, Form()] = "") -> None:
    """Refuse a form that another site made a browser send.

    Raises
    ------
    HTTPException
        403: the token is missing, too old or somebody else's, or the browser says that the form is another site's.
    """
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise HTTPException(HTTPStatus.FORBIDDEN, "This form was sent from another site.")
    try:
        served_to = _signer().loads(token, max_age=VALID_SECONDS)
    except BadData:
        served_to = None
    if served_to != str(visitor.user.get_id()):
        raise HTTPException(HTTPStatus.FORBIDDEN, "This form is too old or was not made for you: open the page again.")
