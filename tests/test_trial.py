"""A gate held on real stores: what stands in the ledger, in MLflow and in the registry."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest

from nba_tasks import ledger, policy_store, registry, train
from nba_tasks.dataset import FloatArray
from nba_tasks.gate import MixChoice, judge
from nba_tasks.gate.exhibits import Exhibits
from nba_tasks.gate.schema import checked
from nba_tasks.learners.baselines import no_contact
from nba_tasks.policy import PolicyError, ServedPolicy
from nba_tasks.trial import Held
from tests.gate.cases import SMALL, make_sample
from tests.gate.exhibits.test_collection import HALF_BETTER
from tests.loop import AS_OF, Installation
from tests.tiny_mdp import by_row


def test_the_gate_is_in_the_ledger_and_in_mlflow(trained: Installation) -> None:
    gate = ledger.last_gate(trained.warehouse, "sales_channels")
    assert gate is not None
    assert gate["verdict"] in {"PROMOTE", "DEFER", "REJECT"}
    assert gate["propensities"] == "logged"
    assert gate["windows"] > 1_000
    assert gate["lower_bound"] < gate["delta"] < gate["upper_bound"]
    assert trained.databases.rows("select count(*) from nba.gates") == [(1,)]
    assert registry.version_of(trained.programme, "challenger") == gate["candidate_version"]
    assert registry.version_of(trained.programme, "champion") is None
    run = registry.client().get_run(gate["mlflow_run_id"])
    assert run.data.tags["batch_id"] == "1"
    assert run.data.params["discount"] == "0.95"
    assert run.data.metrics["delta"] == pytest.approx(gate["delta"])
    assert len(registry.client().get_metric_history(run.info.run_id, "bellman_residual")) > 3
    found = {Path(file.path).name for file in registry.client().list_artifacts(run.info.run_id, "gate")}
    report = checked(gate["report"])
    assert report["links"] == {"mlflow_run_id": gate["mlflow_run_id"], "dag_run_id": None}
    policies = [one["policy"] for one in report["policies"]]
    assert policies[:6] == [
        "candidate", "incumbent", "learned policy, unmixed", "myopic look-alike", "look-alike on long-run value",
        "behaviour cloning",
    ]  # fmt: skip
    assert policies[-2:] == ["no contact", "as logged"]
    assert {one["action_id"] for one in report["action_mix"]} == set(trained.shape().catalogue().ids)
    assert {s["label"] for s in report["segments"] if s["feature"] == "segment"} >= {"dormant", "regular"}
    assert found >= {"report.json", "report.md", "values.png", "segments.png", "state_map.png", "calibration.png"}


def test_the_registered_model_is_the_policy_that_was_judged(trained: Installation, tmp_path: Path) -> None:
    """MLflow's own loader (models-from-code, pickles off), the store's loader and the arrays agree."""
    gate = ledger.last_gate(trained.warehouse, "sales_channels")
    assert gate is not None
    stored = registry.load(trained.programme, gate["candidate_version"])
    assert isinstance(stored.policy, ServedPolicy)
    assert stored.policy.mix == gate["mix"]
    data = trained.load("gate").transitions
    mine = stored.probabilities(data.state, data.eligible_target)
    import pandas as pd

    frame = pd.DataFrame(data.state, columns=list(stored.features))
    frame["eligible"] = (data.eligible_target * (1 << np.arange(data.n_actions))).sum(axis=1)
    model = mlflow.pyfunc.load_model(f"models:/sales_channels/{gate['candidate_version']}")
    np.testing.assert_allclose(model.predict(frame).to_numpy(), mine, atol=1e-12)
    policy_store.save(stored, tmp_path / "again")
    again = policy_store.load(tmp_path / "again").probabilities(data.state, data.eligible_target)
    np.testing.assert_array_equal(again, mine)
    q = stored.values(data.state, data.n_actions)
    first, second = q.argmax(axis=1), q.argmin(axis=1)
    np.testing.assert_allclose(stored.lead(data.state, first, second), q.max(axis=1) - q.min(axis=1), atol=1e-4)
    np.testing.assert_allclose(mine.sum(axis=1), 1, atol=1e-12)
    assert (mine[~data.eligible_target] == 0).all()


def test_a_process_that_scores_opens_a_version_once(trained: Installation, versions: tuple[int, int]) -> None:
    _, candidate = versions
    first = registry.load_once(trained.programme, candidate)
    assert registry.load_once(trained.programme, candidate) is first
    assert registry.load(trained.programme, candidate) is not first


def test_a_changed_state_is_refused_until_the_programme_restarts(
    trained: Installation, versions: tuple[int, int]
) -> None:
    content = trained.programme.model_dump()
    changed = type(trained.programme).model_validate(content | {"state": content["state"][:4]})
    with pytest.raises(PolicyError, match="nba restart"):
        train.learn(changed, AS_OF)
    assert set(registry.restart(changed)) == {"challenger", "version_0"}
    assert registry.incumbent(changed) is None
    registry.name(trained.programme, "version_0", versions[0])
    registry.name(trained.programme, "challenger", versions[1])


def test_no_pickle_is_ever_written(trained: Installation) -> None:
    folder = Path(os.environ["NBA_HOME"])
    assert shutil.disk_usage(folder)
    suffixes = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert suffixes & {".skops", ".npy"}
    assert not suffixes & {".pkl", ".pickle", ".joblib"}


class Flat:
    """Values every action alike."""

    def values(self, state: FloatArray) -> FloatArray:
        return np.zeros((len(state), 2), dtype=np.float32)


def test_a_gate_that_was_not_opened_says_why() -> None:
    """The verdict's own reasons are for information only; those of the choice stood in the way."""
    sample, log = make_sample(200)
    verdict = judge(sample, by_row(HALF_BETTER, log), SMALL, bootstrap_replicates=20)
    policy = ServedPolicy(no_contact(), Flat(), no_contact(), support=0.0, mix=0.2, epsilon=0.0)
    choice = MixChoice(None, (), ("at λ = 0.2 the gate would pass it too seldom",))
    content = Held(policy, choice, verdict, opened=False, lost_customer_value=0.0, exhibits=Exhibits()).to_dict(2, 1)
    assert content["verdict"] == "DEFER"
    assert content["reasons"] == ["at λ = 0.2 the gate would pass it too seldom"]
