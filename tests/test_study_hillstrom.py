"""The study of the e-mail test, on a generated file of the same format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import study_hillstrom as study
from bench.replicates import Record
from nba_tasks.dataset import Transitions
from nba_tasks.simulators import hillstrom


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hillstrom") / "generated.csv"
    hillstrom.generate(12_000, seed=1).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def log(file: Path) -> Transitions:
    return study.customers(file)


def test_a_row_is_a_randomised_customer(log: Transitions) -> None:
    log.check()
    data = hillstrom.generate(12_000, seed=1)
    assert log.reward.sum() == pytest.approx(data["spend"].sum())
    assert log.outcomes[:, 0].sum() == data["visit"].sum()
    assert (log.action == data["segment"].map(dict(zip(hillstrom.SEGMENTS, range(3), strict=True)))).all()
    assert log.done.all()
    assert not log.lost.any()


def test_thinning_gives_the_team_s_probabilities_and_leaves_customers_as_they_are(log: Transitions) -> None:
    """Shares among those who are left within 5 standard errors: a false alarm in 10⁵ (the seed is fixed)."""
    thinned = study.leave_out(log, np.random.default_rng(2))
    chance = study.biased(thinned.state)
    assert chance.sum(axis=1) == pytest.approx(1)
    assert (thinned.propensity == chance[np.arange(len(thinned)), thinned.action]).all()
    taken = np.eye(3)[thinned.action]
    spread = np.sqrt((chance * (1 - chance)).sum(axis=0))
    assert (np.abs((taken - chance).sum(axis=0)) < 5 * spread).all()
    assert (chance.std(axis=0) > 0.05).all(), "it is no randomised log"
    columns = (log.state[:, :4].mean(axis=0), thinned.state[:, :4].mean(axis=0))
    error = log.state[:, :4].std(axis=0) / np.sqrt(len(thinned))
    assert (np.abs(columns[0] - columns[1]) < 5 * error).all()


def test_always_one_arm_is_the_arm_s_mean(log: Transitions) -> None:
    learned = np.full((len(log), 3), 1 / 3)
    for arm, name in enumerate(("always none", "always mens", "always womens")):
        policy = study.policies_of(log, learned)[name]
        found = study.estimates(log, "visit", policy, np.zeros((len(log), 3)))
        mean = log.outcomes[log.action == arm, 0].mean()
        assert found["WIS"].value == pytest.approx(mean)
        assert found["WDR"].value == pytest.approx(mean), "without a model it is WIS"
        assert found["DR"].value == pytest.approx(found["IS"].value)
        assert found["IS"].value == pytest.approx(3 * (log.outcomes[:, 0] * (log.action == arm)).mean())


def test_policies_share_a_probability_of_one(log: Transitions) -> None:
    policies = study.policies_of(log, study.policies_of(log, np.full((len(log), 3), 1 / 3))["by interest"])
    assert set(policies) == set(study.POLICIES)
    for policy in policies.values():
        assert policy.sum(axis=1) == pytest.approx(1)
    assert policies["learned, a quarter"][:, 0] == pytest.approx(0.25)


def test_the_gate_refuses_wrong_propensities(log: Transitions) -> None:
    thinned = study.leave_out(log, np.random.default_rng(3))
    assert study.refused(replace(thinned, propensity=np.full(len(thinned), 1 / 3)))
    assert not study.refused(thinned)


def test_a_split_records_every_estimate(file: Path) -> None:
    record = study.play_split(file, 5, 0)
    count = len(study.OBJECTIVES) * len(study.LOGS) * len(study.POLICIES) * 5
    assert len(record["estimates"]) == count
    assert np.isfinite(list(record["estimates"].values())).all()
    wrong, right = (abs(record["estimates"][f"visit|{log}|always none|IS"][0]) for log in ("wrong", "biased"))
    assert wrong > right
    rows = list(study.table([record]))
    assert len(rows) == 2 + len(study.OBJECTIVES) * len(study.LOGS) * 5
    assert len(list(study.table_of_policies([record]))) == 2 + len(study.OBJECTIVES) * len(study.POLICIES) * 4


def test_targets() -> None:
    def record(covered: float, refused: bool) -> Record:
        pairs = {f"visit|{log}|uniform|IS": [0.0, covered] for log in study.LOGS}
        return {"estimates": pairs | {"visit|biased|uniform|DM": [1.0, 0.0]}, "refused": refused, "accused": False}

    def short(records: list[Record]) -> set[str]:
        return {target.name for target in study.targets(records) if not target.holds}

    assert not short([record(1.0, True)] * 10)
    assert short([record(float(i < 8), i < 9) for i in range(10)]) == {
        "hillstrom_covered_least", "hillstrom_wrong_refused",
    }  # fmt: skip
