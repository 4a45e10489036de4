"""Long-running programs: each in a session of its own, with a log and a pid file, and stopped with all it started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from nba_tasks.stack.errors import StackError

TAIL_LINES = 25


@dataclass
class Service:
    """A program that runs until it is stopped.

    Parameters
    ----------
    name : str
        Names the log and the pid file.
    command : sequence of str
    environment : mapping
        The whole environment of the process.
    folder : Path
        State folder; holds `logs/` and `pids/`.
    ready : callable, optional
        Whether the program answers; without one, it is ready once it runs.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    ready: Callable[[], bool] = lambda: True
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def log(self) -> Path:
        return self.folder / "logs" / f"{self.name}.log"

    @property
    def pid_file(self) -> Path:
        return self.folder / "pids" / f"{self.name}.json"

    def start(self) -> None:
        """Start the program; its output goes to the log, which starts anew."""
        for path in (self.log, self.pid_file):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command,
                env=dict(self.environment),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        remember(self.process.pid, self.pid_file)

    def check(self) -> None:
        """Raise where the program has ended by itself.

        Raises
        ------
        StackError
            With the name, the exit status and the end of the log.
        """
        if self.process is not None and (status := self.process.poll()) is not None:
            raise StackError(f"{self.name} ended with status {status}; the end of {self.log}:\n{tail(self.log)}")

    def wait_until_ready(self, seconds: float) -> None:
        """Wait until the program answers.

        Raises
        ------
        StackError
            It ended, or does not answer in time.
        """
        deadline = time.monotonic() + seconds
        while not self.ready():
            self.check()
            if time.monotonic() > deadline:
                raise StackError(
                    f"{self.name} did not answer within {seconds:.0f} s; the end of {self.log}:\n{tail(self.log)}"
                )
            time.sleep(0.2)


def remember(pid: int, pid_file: Path) -> None:
    """Write down a session leader so that it can be told from a later process with the same number."""
    written = pid_file.with_suffix(".new")
    written.write_text(json.dumps({"pid": pid, "created": psutil.Process(pid).create_time()}))
    written.replace(pid_file)


def stop_all(pid_files: Iterable[Path], patience: float = 10.0) -> list[str]:
    """Stop the remembered programs with everything in their sessions, politely at first; forget the pid files.

    Parameters
    ----------
    pid_files : iterable of Path
        In the order in which to ask.
    patience : float
        Seconds after which what still runs is killed.

    Returns
    -------
    list of str
        Names of the programs that were running.
    """
    members = {path: session_members(path) for path in pid_files}
    asked = [process for group in members.values() for process in group]
    for process in asked:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)
    _, stubborn = psutil.wait_procs(asked, timeout=patience)
    late = [process for path in members for process in session_members(path) if process not in stubborn]
    for process in [*stubborn, *late]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs([*stubborn, *late], timeout=5)
    for path in members:
        path.unlink(missing_ok=True)
    return [path.stem for path, group in members.items() if group]


def session_members(pid_file: Path) -> list[psutil.Process]:
    """The running processes of a remembered program: its session (children that outlived it too) and descendants."""
    try:
        note = json.loads(pid_file.read_text())
        leader_pid, created = int(note["pid"]), float(note["created"])
    except (OSError, ValueError, KeyError):
        return []
    found: dict[int, psutil.Process] = {}
    with contextlib.suppress(psutil.NoSuchProcess):
        leader = psutil.Process(leader_pid)
        if abs(leader.create_time() - created) > 1:
            return []  # the number was reused, so nothing of the session is left
        found |= {child.pid: child for child in [leader, *leader.children(recursive=True)]}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == leader_pid and process.create_time() >= created - 1:
                found.setdefault(process.pid, process)
    return [process for process in found.values() if _alive(process)]


def _alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def check_port(port: int, variable: str, what: str) -> None:
    """Refuse a port that another program holds.

    Raises
    ------
    StackError
        Names the port and the variable to set.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise StackError(
                f"port {port}, meant for {what}, cannot be used ({error.strerror}): "
                f"stop the program that holds it, or choose another port, for example {variable}={port + 1000}"
            ) from error


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return "(no log)"
