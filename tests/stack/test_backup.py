"""The commands of docs/operations.md that back up and restore, run as they stand there.

There is no container engine here: `docker` is a small script in front of the path that runs each command on this
machine, against a PostgreSQL server and a folder in place of the containers' ones.
"""

from __future__ import annotations

import datetime as dt
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from nba_tasks import database
from nba_tasks.settings import REPOSITORY
from nba_tasks.stack.postgres import Server, binaries, throw_away_server
from tests.databases import AS_OF, CONTRACT, Databases, contents, make_programme, valid_night
from tests.test_docs import TEXTS, blocks, section

DOCKER = """#!/bin/bash
# docker compose exec -T SERVICE COMMAND: the command; anything else starts or stops what runs here anyway.
set -eu
if [ "$2" != exec ]; then exit 0; fi
shift 4
exec "${@/#\\/opt\\/mlflow/$ARTIFACTS}"
"""
SECRETS = {f"{role}_DB_PASSWORD": f"{role.lower()}-secret" for role in ("AIRFLOW", "MLFLOW", "NBA", "CRM")}


@contextmanager
def installation(folder: Path) -> Iterator[tuple[Server, dict[str, str]]]:
    """A server as the containers' one begins, and the environment in which the commands run."""
    (folder / "bin").mkdir(parents=True)
    (folder / "artifacts").mkdir()
    (folder / "bin" / "docker").write_text(DOCKER)
    (folder / "bin" / "docker").chmod(0o755)
    with throw_away_server() as server:
        environment = os.environ | SECRETS
        environment |= {
            "PATH": f"{folder / 'bin'}{os.pathsep}{binaries()}{os.pathsep}{os.environ['PATH']}",
            "PGHOST": str(server.url.query["host"]),
            "NBA_CONTRACT": str(REPOSITORY / "sql" / "crm" / "contract.sql"),
            "ARTIFACTS": str(folder / "artifacts"),
        }
        run((REPOSITORY / "deploy" / "init-databases.sh").read_text(), folder, environment)
        yield server, environment


def run(script: str, folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def commands(heading: str) -> str:
    """The first shell block under a heading of the operations' manual."""
    return blocks(section(TEXTS["docs/operations.md"], heading), "sh")[0]


def both(server: Server) -> Databases:
    """CRM and warehouse as the role that the tasks have."""
    return Databases(
        *(
            create_engine(make_url(server.database_url(name)).set(username="nba"), poolclass=NullPool)
            for name in ("crm", "warehouse")
        )
    )


@pytest.mark.slow
def test_what_is_backed_up_is_restored_elsewhere(tmp_path: Path) -> None:
    programme = make_programme()
    old, new = tmp_path / "old", tmp_path / "new"
    with installation(old) as (server, environment):
        crm = create_engine(server.database_url("crm"), poolclass=NullPool)
        with crm.begin() as connection:
            connection.exec_driver_sql("drop schema public cascade; create schema public authorization crm")
            connection.exec_driver_sql("set role crm")
            connection.exec_driver_sql(CONTRACT.replace("%", "%%"))
        rights = REPOSITORY / "sql" / "crm" / "rights.sql"
        run(f"psql --quiet --username postgres --dbname crm --set role=nba --file '{rights}'", old, environment)
        database.migrate(both(server).warehouse)
        valid_night(both(server), programme)
        for name in ("airflow", "mlflow"):
            url = make_url(server.database_url(name)).set(username=name)
            with create_engine(url, poolclass=NullPool).begin() as connection:
                connection.exec_driver_sql("create table kept as select 1 as number")
        (old / "artifacts" / "1").mkdir()
        (old / "artifacts" / "1" / "model.skops").write_bytes(b"a model")
        (old / ".env").write_text("AIRFLOW_FERNET_KEY=secret\n")
        before = contents(both(server))
        run(commands("Back up"), old, environment)
    with installation(new) as (server, environment):
        (old / "backup").rename(new / "backup")
        run(commands("Restore"), new, environment)
        assert (new / ".env").read_text() == "AIRFLOW_FERNET_KEY=secret\n"
        assert (new / "artifacts" / "1" / "model.skops").read_bytes() == b"a model"
        assert contents(both(server)) == before
        for name in ("airflow", "mlflow"):
            url = make_url(server.database_url(name)).set(username=name)
            with create_engine(url, poolclass=NullPool).begin() as connection:
                assert connection.scalar(text("select number from kept")) == 1
                connection.exec_driver_sql("drop table kept")  # its owner is who it was
        database.migrate(both(server).warehouse)
        later = valid_night(both(server), programme, AS_OF + dt.timedelta(days=1))
        assert later.added["contacts"] > 0
