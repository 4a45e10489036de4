"""Airflow's REST API, asked in this process as the person behind a request: their log-in, their rights, its checks."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import httpx
from fastapi import Request

HOST = "http://airflow"
"""Of no consequence: the request goes to the application that this one is mounted in, not over a network."""


class Refused(RuntimeError):
    """Airflow refused; the message is its own."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


async def ask(request: Request, method: str, path: str, **more: Any) -> Any:
    """Call `/api/v2/PATH` and return what it answers; None where there is no such thing.

    Raises
    ------
    Refused
        Airflow answers with another error.
    """
    own = {name: request.headers[name] for name in ("authorization", "cookie") if name in request.headers}
    transport = httpx.ASGITransport(app=request.scope["airflow"])
    async with httpx.AsyncClient(transport=transport, base_url=HOST, headers=own) as client:
        answer = await client.request(method, f"{_root(request)}/api/v2/{path}", **more)
    if answer.status_code == HTTPStatus.NOT_FOUND:
        return None
    if answer.is_error:
        raise Refused(answer.status_code, _detail(answer))
    return answer.json()


def quoted(run_id: str) -> str:
    """A run's id as a part of a path."""
    return quote(run_id, safe="")


def run_page(request: Request, dag_id: str, run_id: str) -> str:
    """The address of a DAG run in Airflow's UI."""
    return f"{_root(request)}/dags/{dag_id}/runs/{quoted(run_id)}"


def _root(request: Request) -> str:
    """The path under which a proxy shows Airflow; the pages' own prefix is not part of it."""
    return str(request.scope.get("root_path", "")).rsplit("/", 1)[0]


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:300]
