"""The real stack on three small DAGs: one process of each, assets, a failure, a killed supervisor, and a clean end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from nba_tasks.settings import Settings
from nba_tasks.stack.airflow_api import AirflowClient, RunFailed
from nba_tasks.stack.processes import session_members
from nba_tasks.stack.services import ADMIN, PROGRAMS, Stack

pytestmark = pytest.mark.slow
RUNNING = set(PROGRAMS) - {"migrate"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def command(name: str, stack: Stack) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "NBA_HOME": str(stack.home),
        "NBA_AIRFLOW_PORT": str(stack.settings.airflow_port),
        "NBA_MLFLOW_PORT": str(stack.settings.mlflow_port),
        "NBA_DAGS_FOLDER": str(stack.settings.dags_folder),
    }
    return subprocess.Popen([sys.executable, "-m", "nba_tasks.stack", name], env=environment)


def running(stack: Stack) -> set[str]:
    return {name for name in PROGRAMS if session_members(stack.home / "pids" / f"{name}.json")}


def wait_until_up(stack: Stack, supervisor: subprocess.Popen[bytes], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while running(stack) != RUNNING:
        assert supervisor.poll() is None, "the supervisor ended"
        assert time.monotonic() < deadline, f"only {running(stack)} run"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    settings = Settings(
        home=tmp_path_factory.mktemp("a state folder"),
        dags_folder=Path(__file__).parent / "dags",
        airflow_port=free_port(),
        mlflow_port=free_port(),
    )
    described = Stack(settings)
    supervisor = command("up", described)
    try:
        wait_until_up(described, supervisor)
        yield described
    finally:
        supervisor.send_signal(signal.SIGTERM)
        supervisor.wait(timeout=60)
        described.stop()


@pytest.fixture(scope="module")
def client(stack: Stack) -> AirflowClient:
    client = AirflowClient(stack.airflow_url, ADMIN, stack.secrets.admin_password)
    for dag_id in ("first", "second", "broken"):
        client.unpause(dag_id)
    return client


def test_asset_starts_the_second_dag(client: AirflowClient) -> None:
    first = client.wait(client.trigger("first", {"as_of": "2026-01-01"}), lambda run: None, 120)
    second = client.started_by(first, "second")
    assert second is not None
    ended = client.wait(second, lambda run: None, 120)
    assert ended.summary() == "shard ✓"
    assert client.started_by(ended, "first", patience=0) is None


def test_failure_names_the_task_and_its_reason(client: AirflowClient) -> None:
    with pytest.raises(RunFailed, match=r"(?s)broken failed.*--- fail.*seven sheep are missing"):
        client.wait(client.trigger("broken", {}), lambda run: None, 120)


def test_strangers_are_refused(stack: Stack) -> None:
    assert httpx.get(f"{stack.airflow_url}/api/v2/dags", trust_env=False).status_code == 401


def test_mlflow_answers_who_is_logged_in(stack: Stack) -> None:
    url = f"{stack.mlflow_url}/api/2.0/mlflow/experiments/search"
    for login, status in (((ADMIN, stack.secrets.mlflow_password), 200), ((ADMIN, "guessed"), 401), (None, 401)):
        assert httpx.post(url, json={"max_results": 1}, auth=login, trust_env=False).status_code == status


def test_second_supervisor_is_refused(stack: Stack) -> None:
    assert command("up", stack).wait(timeout=60) == 1
    assert running(stack) == RUNNING


def test_killed_supervisor_then_down_leaves_nothing(stack: Stack, client: AirflowClient) -> None:
    owner = int((stack.home / "lock").read_text())
    members = [process for name in RUNNING for process in session_members(stack.home / "pids" / f"{name}.json")]
    os.kill(owner, signal.SIGKILL)
    time.sleep(1)
    assert running(stack) == RUNNING, "the programs outlive a killed supervisor"
    assert command("down", stack).wait(timeout=90) == 0
    assert not any(process.is_running() for process in members)
    assert stack.embedded is not None
    assert not stack.embedded.is_running()


def test_start_again_stop_by_signal(stack: Stack) -> None:
    supervisor = command("up", stack)
    wait_until_up(stack, supervisor)
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(timeout=60) == 0
    assert running(stack) == set()


def test_forget_removes_the_state_folder(stack: Stack) -> None:
    assert command("forget", stack).wait(timeout=60) == 0
    assert not stack.home.exists()
