from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from nba_tasks.stack.errors import StackError
from nba_tasks.stack.postgres import (
    LONGEST_SOCKET_PATH,
    SOCKET_NAME,
    EmbeddedServer,
    Server,
    external_server,
    socket_folder,
    throw_away_server,
)


def scalar(url: str, query: str) -> object:
    with create_engine(url, poolclass=NullPool).connect() as connection:
        value: object = connection.scalar(text(query))
        return value


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(tmp_path / "pg", throw_away=True)
    yield server
    server.stop()


def test_databases_are_created_once(embedded: EmbeddedServer) -> None:
    server = embedded.start()
    server.ensure_databases(["crm", "warehouse"])
    server.ensure_databases(["crm", "a b"])
    assert scalar(server.database_url("a b"), "SELECT current_database()") == "a b"
    server.check_version()


def test_work_survives_stop_and_start(embedded: EmbeddedServer) -> None:
    url = embedded.start().database_url("postgres")
    with create_engine(url, poolclass=NullPool).begin() as connection:
        connection.execute(text("CREATE TABLE kept AS SELECT 7 AS n"))
    embedded.stop()
    assert not embedded.is_running()
    embedded.start()
    assert scalar(url, "SELECT n FROM kept") == 7


def test_starting_twice_finds_it_running(embedded: EmbeddedServer) -> None:
    embedded.start()
    pid = (embedded.data / "postmaster.pid").read_text().split()[0]
    embedded.start()
    assert (embedded.data / "postmaster.pid").read_text().split()[0] == pid


def test_stale_pid_file_with_a_reused_number(embedded: EmbeddedServer) -> None:
    embedded.start()
    embedded.stop()
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        (embedded.data / "postmaster.pid").write_text(f"{stranger.pid}\n{embedded.data}\n0\n5432\n\n\n\nready\n")
        assert not embedded.is_running()
        assert scalar(embedded.start().database_url("postgres"), "SELECT 1") == 1
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_interrupted_initialisation_starts_over(embedded: EmbeddedServer) -> None:
    embedded.data.mkdir(parents=True)
    (embedded.data / "base").mkdir()
    (embedded.data / "postgresql.conf").write_text("half of a line")
    assert scalar(embedded.start().database_url("postgres"), "SELECT 1") == 1


def test_nothing_listens_on_the_network_and_no_one_else_reaches_the_socket(embedded: EmbeddedServer) -> None:
    url = embedded.start().database_url("postgres")
    assert scalar(url, "SHOW listen_addresses") == ""
    assert stat.S_IMODE(embedded.socket_folder.stat().st_mode) & 0o066 == 0


@pytest.mark.parametrize("name", ["with a space", "x" * 120, "with,comma", "ümlaut"])
def test_unusual_paths(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name / "pg"
    path = socket_folder(folder)
    assert len(os.fsencode(path / SOCKET_NAME)) <= LONGEST_SOCKET_PATH
    assert path != folder / "socket"
    embedded = EmbeddedServer(folder, throw_away=True)
    try:
        assert scalar(embedded.start().database_url("postgres"), "SELECT 1") == 1
    finally:
        embedded.stop()
        shutil.rmtree(path)


def test_missing_rights_name_the_databases(embedded: EmbeddedServer) -> None:
    server = embedded.start()
    with create_engine(server.url, poolclass=NullPool).begin() as connection:
        connection.execute(text("CREATE ROLE clerk LOGIN"))
    with pytest.raises(StackError, match=r"'clerk' may not create databases.*crm, mlflow"):
        Server(server.url.set(username="clerk")).ensure_databases(["crm", "mlflow"])


def test_external_server_that_is_silent_is_named_without_its_password() -> None:
    with pytest.raises(StackError, match="does not answer") as caught:
        external_server("postgresql://someone:hunter2@127.0.0.1:1/postgres")
    assert "hunter2" not in str(caught.value)


def test_throw_away_server_leaves_nothing() -> None:
    with throw_away_server(["crm"]) as server:
        folder = Path(str(server.url.query["host"]))
        assert scalar(server.database_url("crm"), "SELECT 1") == 1
        external = external_server(server.database_url("postgres"))
        assert external.url.database == "postgres"
    assert not folder.exists()
