"""MLflow: one experiment and one registered model per programme, and the aliases that say which policy is in use.

Aliases: `version_0` (business as usual), `challenger` (judged last), `champion` (in use), `previous` (for rollback).
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nba_tasks.programme import Programme
from nba_tasks.settings import settings

if TYPE_CHECKING:
    import mlflow

    from nba_tasks.policy_store import StoredPolicy

log = logging.getLogger("nba_tasks")

Alias = Literal["version_0", "challenger", "champion", "previous"]

os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


class RegistryError(RuntimeError):
    """A policy version that does not exist or cannot be moved to; the message says what to do."""


def client() -> mlflow.MlflowClient:
    """A client of the tracking server, logged in as the environment or the running stack says."""
    import mlflow

    if login := settings().mlflow_login:
        os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"] = login
    mlflow.set_tracking_uri(settings().mlflow_tracking_uri)
    return mlflow.MlflowClient()


@contextmanager
def run(programme: Programme, name: str, tags: dict[str, str], run_id: str | None = None) -> Iterator[str]:
    """A tracking run of the programme's experiment, new or (by id) gone on with; yields its id."""
    import mlflow

    client()
    mlflow.set_experiment(f"nba/{programme.programme}")
    with mlflow.start_run(run_id=run_id, run_name=name if run_id is None else None, tags=tags) as active:
        yield active.info.run_id


def fetch(run_id: str, path: str, into: Path) -> Path:
    """Download a folder of a run's artefacts."""
    import mlflow

    client()
    return Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path, dst_path=str(into)))


def register(programme: Programme, stored: StoredPolicy, role: str) -> int:
    """Log a policy to the active run and register it as the model's next version; once per run and role.

    Parameters
    ----------
    role : str
        What the policy is, in words that differ wherever the policy of a run does.
    """
    import mlflow

    from nba_tasks import policy_store

    active = mlflow.active_run()
    assert active is not None
    for known in client().search_model_versions(f"name = '{programme.programme}' and run_id = '{active.info.run_id}'"):
        if known.tags.get("role") == role:
            return int(known.version)  # an earlier try of the task came this far

    with tempfile.TemporaryDirectory() as folder:
        policy_store.save(stored, Path(folder) / "policy")
        logged = mlflow.pyfunc.log_model(
            name="policy",
            python_model=str(Path(__file__).with_name("served_model.py")),
            artifacts={"policy": str(Path(folder) / "policy")},
            pip_requirements=["nba-tasks"],
        )
        version = mlflow.register_model(
            logged.model_uri, programme.programme, tags={"role": role}, await_registration_for=0
        )
    return int(version.version)


def version_of(programme: Programme, alias: Alias) -> int | None:
    """The version that an alias names, None where there is none."""
    from mlflow.exceptions import MlflowException

    try:
        return int(client().get_model_version_by_alias(programme.programme, alias).version)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def name(programme: Programme, alias: Alias, version: int) -> None:
    """Let an alias name a version."""
    client().set_registered_model_alias(programme.programme, alias, str(version))


def load(programme: Programme, version: int) -> StoredPolicy:
    """The policy of a version."""
    client()
    return _load(settings().mlflow_tracking_uri, programme.programme, version)


def load_once(programme: Programme, version: int) -> StoredPolicy:
    """The same, opened once in a process that scores shard after shard: versions never change."""
    client()
    return _loaded(settings().mlflow_tracking_uri, programme.programme, version)


def _load(tracking_uri: str, programme: str, version: int) -> StoredPolicy:
    import mlflow

    from nba_tasks import policy_store

    with tempfile.TemporaryDirectory() as folder:
        model = mlflow.artifacts.download_artifacts(
            artifact_uri=f"models:/{programme}/{version}", dst_path=folder, tracking_uri=tracking_uri
        )
        found = sorted(Path(model).rglob("policy.json"), key=lambda path: len(path.parts))
        if not found:
            raise RegistryError(f"version {version} of {programme} holds no policy")
        return policy_store.load(found[0].parent)


_loaded = lru_cache(maxsize=4)(_load)  # what a night serves, with the policy before and version 0


def incumbent(programme: Programme) -> int | None:
    """The version to beat: the champion, or version 0 before the first promotion."""
    return version_of(programme, "champion") or version_of(programme, "version_0")


def promote(programme: Programme, version: int, *, instead_of: int) -> None:
    """Make a version the champion and remember the incumbent; repeated, it ends the same. Only the review calls this.

    Parameters
    ----------
    instead_of : int
        The incumbent: the champion before, or version 0, so that the first champion can be taken back as well.
    """
    # Champion first: cut off in between, `previous` still names what it did.
    name(programme, "champion", version)
    name(programme, "previous", instead_of)


def rollback(programme: Programme) -> tuple[int, int]:
    """Put the previous champion back.

    Returns
    -------
    tuple of int
        The version taken out of use and the one that is champion again.

    Raises
    ------
    RegistryError
        There is no champion, or nothing before it.
    """
    from mlflow.exceptions import MlflowException

    current, before = version_of(programme, "champion"), version_of(programme, "previous")
    if current is None or before is None or before == current:
        raise RegistryError(f"{programme.programme} has no earlier champion to go back to")
    name(programme, "champion", before)
    try:
        client().delete_registered_model_alias(programme.programme, "previous")
    except MlflowException:  # a `previous` that is the champion counts as none, so that it may stay
        log.warning("%s: the alias previous still names version %s", programme.programme, before)
    return current, before


def restart(programme: Programme) -> list[Alias]:
    """Take every policy out of use; the next training begins with a new version 0. Versions and reports stay.

    Returns
    -------
    list of str
        The aliases that were taken away.
    """
    aliases: tuple[Alias, ...] = ("champion", "previous", "challenger", "version_0")
    found = [alias for alias in aliases if version_of(programme, alias) is not None]
    for alias in found:
        client().delete_registered_model_alias(programme.programme, alias)
    return found


def log_parameters(values: dict[str, Any]) -> None:
    """Parameters of the active run."""
    import mlflow

    mlflow.log_params(values)


def log_series(key: str, values: Sequence[float]) -> None:
    """A metric of the active run, step by step from 1."""
    import mlflow
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [Metric(key, value, now, step) for step, value in enumerate(values, 1)]
    active = mlflow.active_run()
    assert active is not None
    client().log_batch(active.info.run_id, metrics=metrics)


def log_figures(values: dict[str, float]) -> None:
    """Metrics of the active run."""
    import mlflow

    mlflow.log_metrics(values)


def log_folder(folder: Path, path: str) -> None:
    """Files of the active run."""
    import mlflow

    mlflow.log_artifacts(str(folder), path)


def log_report(content: dict[str, Any], text: str, figures: dict[str, bytes]) -> None:
    """A gate's report on the active run: for machines, for people, and its pictures (PNG)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "report.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
        (folder / "report.md").write_text(text, encoding="utf-8")
        for picture, png in figures.items():
            (folder / f"{picture}.png").write_bytes(png)
        log_folder(folder, "gate")
