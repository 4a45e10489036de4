"""What the pages ask of MLflow, over its REST API: its client would cost each API server seconds and much memory."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import httpx

from nba_tasks.settings import settings

SECONDS = 2.0


async def aliases(programme: str) -> dict[str, int] | None:
    """The versions that the programme's aliases name, none before the first training; None: MLflow does not answer."""
    found = await _get("registered-models/get", {"name": programme})
    if found is None:
        return None
    listed = found.get("registered_model", {}).get("aliases", [])
    return {alias["alias"]: int(alias["version"]) for alias in listed}


async def run_link(run_id: str) -> str | None:
    """The address of a run for a person's browser; None where MLflow does not know it or does not answer."""
    found = await _get("runs/get", {"run_id": run_id})
    if not found:
        return None
    return f"{settings().mlflow_link}/#/experiments/{found['run']['info']['experiment_id']}/runs/{run_id}"


async def _get(path: str, parameters: dict[str, str]) -> Any:
    """The answer, empty where there is no such thing, None where MLflow does not answer."""
    server = settings().mlflow_tracking_uri
    if not server.startswith("http"):
        return None
    try:
        async with httpx.AsyncClient(
            base_url=server,
            auth=settings().mlflow_login,
            timeout=SECONDS,
            trust_env=False,
            verify=server.startswith("https"),
        ) as client:
            answer = await client.get(f"/api/2.0/mlflow/{path}", params=parameters)
    except httpx.HTTPError:
        return None
    if answer.status_code == HTTPStatus.NOT_FOUND:
        return {}
    return answer.json() if answer.is_success else None
