from __future__ import annotations

import pytest

from nba_tasks.stack.airflow_api import AirflowClient, Run, TaskState
from nba_tasks.stack.errors import StackError


def run(*tasks: tuple[str, int, str]) -> Run:
    return Run("dag", "run", "running", tuple(TaskState(name, index, state, 1) for name, index, state in tasks))


def test_summary_names_every_task_once() -> None:
    shown = run(("pull", -1, "success"), ("build", 0, "success"), ("build", 1, "running"), ("learn", -1, "none"))
    assert shown.summary() == "pull ✓  build 1/2  learn ·"


def test_summary_counts_failures_among_mapped_tasks() -> None:
    assert run(("build", 0, "failed"), ("build", 1, "success")).summary() == "build 1/2 (1 failed)"


def test_summary_of_finished_and_odd_states() -> None:
    assert run(("a", 0, "success"), ("a", 1, "success"), ("b", -1, "up_for_retry")).summary() == "a ✓  b up_for_retry"


def test_mapped_task_has_its_number_in_its_name() -> None:
    assert [task.name for task in run(("a", 3, "none"), ("b", -1, "none")).tasks] == ["a[3]", "b"]


def test_silent_server_is_named() -> None:
    with pytest.raises(StackError, match=r"Airflow at http://127\.0\.0\.1:1 does not answer"):
        AirflowClient("http://127.0.0.1:1", "admin", "x")
