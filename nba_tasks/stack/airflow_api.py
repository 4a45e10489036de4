"""A small client for Airflow's REST API: start DAG runs, watch them, and follow the runs that their assets start."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from nba_tasks.stack.errors import StackError

ENDED = ("success", "failed")
POLL_SECONDS = 1.0


class RunFailed(StackError):
    """A DAG run failed; the message names the tasks and shows the end of their logs."""


@dataclass(frozen=True)
class TaskState:
    """One task instance of a run."""

    task_id: str
    map_index: int
    state: str
    try_number: int

    @property
    def name(self) -> str:
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"


@dataclass(frozen=True)
class Run:
    """One DAG run as it was when asked."""

    dag_id: str
    run_id: str
    state: str
    tasks: tuple[TaskState, ...] = field(default=())

    def summary(self) -> str:
        """The tasks in words: `pull ✓  validate ✓  transitions 12/32  learn …`."""
        by_task: dict[str, list[TaskState]] = {}
        for task in self.tasks:
            by_task.setdefault(task.task_id, []).append(task)
        return "  ".join(_in_words(name, instances) for name, instances in by_task.items())


def _in_words(name: str, instances: list[TaskState]) -> str:
    states = Counter(instance.state for instance in instances)
    if len(instances) > 1 and set(states) != {"success"}:
        bad = states["failed"] + states["upstream_failed"]
        return f"{name} {states['success']}/{len(instances)}" + (f" ({bad} failed)" if bad else "")
    mark = {"success": "✓", "failed": "✗", "upstream_failed": "–", "skipped": "skipped", "none": "·", "running": "…"}
    state = instances[0].state
    return f"{name} {mark.get(state, state)}"


class AirflowClient:
    """Airflow's REST API as one user.

    Parameters
    ----------
    url : str
        Of the API server, without a path.
    user, password : str
        Of a user who may start DAGs.

    Raises
    ------
    StackError
        The server does not answer, or refuses the user.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30, trust_env=False)
        answer = self._call("POST", "/auth/token", json={"username": user, "password": password})
        self.token: str = answer["access_token"]
        self._http.headers["Authorization"] = f"Bearer {self.token}"

    def unpause(self, dag_id: str, patience: float = 60) -> None:
        """Let a DAG run; waits until it is known.

        Raises
        ------
        StackError
            The DAG does not appear; the message holds the import errors.
        """
        deadline = time.monotonic() + patience
        while not self._exists(dag_id):
            if time.monotonic() > deadline:
                raise StackError(f"Airflow does not know the DAG {dag_id}. {self._import_errors()}")
            time.sleep(POLL_SECONDS)
        self._call("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": False})

    def trigger(self, dag_id: str, conf: Mapping[str, Any]) -> Run:
        """Start a run by hand with these parameters."""
        body = {"logical_date": None, "conf": dict(conf)}
        answer = self._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)
        return Run(dag_id, answer["dag_run_id"], answer["state"])

    def look(self, run: Run) -> Run:
        """The run as it is now, with its tasks in the order in which they started."""
        path = f"/api/v2/dags/{run.dag_id}/dagRuns/{run.run_id}"
        state = self._call("GET", path)["state"]
        instances = self._all(f"{path}/taskInstances", "task_instances")
        instances.sort(key=lambda t: (t["start_date"] is None, t["start_date"] or "", t["map_index"]))
        tasks = tuple(TaskState(t["task_id"], t["map_index"], t["state"] or "none", t["try_number"]) for t in instances)
        return Run(run.dag_id, run.run_id, state, tasks)

    def wait(self, run: Run, watch: Callable[[Run], None], seconds: float = 3600) -> Run:
        """Watch a run until it ends.

        Parameters
        ----------
        watch : callable
            Told the run's state at every look.
        seconds : float
            How long to wait at most.

        Raises
        ------
        RunFailed
            The run failed, or did not end in time.
        """
        deadline = time.monotonic() + seconds
        while True:
            run = self.look(run)
            watch(run)
            if run.state == "failed":
                raise RunFailed(self.why_failed(run))
            if run.state in ENDED:
                return run
            if time.monotonic() > deadline:
                raise RunFailed(f"{run.dag_id} did not end within {seconds:.0f} s: {run.summary()}")
            time.sleep(POLL_SECONDS)

    def started_by(self, run: Run, dag_id: str, patience: float = 60) -> Run | None:
        """The run of `dag_id` that an asset of an ended run started; None where the run published no asset.

        Raises
        ------
        StackError
            An asset was published, but no such run appears.
        """
        deadline = time.monotonic() + patience
        while True:
            query = {"source_dag_id": run.dag_id, "source_run_id": run.run_id}
            events = self._call("GET", "/api/v2/assets/events", params=query)["asset_events"]
            if not events:
                return None
            for created in (started for event in events for started in event["created_dagruns"]):
                if created["dag_id"] == dag_id:
                    return Run(dag_id, created["run_id"], created["state"])
            if time.monotonic() > deadline:
                raise StackError(f"{run.dag_id} published an asset, but it did not start {dag_id}; is it paused?")
            time.sleep(POLL_SECONDS)

    def why_failed(self, run: Run, lines: int = 15) -> str:
        """The failed tasks of a run, each with the end of its log."""
        failed = [task for task in run.tasks if task.state == "failed"]
        parts = [f"{run.dag_id} failed ({run.run_id})"]
        parts += [f"--- {task.name}, the end of its log:\n{self.log(run, task, lines)}" for task in failed[:3]]
        return "\n".join(parts)

    def log(self, run: Run, task: TaskState, lines: int) -> str:
        """The last lines of a task's log."""
        path = f"/api/v2/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task.task_id}/logs/{task.try_number}"
        answer = self._call("GET", path, params={"map_index": task.map_index, "full_content": True})
        said: list[str] = []
        for entry in answer["content"]:
            if isinstance(entry, str):
                said += entry.splitlines()
                continue
            if entry.get("logger") == "py.warnings":
                continue
            said += str(entry.get("event", "")).splitlines()
            for error in entry.get("error_detail") or []:
                said.append(f"{error.get('exc_type')}: {error.get('exc_value')}")
        told = [line for line in said if not line.startswith("::")]  # fold marks of the log viewer
        return "\n".join(told[-lines:])

    def _exists(self, dag_id: str) -> bool:
        return self._http.get(f"/api/v2/dags/{dag_id}").status_code == httpx.codes.OK

    def _import_errors(self) -> str:
        errors = self._call("GET", "/api/v2/importErrors")["import_errors"]
        if not errors:
            return "No DAG file reports an error."
        return "\n".join(f"{e['filename']}: {e['stack_trace']}" for e in errors)

    def _all(self, path: str, key: str) -> list[dict[str, Any]]:
        """Every page of a list."""
        rows: list[dict[str, Any]] = []
        while True:
            page = self._call("GET", path, params={"limit": 100, "offset": len(rows)})
            rows += page[key]
            if not page[key] or len(rows) >= page["total_entries"]:
                return rows

    def _call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        try:
            answer = self._http.request(method, path, **request)
        except httpx.HTTPError as error:
            raise StackError(f"Airflow at {self._http.base_url} does not answer: {error}") from error
        if answer.is_error:
            raise StackError(f"Airflow refused {method} {path} ({answer.status_code}): {answer.text[:500]}")
        content: dict[str, Any] = answer.json()
        return content
