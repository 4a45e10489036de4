"""The compose file without a container engine: its shape, commands, variables, mounts, and its init script for real."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.pool import NullPool

from nba_tasks.database import statement
from nba_tasks.settings import REPOSITORY
from nba_tasks.stack.postgres import Server, binaries, throw_away_server
from nba_tasks.stack.secrets import Secrets
from nba_tasks.stack.services import MLFLOW
from tests.stack.airflow_options import KNOWN

COMPOSE = REPOSITORY / "docker-compose.yml"
TEXT = COMPOSE.read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
EXAMPLE = (REPOSITORY / ".env.example").read_text()
BIN = Path(sys.executable).parent


def airflow_commands() -> list[list[str]]:
    """Arguments of every `airflow …` that a service runs."""
    commands = [service["command"] for service in SERVICES.values()]
    script = SERVICES["airflow-init"]["command"][-1].replace("\\\n", " ").replace('"', "")
    commands += [line.split() for line in script.splitlines()]
    return [command[1:] for command in commands if command[0] == "airflow"]


def test_file_follows_the_specification() -> None:
    command = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_all_parts_are_there() -> None:
    parts = {"api-server", "scheduler", "dag-processor", "triggerer"}
    assert set(SERVICES) >= {f"airflow-{part}" for part in parts} | {
        "postgres",
        "mlflow",
        "airflow-init",
        "nba-migrate",
    }


@pytest.mark.parametrize("name", SERVICES)
def test_services_stay_up_and_say_how_they_are(name: str) -> None:
    service = SERVICES[name]
    once = name in ("airflow-init", "nba-migrate")
    assert service["restart"] == ("no" if once else "unless-stopped")
    assert once or service["healthcheck"]["test"]


def test_published_ports_stay_on_this_machine() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_airflow_option_exists() -> None:
    given = {name for service in SERVICES.values() for name in service.get("environment", {})}
    assert {name for name in given if name.startswith("AIRFLOW__")} <= KNOWN


def test_airflow_understands_every_command(tmp_path: Path) -> None:
    commands = airflow_commands()
    assert len(commands) == 7
    code = "import json, sys; from airflow.cli.cli_parser import get_parser; parser = get_parser()\n"
    code += "for command in json.loads(sys.argv[1]): parser.parse_args(command)"
    auth_manager = SERVICES["airflow-init"]["environment"]["AIRFLOW__CORE__AUTH_MANAGER"]
    environment = os.environ | {"AIRFLOW__CORE__AUTH_MANAGER": auth_manager, "AIRFLOW_HOME": str(tmp_path)}
    command = [sys.executable, "-c", code, json.dumps(commands)]
    parsed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert parsed.returncode == 0, parsed.stderr[-2000:]


def test_mlflow_understands_its_command() -> None:
    command: list[str] = SERVICES["mlflow"]["command"]
    assert command[:2] == ["sh", "/opt/nba/deploy/mlflow.sh"]
    last = Path(MLFLOW[1]).read_text().splitlines()[-1]
    program, subcommand, *arguments = [*last.removeprefix("exec ").removesuffix(' "$@"').split(), *command[2:]]
    assert program == "mlflow"
    code = "import sys; from mlflow.cli import cli; cli.commands[sys.argv[1]].make_context('x', sys.argv[2:])"
    parsed = subprocess.run(
        [sys.executable, "-c", code, subcommand, *arguments], capture_output=True, text=True, check=False
    )
    assert parsed.returncode == 0, parsed.stderr[-2000:]


def test_our_commands_exist() -> None:
    from typer.main import get_command

    from nba_tasks.cli import app

    assert SERVICES["nba-migrate"]["command"] == ["nba", "migrate"]
    assert "migrate" in getattr(get_command(app), "commands")  # noqa: B009 typed as a plain command


def test_health_checks_run_a_file_of_the_image() -> None:
    tests = [service["healthcheck"]["test"] for name, service in SERVICES.items() if "healthcheck" in service]
    scripts = {Path(test[2]) for test in tests if test[1] == "python"}
    assert scripts == {Path("/opt/nba/deploy/healthcheck.py")}
    assert (REPOSITORY / "deploy" / "healthcheck.py").exists()
    assert "COPY deploy deploy" in (REPOSITORY / "Dockerfile").read_text()


def test_every_mount_exists() -> None:
    volumes = yaml.safe_load(TEXT)["volumes"]
    for service in SERVICES.values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert (REPOSITORY / source).exists() if source.startswith(".") else source in volumes, source


def test_everything_the_image_copies_exists() -> None:
    for line in (REPOSITORY / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY "):
            for source in line.split()[1:-1]:
                assert (REPOSITORY / source).exists(), source


def test_every_variable_is_in_the_example_and_secrets_have_no_default() -> None:
    required = set(re.findall(r"\$\{(\w+):\?", TEXT))
    optional = set(re.findall(r"\$\{(\w+):-", TEXT))
    assert required == set(re.findall(r"^(\w+)=$", EXAMPLE, re.MULTILINE))
    assert optional <= set(re.findall(r"^# (\w+)=", EXAMPLE, re.MULTILINE))
    assert not any(re.search("PASSWORD|SECRET|KEY", name) for name in optional)
    assert not re.search(r"\$\{\w+\}|\$[A-Za-z_]\w*", re.sub(r"\$\$\w+", "", TEXT)), "a variable without :? or :-"


def test_init_script_gives_each_role_its_own_and_no_more() -> None:
    secrets = {f"{role}_DB_PASSWORD": f"{role.lower()}'s own" for role in ("AIRFLOW", "MLFLOW", "NBA", "CRM")}
    with throw_away_server() as server:
        environment = os.environ | secrets
        environment |= {
            "PATH": f"{binaries()}{os.pathsep}{os.environ['PATH']}",
            "PGHOST": str(server.url.query["host"]),
            "NBA_CONTRACT": str(REPOSITORY / "sql" / "crm" / "contract.sql"),
        }
        script = REPOSITORY / "deploy" / "init-databases.sh"
        done = subprocess.run(["sh", script], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        allowed = {(role, database) for role, database in _connections(server)}
        assert allowed == {
            ("airflow", "airflow"), ("mlflow", "mlflow"), ("nba", "warehouse"), ("nba", "crm"), ("crm", "crm"),
        }  # fmt: skip
        execute(server, "crm", "INSERT INTO customers (customer_id, created_at) VALUES ('c1', now())", "crm")
        execute(server, "nba", "SELECT * FROM customers", "crm")
        names = {"decisions": "decisions", "campaign_list": "campaign_list", "make_decisions": True}
        execute(server, "nba", statement("crm/published", **names), "crm")
        insert = "INSERT INTO decisions VALUES ('d', 'c1', now(), 'no_action', '{no_action}', '{1}')"
        execute(server, "nba", insert, "crm")
        execute(server, "crm", "SELECT * FROM campaign_list_tonight", "crm")
        for forbidden in ("DELETE FROM customers", "UPDATE contacts SET action_id = 'x'", "DROP TABLE contacts"):
            with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
                execute(server, "nba", forbidden, "crm")


@pytest.mark.slow
def test_airflow_init_makes_the_admin_and_may_be_repeated(tmp_path: Path) -> None:
    service = SERVICES["airflow-init"]
    script = service["command"][-1].replace("$$", "$")
    with throw_away_server(["airflow"]) as server:
        environment = os.environ | {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "AIRFLOW_HOME": str(tmp_path),
            "AIRFLOW__CORE__AUTH_MANAGER": service["environment"]["AIRFLOW__CORE__AUTH_MANAGER"],
            "AIRFLOW__CORE__FERNET_KEY": Secrets.generate().fernet_key,
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": server.database_url("airflow"),
            "ADMIN_USER": "chief",
            "ADMIN_PASSWORD": "a long one",
            "ADMIN_EMAIL": "chief@example.org",
        }
        for _ in range(2):
            done = subprocess.run(
                ["bash", "-euc", script], env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        with create_engine(server.database_url("airflow"), poolclass=NullPool).connect() as connection:
            roles = connection.execute(
                text(
                    "SELECT username, r.name FROM ab_user u JOIN ab_user_role ur ON ur.user_id = u.id "
                    "JOIN ab_role r ON r.id = ur.role_id"
                )
            )
            assert [tuple(row) for row in roles] == [("chief", "Admin")]
            see_plugins = connection.execute(
                text(
                    "SELECT r.name FROM ab_permission_view_role pr JOIN ab_permission_view pv "
                    "ON pv.id = pr.permission_view_id JOIN ab_permission p ON p.id = pv.permission_id "
                    "JOIN ab_view_menu v ON v.id = pv.view_menu_id JOIN ab_role r ON r.id = pr.role_id "
                    "WHERE p.name = 'can_read' AND v.name = 'Plugins'"
                )
            )
            assert {"Viewer", "User"} <= {row.name for row in see_plugins}, "the pages are a plugin"


def _connections(server: Server) -> list[tuple[str, str]]:
    query = """
        SELECT rolname, datname FROM pg_roles CROSS JOIN pg_database
        WHERE rolname IN ('airflow', 'mlflow', 'nba', 'crm') AND datname IN ('airflow', 'mlflow', 'warehouse', 'crm')
          AND has_database_privilege(rolname, datname, 'CONNECT')
    """
    with create_engine(server.url, poolclass=NullPool).connect() as connection:
        return [(row.rolname, row.datname) for row in connection.execute(text(query))]


def execute(server: Server, role: str, statement: str, database: str) -> None:
    url = make_url(server.database_url(database)).set(username=role)
    with create_engine(url, poolclass=NullPool).begin() as connection:
        connection.execute(text(statement))
