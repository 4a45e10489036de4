"""The oldest supported PostgreSQL, from Debian's binaries."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from nba_tasks.database import migrate
from nba_tasks.settings import REPOSITORY
from nba_tasks.stack.postgres import OLDEST_VERSION, throw_away_server

PROGRAMS = Path(f"/usr/lib/postgresql/{OLDEST_VERSION}/bin")


@pytest.mark.slow
@pytest.mark.skipif(not PROGRAMS.exists(), reason=f"Debian's postgresql-{OLDEST_VERSION} is not installed")
def test_contract_and_warehouse_on_the_oldest_version() -> None:
    with throw_away_server(["crm", "warehouse"], programs=PROGRAMS) as server:
        server.check_version()
        with create_engine(server.database_url("crm"), poolclass=NullPool).begin() as crm:
            assert str(crm.scalar(text("SHOW server_version"))).startswith(f"{OLDEST_VERSION}.")
            crm.exec_driver_sql((REPOSITORY / "sql" / "crm" / "contract.sql").read_text().replace("%", "%%"))
        warehouse = create_engine(server.database_url("warehouse"), poolclass=NullPool)
        migrate(warehouse)
        migrate(warehouse)
        with warehouse.connect() as connection:
            assert connection.scalar(text("SELECT count(*) FROM information_schema.schemata WHERE schema_name = 'nba'"))
