"""Databases of a bench's own: an embedded server, a CRM and a warehouse, and an MLflow store in one folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nba_tasks.settings import settings
from nba_tasks.stack.postgres import EmbeddedServer


@contextmanager
def installation(folder: Path) -> Iterator[EmbeddedServer]:
    """Start the server, and let the product's steps find its databases until the block ends; the data stays."""
    here, before, embedded = Path.cwd(), dict(os.environ), EmbeddedServer(folder / "pg")
    server = embedded.start()
    try:
        server.ensure_databases(["crm", "warehouse"])
        os.environ |= {
            "NBA_CRM_URL": server.database_url("crm"),
            "NBA_WAREHOUSE_URL": server.database_url("warehouse"),
            "NBA_HOME": str(folder),
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        }
        os.chdir(folder)  # without a server MLflow keeps artefacts in the working directory
        settings.cache_clear()
        yield embedded
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ |= before
        settings.cache_clear()
        embedded.stop()
