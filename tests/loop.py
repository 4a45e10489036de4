"""A small sales-channel installation on real databases: what the tests of the later steps stand on."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Engine

from nba_tasks import transitions
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
    server: TestServer, programme: Programme, simulator: str = "sales_channels", as_of: dt.date = AS_OF
) -> Installation:
    """A fresh installation with a simulated CRM whose history is pulled and merged."""
    databases = server.databases()
    with databases.crm.begin() as connection:
        # The simulator makes the contract's relations itself, with its own feature columns.
        connection.exec_driver_sql("drop schema public cascade; create schema public")
    simulate_to_crm(simulator, databases.crm, as_of, CUSTOMERS, SEED)
    valid_night(databases, programme, as_of)
    return Installation(databases, programme, as_of)


def connect(made: Installation, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let the steps find these databases, and an MLflow store of the test's own (real, without a server)."""
    url = {"hide_password": False}
    monkeypatch.setenv("NBA_CRM_URL", made.crm.url.render_as_string(**url))
    monkeypatch.setenv("NBA_WAREHOUSE_URL", made.warehouse.url.render_as_string(**url))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    monkeypatch.setenv("NBA_HOME", str(folder))
    monkeypatch.chdir(folder)  # without a server MLflow keeps artefacts in the working directory
    settings.cache_clear()
