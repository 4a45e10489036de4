from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nba_tasks.settings import Settings
from nba_tasks.stack.errors import StackError
from nba_tasks.stack.postgres import throw_away_server
from nba_tasks.stack.services import LOCK, Stack, airflow_settings, interrupt_owner, only_one, prepare_home

HOLDER = """
import signal, sys, time
from pathlib import Path
from nba_tasks.stack.services import only_one
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
with only_one(Path(sys.argv[1])):
    print("holds", flush=True)
    time.sleep(600)
"""


def hold(home: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(home)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "holds\n"
    return holder


def test_two_stacks_of_one_folder_are_refused(tmp_path: Path) -> None:
    holder = hold(tmp_path)
    try:
        with pytest.raises(StackError, match="a stack already runs"), only_one(tmp_path):
            pass
        # Killed without a chance to tidy up: the lock falls all the same.
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with only_one(tmp_path):
            assert (tmp_path / LOCK).read_text() == str(os.getpid())
    finally:
        holder.kill()
        holder.wait()


def test_down_asks_the_owner_first(tmp_path: Path) -> None:
    holder = hold(tmp_path)
    try:
        interrupt_owner(tmp_path, patience=20)
        assert holder.wait(timeout=20) == 0
    finally:
        holder.kill()
        holder.wait()


def test_down_without_an_owner_returns_at_once(tmp_path: Path) -> None:
    began = time.monotonic()
    interrupt_owner(tmp_path)
    with only_one(tmp_path):
        pass
    interrupt_owner(tmp_path)
    assert time.monotonic() - began < 5


def test_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"only .* GB are free .* NBA_HOME"):
        prepare_home(tmp_path, needed=2**60)


def test_state_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match=r"cannot be written .* NBA_HOME"):
        prepare_home(tmp_path / "file" / "home")


def test_programs_hear_of_every_database_and_of_no_other_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("NBA_CRM_URL", "postgresql://elsewhere/crm")
    stack = Stack(Settings(home=tmp_path, airflow_port=8999))
    with throw_away_server() as server:
        environment = stack.environment(server)
        assert environment["NBA_CRM_URL"] == server.database_url("crm")
    assert environment["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:8999/execution/"
    assert environment["AIRFLOW__API__HOST"] == "127.0.0.1"


def test_passwords_stay_out_of_command_lines(tmp_path: Path) -> None:
    stack = Stack(Settings(home=tmp_path))
    with throw_away_server() as server:
        services = list(stack._programs(stack.environment(server)))
    said = " ".join(argument for service in services for argument in service.command)
    assert stack.secrets.admin_password not in said
    assert "postgresql" not in said


def test_every_airflow_option_exists(tmp_path: Path) -> None:
    from tests.stack.airflow_options import KNOWN

    stack = Stack(Settings(home=tmp_path))
    given = airflow_settings(stack.settings, stack.home, stack.airflow_url, stack.secrets)
    assert {name for name in given if name.startswith("AIRFLOW__")} <= KNOWN
