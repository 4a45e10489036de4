"""The role of a server of one's own: it can do every step of a night, and nothing besides."""

from __future__ import annotations

import os
import subprocess

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from nba_tasks import contract, database, publish
from nba_tasks.settings import REPOSITORY
from nba_tasks.stack.postgres import Server, binaries, throw_away_server
from tests.databases import CONTRACT, Databases, make_programme, valid_night


def psql(server: Server, name: str, file: str, *options: str) -> None:
    """Run one of the scripts as its comment says."""
    done = subprocess.run(
        [binaries() / "psql", "--no-psqlrc", "--quiet", "--dbname", name, *options, "--file", REPOSITORY / file],
        env=os.environ | {"PGHOST": str(server.url.query["host"]), "PGUSER": "postgres"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_role_can_do_a_night_and_no_more() -> None:
    programme = make_programme()
    with throw_away_server(["crm"]) as server:
        owner = database.engine(server.database_url("crm"))
        with owner.begin() as connection:
            connection.exec_driver_sql(CONTRACT.replace("%", "%%"))
            connection.exec_driver_sql("create table salaries (name text, salary integer)")
        as_role = server.url.set(username="nba")
        crm, warehouse = (
            database.engine(as_role.set(database=name).render_as_string(hide_password=False))
            for name in ("crm", "warehouse")
        )
        for _ in range(2):
            psql(server, "postgres", "deploy/role.sql", "--set", "password=it's own")
        assert "Run as its owner: grant select on customers to nba" in str(contract.check(crm, programme))
        for _ in range(2):
            psql(server, "crm", "sql/crm/rights.sql", "--set", "role=nba")
        assert not [finding for finding in contract.check(crm, programme) if finding.level == "error"]
        database.migrate(warehouse)
        assert valid_night(Databases(crm, warehouse), programme).added["customers"] == 100
        with crm.begin() as connection:
            publish.ensure_tables(connection, programme)
        with owner.begin() as connection:
            connection.exec_driver_sql("revoke create on schema public from nba")
        with crm.begin() as connection:
            publish.ensure_tables(connection, programme)
            connection.exec_driver_sql(
                """
                insert into decisions (decision_id, customer_id, decided_at, action_id, eligible_actions, probabilities)
                    values ('new', 'c1', now(), 'mail', '{mail}', '{1}');
                insert into publications values ('shop', '2024-03-01', 1, 'a run', now(), 1, 1, now());
                insert into campaign_list values ('new', 'shop', '2024-03-01', 'c1', 'mail', 'email', 1, 1, 'why', 1)
                """
            )
        assert publish.expire(crm, programme, programme.grid.anchor.replace(year=2025), "the night failed") == 1
        for forbidden in (
            "update customers set age = 1",
            "delete from decisions",
            "update decisions set action_id = 'call'",
            "select * from salaries",
            "drop table contacts",
            "create table mine (x integer)",
            "create role another",
            "create database another",
        ):
            with (
                pytest.raises(ProgrammingError, match=r"permission denied|must be owner"),
                crm.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
            ):
                connection.execute(text(forbidden))
        for engine in (owner, crm, warehouse):
            engine.dispose()
