"""Airflow's real API server with the pages in it, beside a real MLflow, over a trained installation."""

from __future__ import annotations

import datetime as dt
import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from itsdangerous import URLSafeTimedSerializer

from nba_tasks import ledger, publish, registry, score
from nba_tasks.settings import Settings, settings
from nba_tasks.stack.processes import Service, stop_all
from nba_tasks.stack.secrets import Secrets
from nba_tasks.stack.services import ADMIN, MLFLOW, airflow_settings, mlflow_login
from tests.databases import TestServer
from tests.loop import AS_OF, Installation, connect

ROLES = {"vera": "viewer", "uma": "user"}
"""Who may look, and who may act; a password is its user's name."""


@dataclass(frozen=True)
class Site:
    """The running pages and what stands behind them."""

    url: str
    made: Installation
    secret: str

    def token(self, user: str, secret: str | None = None) -> str:
        """What a form carries that was served to somebody; `secret`: signed with another key than the server's."""
        return str(URLSafeTimedSerializer(secret or self.secret, salt="nba-pages").dumps(user))

    def visit(self, user: str | None) -> httpx.Client:
        """A client that is logged in as somebody, or as nobody."""
        cookies = {}
        if user:
            account = {"username": user, "password": user}
            answer = httpx.post(f"{self.url}/auth/token", json=account, timeout=60, trust_env=False).raise_for_status()
            cookies["_token"] = answer.json()["access_token"]
        return httpx.Client(base_url=self.url, cookies=cookies, timeout=60, trust_env=False)

    def gates(self) -> list[int]:
        """The gates' numbers, oldest first."""
        return [number for (number,) in self.made.databases.rows("select gate_id from nba.gates order by 1")]


@pytest.fixture(scope="package")
def site(
    server: TestServer, trained_once: tuple[Installation, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Gates of every verdict, a published night and a dry run, on a running server."""
    made, trained_in = trained_once
    folder = tmp_path_factory.mktemp("site")
    server._run("create database airflow_pages")
    with pytest.MonkeyPatch.context() as patch:
        connect(made, patch, trained_in)
        _fill(made)
        database = server.url.set(database="airflow_pages").render_as_string(hide_password=False)
        services = _services(folder, database, trained_in / "mlflow.db", patch)
        try:
            for name in ("mlflow", "migrate"):
                services[name].start()
            assert services["migrate"].process is not None
            assert services["migrate"].process.wait(timeout=240) == 0, services["migrate"].log.read_text()
            services["api-server"].start()
            for name in ("mlflow", "api-server"):
                services[name].wait_until_ready(240)
            yield Site(
                os.environ["AIRFLOW__API__BASE_URL"],
                made,
                services["api-server"].environment["AIRFLOW__API__SECRET_KEY"],
            )
        finally:
            stop_all(service.pid_file for service in services.values())
            _empty(made)
    settings.cache_clear()


def _services(folder: Path, database: str, store: Path, patch: pytest.MonkeyPatch) -> dict[str, Service]:
    airflow_port, mlflow_port = free_port(), free_port()
    url, mlflow_url = f"http://127.0.0.1:{airflow_port}", f"http://127.0.0.1:{mlflow_port}"
    passwords = folder / "passwords.json"
    passwords.write_text(json.dumps({name: name for name in ROLES}))
    patch.setenv("AIRFLOW__API__BASE_URL", url)
    secrets = Secrets.generate()
    patch.setenv("MLFLOW_TRACKING_URI", mlflow_url)
    patch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN)
    patch.setenv("MLFLOW_TRACKING_PASSWORD", secrets.mlflow_password)
    settings.cache_clear()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    environment = inherited | airflow_settings(Settings(home=folder), folder, url, secrets) | {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in ROLES.items()),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "MLFLOW_TRACKING_URI": mlflow_url,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{store}",
        "MLFLOW_ARTIFACTS_DESTINATION": str(folder),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    environment |= mlflow_login(folder, secrets)
    airflow = [sys.executable, "-m", "airflow"]
    commands = {
        "mlflow": [*MLFLOW, "--port", str(mlflow_port), "--workers", "1"],
        "migrate": [*airflow, "db", "migrate"],
        "api-server": [*airflow, "api-server"],
    }
    addresses = {"mlflow": f"{mlflow_url}/health", "api-server": f"{url}/api/v2/version"}
    return {
        name: Service(name, command, environment, folder, _ready(addresses.get(name)))
        for name, command in commands.items()
    }


def _ready(address: str | None) -> Any:
    def answers() -> bool:
        try:
            return address is None or httpx.get(address, timeout=5, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    return answers


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def copy_of_the_gate(made: Installation, **changes: Any) -> int:
    """The ledger's first gate again with other columns, as the newest gate."""
    with made.warehouse.begin() as connection:
        first = made.databases.rows("select min(gate_id) from nba.gates")[0][0]
        gate: Mapping[str, Any] = ledger.gate(connection, made.programme, first)
        given = dict(gate) | {"attempt": None} | changes
        columns = {k: v for k, v in given.items() if k not in ("gate_id", "programme") and v is not None}
        return ledger.record(connection, columns)


def _fill(made: Installation) -> None:
    with made.crm.begin() as connection:
        publish.ensure_tables(connection, made.programme)
    _empty(made)  # other tests may have published here
    with made.warehouse.begin() as connection:
        connection.exec_driver_sql("update nba.gates set verdict = 'PROMOTE', propensities = 'logged'")
    decided = {"decided_by": "auto_promote", "decided_at": dt.datetime(2026, 6, 4, 9, tzinfo=dt.UTC)}
    copy_of_the_gate(made, candidate_version=101, verdict="DEFER", as_of=dt.date(2026, 6, 10))
    copy_of_the_gate(made, candidate_version=102, verdict="REJECT", as_of=dt.date(2026, 6, 17))
    copy_of_the_gate(made, candidate_version=103, decision="rejected", comment="<b>not</b> before summer", **decided)
    copy_of_the_gate(made, candidate_version=104, as_of=dt.date(2026, 6, 24))
    version = registry.version_of(made.programme, "version_0")
    assert version is not None
    serve = score.serving(made.programme, version)
    for shard in range(made.programme.shards):
        score.score_shard(made.warehouse, made.programme, AS_OF, shard, serve)
    for run, dry in (("a dry run", True), ("a run", False)):
        publish.publish(made.crm, made.warehouse, made.programme, AS_OF, serve, run, dry_run=dry, today=AS_OF)


def _empty(made: Installation) -> None:
    with made.warehouse.begin() as connection:
        connection.exec_driver_sql("delete from nba.gates where candidate_version > 100; delete from nba.lists")
    with made.crm.begin() as connection:
        connection.exec_driver_sql("delete from campaign_list; delete from decisions where programme is not null")
        connection.exec_driver_sql("delete from publications")
