from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from nba_tasks.stack.errors import StackError
from nba_tasks.stack.processes import Service, check_port, remember, session_members, stop_all

# A program with a child and a grandchild in another process group; it writes their numbers down.
TREE = """
import os, signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], process_group=0)
with open("tree.new", "w") as file:
    file.write(f"{os.getpid()} {child.pid} {grandchild.pid}")
os.rename("tree.new", "tree")
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def runs(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def service(folder: Path, *arguments: str, code: str = TREE) -> Service:
    return Service("tree", [sys.executable, "-c", code, *arguments], dict(os.environ), folder)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[tuple[Service, list[int]]]:
    started = service(tmp_path)
    started.start()
    wait_for((tmp_path / "tree").exists)
    yield started, [int(pid) for pid in (tmp_path / "tree").read_text().split()]
    stop_all([started.pid_file], patience=0)


def test_stop_ends_the_whole_tree(tree: tuple[Service, list[int]]) -> None:
    started, pids = tree
    assert all(map(runs, pids))
    assert stop_all([started.pid_file]) == ["tree"]
    assert not any(map(runs, pids))
    assert not started.pid_file.exists()


def test_stop_ends_children_that_outlived_their_parent(tree: tuple[Service, list[int]]) -> None:
    started, pids = tree
    os.kill(pids[0], signal.SIGKILL)
    assert started.process is not None
    started.process.wait()
    assert stop_all([started.pid_file]) == ["tree"]
    assert not any(map(runs, pids))


def test_stop_kills_what_does_not_listen(tmp_path: Path) -> None:
    started = service(tmp_path, "stubborn")
    started.start()
    wait_for(lambda: "ready" in started.log.read_text())
    pids = [int(pid) for pid in (tmp_path / "tree").read_text().split()]
    stop_all([started.pid_file], patience=0.5)
    assert not any(map(runs, pids))


def test_stop_spares_a_stranger_with_a_reused_number(tmp_path: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    try:
        pid_file = tmp_path / "tree.json"
        pid_file.write_text(json.dumps({"pid": stranger.pid, "created": time.time() - 86_400}))
        assert stop_all([pid_file]) == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_stop_leaves_other_programs_alone(tree: tuple[Service, list[int]], tmp_path: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        stop_all([tree[0].pid_file])
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"pid": 1}'])
def test_damaged_pid_file_stops_nothing(tmp_path: Path, content: str) -> None:
    pid_file = tmp_path / "tree.json"
    pid_file.write_text(content)
    assert session_members(pid_file) == []


def test_remembering_survives_a_second_reading(tmp_path: Path) -> None:
    pid_file = tmp_path / "us.json"
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    try:
        remember(sleeper.pid, pid_file)
        assert [process.pid for process in session_members(pid_file)] == [sleeper.pid]
    finally:
        sleeper.kill()
        sleeper.wait()


def test_death_is_named_with_the_end_of_the_log(tmp_path: Path) -> None:
    started = service(tmp_path, code="print('the cellar is flooded'); raise SystemExit(3)")
    started.ready = lambda: False
    started.start()
    with pytest.raises(StackError, match=r"(?s)tree ended with status 3.*the cellar is flooded"):
        started.wait_until_ready(20)


def test_silence_is_named(tree: tuple[Service, list[int]]) -> None:
    started, _ = tree
    started.ready = lambda: False
    with pytest.raises(StackError, match="tree did not answer within 0 s"):
        started.wait_until_ready(0.3)


def test_port_in_use_names_port_and_variable() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(StackError, match=rf"port {port}, meant for Airflow.*NBA_AIRFLOW_PORT="):
            check_port(port, "NBA_AIRFLOW_PORT", "Airflow")
    check_port(port, "NBA_AIRFLOW_PORT", "Airflow")
