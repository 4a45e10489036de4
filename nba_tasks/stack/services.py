"""The stack: PostgreSQL, MLflow and Airflow's four programs, on loopback, with all state in one folder."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import httpx
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from nba_tasks.settings import REPOSITORY, Settings
from nba_tasks.stack.errors import StackError
from nba_tasks.stack.postgres import EmbeddedServer, Server, external_server
from nba_tasks.stack.processes import Service, check_port, session_members, stop_all, tail
from nba_tasks.stack.secrets import Secrets, write_private

DATABASES = ("crm", "warehouse", "airflow", "mlflow", "hillstrom")
ADMIN = "admin"
LOCK = "lock"
DEPLOY = REPOSITORY / "deploy"
MLFLOW = ("sh", str(DEPLOY / "mlflow.sh"))
FREE_BYTES_NEEDED = 2 * 2**30
START_SECONDS = 240.0
# In the order in which they are asked to stop: nothing new is scheduled while the rest winds down.
PROGRAMS = ("scheduler", "triggerer", "dag-processor", "api-server", "migrate", "mlflow")

Report = Callable[[str], None]


@dataclass
class Stack:
    """The stack of one state folder.

    Parameters
    ----------
    settings : Settings
        State folder, ports, and where the server is if not embedded.
    report : callable
        Told one line for every phase.
    """

    settings: Settings
    report: Report = print

    @property
    def home(self) -> Path:
        return self.settings.home.absolute()

    @property
    def airflow_url(self) -> str:
        return f"http://127.0.0.1:{self.settings.airflow_port}"

    @property
    def mlflow_url(self) -> str:
        return f"http://127.0.0.1:{self.settings.mlflow_port}"

    @cached_property
    def secrets(self) -> Secrets:
        return Secrets.load_or_generate(self.home / "secrets.json")

    @cached_property
    def embedded(self) -> EmbeddedServer | None:
        return None if self.settings.postgres_url else EmbeddedServer(self.home / "postgres")

    def __post_init__(self) -> None:
        self.services: dict[str, Service] = {}

    def check_ports(self) -> None:
        """Refuse to start where another program holds a port; the error names it and the variable to set."""
        check_port(self.settings.airflow_port, "NBA_AIRFLOW_PORT", "Airflow")
        check_port(self.settings.mlflow_port, "NBA_MLFLOW_PORT", "MLflow")

    def start_database(self) -> Server:
        """Start the embedded server, or check the given one, and see that every database exists."""
        began = time.monotonic()
        server = self.embedded.start() if self.embedded else external_server(self.settings.postgres_url or "")
        server.ensure_databases(DATABASES)
        write_private(self.settings.running_stack, json.dumps(self.urls(server), indent=1))
        self.report(f"PostgreSQL answers ({time.monotonic() - began:.1f} s)")
        return server

    def start_programs(self, server: Server) -> None:
        """Start MLflow and Airflow and wait until they answer (all but the triggerer, which follows).

        Raises
        ------
        StackError
            A program ended or does not answer; it is named.
        """
        began = time.monotonic()
        environment = self.environment(server)
        self.services = {service.name: service for service in self._programs(environment)}
        self.services["mlflow"].start()
        self.migrate_airflow(server)
        self.report(f"Airflow's database is ready ({time.monotonic() - began:.1f} s)")
        for name in ("api-server", "scheduler", "dag-processor"):
            self.services[name].start()
        for name in ("mlflow", "api-server", "scheduler", "dag-processor"):
            self.services[name].wait_until_ready(START_SECONDS)
            self.report(f"{name} answers ({time.monotonic() - began:.1f} s)")
        self._log_in_to_mlflow()
        # Only parked tasks need the triggerer: it starts while the first DAG runs.
        self.services["triggerer"].start()

    def migrate_airflow(self, server: Server) -> None:
        """Bring Airflow's own tables up to date; skipped where this version did it before."""
        mark = f"migrated by Airflow {version('apache-airflow')}"
        engine = create_engine(server.database_url("airflow"), poolclass=NullPool)
        with engine.connect() as connection:
            found = connection.scalar(
                text("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()")
            )
        if found == mark:
            return
        migrate = self.services["migrate"]
        migrate.start()
        while (status := migrate.process.poll() if migrate.process else 1) is None:
            time.sleep(0.1)
        if status != 0:
            raise StackError(f"airflow db migrate failed; the end of {migrate.log}:\n{tail(migrate.log)}")
        migrate.pid_file.unlink(missing_ok=True)
        with engine.begin() as connection:
            connection.execute(text(f"COMMENT ON DATABASE airflow IS '{mark}'"))

    def _log_in_to_mlflow(self) -> None:
        """Raise where MLflow's database knows another password, as it does once the state folder was lost."""
        address = f"{self.mlflow_url}/api/2.0/mlflow/experiments/search?max_results=1"
        login = (ADMIN, self.secrets.mlflow_password)
        if httpx.get(address, auth=login, timeout=60, trust_env=False).status_code == 401:
            raise StackError(
                f"MLflow's database knows another password of {ADMIN} than {self.home / 'secrets.json'}: put the file "
                "of the first start back, or empty the database mlflow"
            )

    def check(self) -> None:
        """Raise where a program has ended by itself; the error names it and shows the end of its log."""
        for name, service in self.services.items():
            if name != "migrate":
                service.check()

    def urls(self, server: Server) -> dict[str, str]:
        """The variables through which the package finds this stack."""
        urls = {f"NBA_{name.upper()}_URL": server.database_url(name) for name in DATABASES}
        return urls | {
            "MLFLOW_TRACKING_URI": self.mlflow_url,
            "MLFLOW_TRACKING_USERNAME": ADMIN,
            "MLFLOW_TRACKING_PASSWORD": self.secrets.mlflow_password,
        }

    def environment(self, server: Server) -> dict[str, str]:
        """The environment of every program of the stack."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW_", "MLFLOW_", "NBA_"))}
        bin_folder = str(Path(sys.executable).parent)
        own = {
            "PATH": f"{bin_folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(DEPLOY / "airflow"), os.environ.get("PYTHONPATH")))),
            "PYTHONUNBUFFERED": "1",
            "NBA_HOME": str(self.home),
            "NBA_PROGRAMMES": str(self.settings.programmes.absolute()),
            "GX_ANALYTICS_ENABLED": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "DO_NOT_TRACK": "true",
            "no_proxy": "127.0.0.1,localhost",
            "NO_PROXY": "127.0.0.1,localhost",
        }
        airflow = airflow_settings(self.settings, self.home, self.airflow_url, self.secrets)
        # URLs hold passwords: they go into the environment, not into command lines that `ps` shows.
        airflow["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = server.database_url("airflow")
        mlflow = {
            "MLFLOW_BACKEND_STORE_URI": server.database_url("mlflow"),
            "MLFLOW_ARTIFACTS_DESTINATION": (self.home / "mlflow").as_uri(),
        }
        return inherited | own | mlflow | mlflow_login(self.home, self.secrets) | self.urls(server) | airflow

    def _programs(self, environment: Mapping[str, str]) -> Iterator[Service]:
        airflow = [sys.executable, "-m", "airflow"]
        mlflow = [*MLFLOW, "--workers", "1"]
        password_file = self.home / "airflow" / "passwords.json"
        password_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(password_file, json.dumps({ADMIN: self.secrets.admin_password}))
        commands: dict[str, tuple[list[str], Callable[[], bool]]] = {
            "migrate": ([*airflow, "db", "migrate"], lambda: True),
            "api-server": ([*airflow, "api-server"], self._health("metadatabase")),
            "scheduler": ([*airflow, "scheduler", "--skip-serve-logs"], self._health("scheduler")),
            "dag-processor": ([*airflow, "dag-processor"], self._health("dag_processor")),
            "triggerer": ([*airflow, "triggerer", "--skip-serve-logs"], self._health("triggerer")),
            "mlflow": (
                [*mlflow, "--host", "127.0.0.1", "--port", str(self.settings.mlflow_port)],
                lambda: _answers(f"{self.mlflow_url}/health") is not None,
            ),
        }
        for name, (command, ready) in commands.items():
            yield Service(name, command, environment, self.home, ready)

    def _health(self, component: str) -> Callable[[], bool]:
        def healthy() -> bool:
            answer = _answers(f"{self.airflow_url}/api/v2/monitor/health")
            return answer is not None and answer.json().get(component, {}).get("status") == "healthy"

        return healthy

    def stop(self) -> list[str]:
        """Stop every program that this state folder's stack started, also in an earlier life, then its server.

        Returns
        -------
        list of str
            What was running.
        """
        stopped = stop_all(self.home / "pids" / f"{name}.json" for name in PROGRAMS)
        for service in self.services.values():
            if service.process is not None:
                service.process.wait()
        if self.embedded and self.embedded.is_running():
            self.embedded.stop()
            stopped.append("postgres")
        self.settings.running_stack.unlink(missing_ok=True)
        return stopped

    def is_up(self) -> bool:
        """Whether any program of the stack runs."""
        return any(session_members(self.home / "pids" / f"{name}.json") for name in PROGRAMS)


def airflow_settings(settings: Settings, home: Path, url: str, secrets: Secrets) -> dict[str, str]:
    """Airflow's configuration as environment variables; the database's URL comes on top."""
    cores = os.cpu_count() or 2
    return {
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__DAGS_FOLDER": str(settings.dags_folder.absolute()),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": str(max(2, cores)),
        "AIRFLOW__CORE__FERNET_KEY": secrets.fernet_key,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ADMIN}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "airflow" / "passwords.json"),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": url.rsplit(":", 1)[1],
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__SECRET_KEY": secrets.api_secret_key,
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.jwt_secret,
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "5",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "airflow" / "logs"),
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
    }


def mlflow_login(home: Path, secrets: Secrets) -> dict[str, str]:
    """What `deploy/mlflow.sh` needs to ask for a log-in, as environment variables."""
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(home / "mlflow-users.ini"),
        "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN,
        "MLFLOW_AUTH_ADMIN_PASSWORD": secrets.mlflow_password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.mlflow_secret_key,
    }


@contextlib.contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold the state folder's lock; it falls when the process ends, however it ends.

    Raises
    ------
    StackError
        Another process holds it.
    """
    prepare_home(home)
    with (home / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(
                f"a stack already runs from {home}; stop it with Ctrl-C or `make down`, "
                "or set NBA_HOME to another folder"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def interrupt_owner(home: Path, patience: float = 60) -> None:
    """Ask the process that holds the state folder's lock, if any, to stop its stack, and wait for it.

    Raises
    ------
    StackError
        It does not stop in time.
    """
    if not (home / LOCK).exists():
        return
    deadline = time.monotonic() + patience
    asked = False
    with (home / LOCK).open() as file:
        while time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            owner = (home / LOCK).read_text().strip()
            if owner and not asked:
                os.kill(int(owner), signal.SIGTERM)
                asked = True
            time.sleep(0.1)
    raise StackError(f"process {owner}, which runs the stack of {home}, does not stop")


def prepare_home(home: Path, needed: int = FREE_BYTES_NEEDED) -> None:
    """Make the state folder and see that it can hold a demo, with `needed` bytes free.

    Raises
    ------
    StackError
        It cannot be written, or the disk is nearly full.
    """
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = home / ".probe"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise StackError(
            f"the state folder {home} cannot be written ({error.strerror}); set NBA_HOME to another folder"
        ) from error
    free = shutil.disk_usage(home).free
    if free < needed:
        raise StackError(
            f"only {free / 2**30:.1f} GB are free for {home}; {needed / 2**30:.0f} GB are needed: "
            "make room, or set NBA_HOME to a folder on another disk"
        )


def _answers(url: str) -> httpx.Response | None:
    try:
        answer = httpx.get(url, timeout=5, trust_env=False)
    except httpx.HTTPError:
        return None
    return answer if answer.status_code == 200 else None
