"""What the DAG files share: the programmes, the assets between DAGs, and the date that a run decides for."""

from __future__ import annotations

import datetime as dt
import importlib
from collections.abc import Mapping
from typing import Any

from airflow.sdk import Asset, Param
from airflow.sdk.bases.notifier import BaseNotifier

from nba_tasks.programme import Programme, read_programmes
from nba_tasks.settings import settings

DEFAULT_ARGUMENTS = {"owner": "next best action", "retries": 1, "retry_delay": dt.timedelta(seconds=30)}

SHARD = "{{ work | default('shard ' ~ shard) }}"
"""What Airflow calls a mapped task: its shard, and once it is done what it did, left in the context as `work`."""


def programmes() -> dict[str, Programme]:
    """Every programme of this installation, by name."""
    return read_programmes(settings().programmes)


def programme(name: str) -> Programme:
    """One programme, read when a task runs."""
    return programmes()[name]


def history_asset(name: str) -> Asset:
    """Contact history, pulled and validated; its events carry `as_of`."""
    return Asset(name=f"{name}/history", uri=f"nba://{name}/history", group="next-best-action")


def gate_asset(name: str) -> Asset:
    """A gate was held; its events carry `gate_id`."""
    return Asset(name=f"{name}/gate", uri=f"nba://{name}/gate", group="next-best-action")


def as_of_param() -> Param:
    """The form's field for the date."""
    return Param(
        None,
        type=["null", "string"],
        format="date",
        title="Decide for (as_of)",
        description_md=(
            "The date whose decisions are meant; only what was known before its midnight is used. "
            "Empty: the date of the history that started this run, else today in the programme's time zone."
        ),
    )


def as_of(context: Mapping[str, Any], selected: Programme) -> dt.date:
    """The date that a run decides for: its form's, else its asset event's, else today in the business time zone."""
    today = dt.datetime.now(selected.grid.zone).date()
    given = context["params"].get("as_of") or from_event(context, "as_of")
    day = dt.date.fromisoformat(str(given)) if given else today
    if day > today:
        raise ValueError(f"as_of {day} lies ahead: what is known before its midnight is not complete yet")
    return day


def from_event(context: Mapping[str, Any], key: str) -> Any:
    """The greatest value of `key` (the latest date, the newest gate) that the asset events of a run carry.

    Airflow may queue several events into one run, and not in their order. None where no event carries the key.
    """
    accessor = context.get("triggering_asset_events") or {}
    carried = [event.extra.get(key) for events in accessor.values() for event in events]
    return max((value for value in carried if value is not None), default=None)


def notify(selected: Programme, context: Mapping[str, Any]) -> None:
    """Tell whom the programme's file names; its notifier's texts are templates over the task's context.

    Raises
    ------
    TypeError
        The file names something that is no notifier.
    """
    if selected.outcomes.notifier is None:
        return
    module, name = selected.outcomes.notifier.rsplit(".", 1)
    kind = getattr(importlib.import_module(module), name)
    if not (isinstance(kind, type) and issubclass(kind, BaseNotifier)):
        raise TypeError(f"outcomes.notifier {selected.outcomes.notifier} is no Airflow notifier")
    kind(**selected.outcomes.notifier_arguments)(context)
