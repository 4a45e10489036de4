"""The Airflow plugin: hangs the pages into Airflow's navigation. Every Airflow process imports it, so it is light."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from airflow.plugins_manager import AirflowPlugin

from nba_tasks.pages import PREFIX

Message = MutableMapping[str, Any]


class Pages:
    """The application, imported at its first request: schedulers and workers load plugins too, and never need it."""

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        from nba_tasks.pages.app import app

        scope["airflow"] = scope.get("app")  # the application around this one
        await app(scope, receive, send)


def view(name: str, path: str, destination: str = "nav", icon: str = "") -> dict[str, Any]:
    """A page as Airflow's UI frames it; addresses have no leading slash, so that a base path stays in front."""
    root = PREFIX[1:]
    found = {"name": name, "href": f"{root}/{path}", "destination": destination, "nav_top_level": destination == "nav"}
    found["url_route"] = f"{root}-{name.lower().replace(' ', '-')}"
    if icon:
        pictures = {"icon": f"{root}/static/{icon}.svg", "icon_dark_mode": f"{root}/static/{icon}-dark.svg"}
        found |= pictures
    return found


class NextBestActionPlugin(AirflowPlugin):
    """Pages of gates, lists and policies, and a summary beside every DAG run."""

    name = "next_best_action"
    fastapi_apps = [  # noqa: RUF012 - as Airflow declares it
        {"app": Pages(), "url_prefix": PREFIX, "name": "Next best actions"}
    ]
    external_views = [  # noqa: RUF012
        view("Gates", "gates", icon="gate"),
        view("Lists", "lists", icon="list"),
        view("Policies", "policies", icon="policy"),
        view("Next best actions", "runs/{DAG_ID}/{RUN_ID}", "dag_run"),
    ]
