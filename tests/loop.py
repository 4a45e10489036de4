"""A small sales-channel installation on real databases: what the tests of the later steps stand on."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Engine

from nba_tasks import ledger, publish, registry, score, steps, train, transitions, trial
from nba_tasks.batches import read_batch
from nba_tasks.loading import Loaded, Split, load
from nba_tasks.programme import Programme, read_programme
from nba_tasks.settings import REPOSITORY, settings
from nba_tasks.shape import Shape
from nba_tasks.simulators.crm import simulate_to_crm
from tests.databases import Databases, TestServer, valid_night

AS_OF = dt.date(2026, 6, 3)
CUSTOMERS = 1_500
SEED = 7
GATE = {"horizon": 2, "min_effective_size": 100, "harm_min_events": 0, "min_power": 0.01, "select_headroom": 1}
"""Thresholds that 1,500 customers can meet: here it is about the machinery; tests/gate is about the statistics."""


def sales_channels(**changes: Any) -> Programme:
    """The shipped programme, sized for tests."""
    shipped = read_programme(REPOSITORY / "dags" / "programmes" / "sales_channels.yaml")
    small = {
        "shards": 3,
        "learning": {"discount": 0.95, "trees": 10, "min_samples_leaf": 20, "max_sweeps": 30},
        "review": {},
        "publish": {},
    }
    return Programme.model_validate(shipped.model_dump() | small | changes)


@dataclass
class Installation:
    """Databases with a pulled history."""

    databases: Databases
    programme: Programme
    as_of: dt.date = AS_OF

    @property
    def warehouse(self) -> Engine:
        return self.databases.warehouse

    @property
    def crm(self) -> Engine:
        return self.databases.crm

    def build(self) -> None:
        """Build all transitions."""
        for shard in transitions.prepare(self.warehouse, self.programme, self.as_of):
            transitions.build_shard(self.warehouse, self.programme, self.as_of, shard)

    def shape(self) -> Shape:
        """The programme's shape."""
        with self.warehouse.connect() as connection:
            return transitions.shape_of(connection, self.programme, read_batch(connection, self.programme, self.as_of))

    def load(self, split: Split) -> Loaded:
        """One split's transitions."""
        with self.warehouse.connect() as connection:
            return load(connection, self.shape(), split)


def install(
    server: TestServer,
    programme: Programme,
    simulator: str = "sales_channels",
    as_of: dt.date = AS_OF,
    before_pull: str | None = None,
) -> Installation:
    """A fresh installation with a simulated CRM, changed by the statement `before_pull`; its history is merged."""
    databases = server.databases()
    with databases.crm.begin() as connection:
        # The simulator makes the contract's relations itself, with its own feature columns.
        connection.exec_driver_sql("drop schema public cascade; create schema public")
    simulate_to_crm(simulator, databases.crm, as_of, CUSTOMERS, SEED)
    if before_pull:
        databases.run(before_pull)
    valid_night(databases, programme, as_of)
    return Installation(databases, programme, as_of)


def connect(made: Installation | Databases, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let the steps find these databases, and an MLflow store of the test's own (real, without a server)."""
    url = {"hide_password": False}
    monkeypatch.setenv("NBA_CRM_URL", made.crm.url.render_as_string(**url))
    monkeypatch.setenv("NBA_WAREHOUSE_URL", made.warehouse.url.render_as_string(**url))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    monkeypatch.setenv("NBA_HOME", str(folder))
    monkeypatch.chdir(folder)  # without a server MLflow keeps artefacts in the working directory
    settings.cache_clear()


@pytest.fixture(scope="session")
def trained_once(server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Installation, Path]:
    """An installation whose gate was held, and version 0 registered; and its folder."""
    made = install(server, sales_channels(gate=GATE))
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        connect(made, patch, folder)
        for shard in steps.plan_training(made.programme, AS_OF):
            steps.build_transitions(made.programme, AS_OF, shard)
        run = train.learn(made.programme, AS_OF)
        gate_id = trial.hold(made.programme, AS_OF, run)
        assert trial.hold(made.programme, AS_OF, run) == gate_id, "a retried gate keeps its row"
    settings.cache_clear()
    return made, folder


@pytest.fixture(scope="module")
def trained(trained_once: tuple[Installation, Path]) -> Iterator[Installation]:
    """That installation, found by the steps. A test leaves it as it was."""
    made, folder = trained_once
    with pytest.MonkeyPatch.context() as patch:
        connect(made, patch, folder)
        yield made
    settings.cache_clear()


@pytest.fixture
def night(trained: Installation) -> Callable[..., publish.Publication]:
    """Score and publish with version 0, into a CRM without publications; whatever other tests scored is gone."""
    with trained.warehouse.begin() as connection:
        connection.exec_driver_sql("delete from nba.lists; delete from nba.scored_shards; delete from nba.scores")
    with trained.crm.begin() as connection:
        publish.ensure_tables(connection, trained.programme)
        connection.exec_driver_sql("delete from campaign_list; delete from decisions where programme is not null")
        connection.exec_driver_sql("delete from publications")
    version = registry.version_of(trained.programme, "version_0")
    assert version is not None
    serve = score.serving(trained.programme, version)

    def run(today: dt.date = AS_OF, *, scored: bool = False, **options: Any) -> publish.Publication:
        for shard in [] if scored else range(trained.programme.shards):
            score.score_shard(trained.warehouse, trained.programme, AS_OF, shard, serve)
        return publish.publish(
            trained.crm, trained.warehouse, trained.programme, AS_OF, serve, "a run", today=today, **options
        )

    return run


@pytest.fixture
def versions(trained: Installation) -> Iterator[tuple[int, int]]:
    """Version 0 and the candidate; the registry and the ledger are put back after the test."""
    gate = ledger.last_gate(trained.warehouse, "sales_channels")
    assert gate is not None
    yield gate["incumbent_version"], gate["candidate_version"]
    for alias in ("champion", "previous"):
        if registry.version_of(trained.programme, alias) is not None:
            registry.client().delete_registered_model_alias("sales_channels", alias)
    with trained.warehouse.begin() as connection:
        connection.exec_driver_sql(f"delete from nba.gates where gate_id <> {gate['gate_id']}")
        connection.exec_driver_sql("update nba.gates set decision = null, decided_by = null, decided_at = null")
