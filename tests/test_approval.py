"""The question put to a person keeps every answer, a rejection too, although Airflow then skips what comes next."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import DownstreamTasksSkipped

from nba_tasks.approval import ANSWER, Approval


class TaskInstance:
    """As much of a running task instance as an answer needs."""

    map_index = -1

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.kept[key] = value


KEPT = {"params_input": {"comment": "not before summer"}, "responded_by_user": {"id": "edna", "name": "edna"}}


def answer(option: str, instance: TaskInstance) -> None:
    """What Airflow does when somebody answers."""
    with DAG("a_review", schedule=None):
        ask = Approval(task_id="ask", subject="shall we?", params={"comment": ""})
        ask >> EmptyOperator(task_id="promote")
    event = KEPT | {"chosen_options": [option], "responded_at": dt.datetime(2026, 6, 3, tzinfo=dt.UTC)}
    ask.execute_complete({"ti": instance, "task": ask}, event)


def test_an_approval_is_kept_and_goes_on() -> None:
    instance = TaskInstance()
    answer("Approve", instance)
    assert instance.kept[ANSWER] == KEPT | {"chosen_options": ["Approve"]}


def test_who_rejected_and_why_is_kept_although_what_comes_next_is_skipped() -> None:
    instance = TaskInstance()
    with pytest.raises(DownstreamTasksSkipped) as skipped:
        answer("Reject", instance)
    assert list(skipped.value.tasks) == ["promote"]
    assert instance.kept[ANSWER] == KEPT | {"chosen_options": ["Reject"]}
