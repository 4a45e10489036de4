"""The DAGs: they import, quickly and lightly, and what must come before what does."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nba_tasks.settings import REPOSITORY

DAGS = ("contact_history", "policy_training", "gate_what_if", "promotion_review", "nightly_actions", "outcomes")
PROGRAMMES = ("hillstrom", "sales_channels")
HEAVY = ("sklearn", "scipy", "pandas", "mlflow", "great_expectations", "skops", "matplotlib")


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The parsed DAG files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_HOME", str(tmp_path_factory.mktemp("airflow")))
        patch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "false")
        from airflow.dag_processing.dagbag import DagBag

        yield DagBag(dag_folder=str(REPOSITORY / "dags"), bundle_path=REPOSITORY / "dags")


def upstream(dag: Any, task_id: str) -> set[str]:
    """Every task that must end before this one starts."""
    return set(dag.get_task(task_id).get_flat_relative_ids(upstream=True))


def test_every_programme_has_its_dags(bag: Any) -> None:
    assert bag.import_errors == {}
    assert set(bag.dags) == {f"{programme}.{dag}" for programme in PROGRAMMES for dag in DAGS}


@pytest.mark.parametrize("programme", PROGRAMMES)
def test_what_must_come_first_comes_first(bag: Any, programme: str) -> None:
    dags = {name: bag.dags[f"{programme}.{name}"] for name in DAGS}
    assert upstream(dags["contact_history"], "merge") == {"pull", "validate"}
    assert {"plan", "transitions", "learn"} <= upstream(dags["policy_training"], "gate")
    assert "transitions" in upstream(dags["policy_training"], "learn")
    assert {"report", "route", "ask"} <= upstream(dags["promotion_review"], "promote")
    assert {"plan", "score"} <= upstream(dags["nightly_actions"], "publish")
    assert upstream(dags["nightly_actions"], "expire") >= {"plan", "score", "publish"}
    assert dags["nightly_actions"].get_task("expire").trigger_rule == "one_failed"
    assert {"plan", "transitions"} <= upstream(dags["outcomes"], "look")
    assert {"look", "demotion"} <= upstream(dags["outcomes"], "demote")
    assert dags["outcomes"].get_task("demote").trigger_dag_id == f"{programme}.promotion_review"


def test_only_the_review_can_move_the_champion() -> None:
    """No other step, and no DAG, calls `registry.promote`."""
    callers = [
        path.relative_to(REPOSITORY).as_posix()
        for folder in ("dags", "nba_tasks")
        for path in (REPOSITORY / folder).rglob("*.py")
        if "registry.promote(" in path.read_text(encoding="utf-8")
    ]
    assert callers == ["nba_tasks/review.py"]


def test_two_runs_cannot_fight_and_everything_is_explained(bag: Any) -> None:
    for dag in bag.dags.values():
        assert dag.doc_md
        assert "next best action" in dag.tags
        assert all(param.description or param.schema.get("description_md") for param in _params(dag)), dag.dag_id
        if not dag.dag_id.endswith("promotion_review"):
            assert dag.max_active_runs == 1
            assert "as_of" in dag.params or "gate_id" in dag.params


def _params(dag: Any) -> list[Any]:
    return [dag.params.get_param(name) for name in dag.params]


def test_a_what_if_asks_for_what_can_be_asked_and_starts_nothing(bag: Any) -> None:
    from nba_tasks.what_if import THRESHOLDS

    for programme in PROGRAMMES:
        dag = bag.dags[f"{programme}.gate_what_if"]
        assert set(dag.params) == {"gate_id", *THRESHOLDS}
        assert not any(task.outlets for task in dag.tasks)


def test_tasks_lead_to_what_they_made(bag: Any) -> None:
    def names(dag: str, task: str) -> list[str]:
        return [link.name for link in bag.dags[f"sales_channels.{dag}"].get_task(task).operator_extra_links]

    assert names("policy_training", "gate") == ["Gate", "MLflow run"]
    assert names("promotion_review", "ask") == ["Gate", "MLflow run"]
    assert names("nightly_actions", "publish") == ["Action list"]


def test_the_assets_chain_the_dags(bag: Any) -> None:
    def starts(dag_id: str) -> str:
        return repr(bag.dags[dag_id].timetable.asset_condition)

    for programme in PROGRAMMES:
        assert f"nba://{programme}/history" in starts(f"{programme}.policy_training")
        assert f"nba://{programme}/history" in starts(f"{programme}.nightly_actions")
        assert f"nba://{programme}/gate" in starts(f"{programme}.promotion_review")


def test_parsing_imports_nothing_heavy_and_is_quick(tmp_path: Path) -> None:
    """The scheduler parses these files over and over; what a task needs is imported when it runs."""
    code = f"""
import sys, time
import airflow.sdk, airflow.providers.standard.operators.hitl
before = set(sys.modules)
sys.path.insert(0, {str(REPOSITORY / "dags")!r})
began = time.process_time()
import {", ".join(DAGS)}
print(time.process_time() - began)
print(*sorted({{name.split(".")[0] for name in set(sys.modules) - before}} & set({HEAVY!r})))
"""
    environment = {"PATH": "/usr/bin:/bin", "AIRFLOW_HOME": str(tmp_path), "HOME": str(tmp_path)}
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert time.monotonic() - began < 120
    seconds, heavy = done.stdout.split("\n")[-3:-1]
    assert heavy == ""
    assert float(seconds) < 20
