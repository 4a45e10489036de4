"""A season's weeks through Postgres and the real steps give the lists of the fast path, customer by customer."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.season_postgres import NUMBER, SETTING, play
from nba_tasks.settings import settings
from tests.databases import TestServer
from tests.loop import connect

WEEKS = 5


@pytest.mark.slow
def test_both_ways_publish_the_same_lists(server: TestServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Week after week, over a promotion: a learned policy, then one mixed into it, writes the lists."""
    databases = server.databases()
    with databases.crm.begin() as connection:
        connection.exec_driver_sql("drop schema public cascade; create schema public")
    connect(databases, monkeypatch, tmp_path)
    found = list(play(databases.crm, databases.warehouse, SETTING, NUMBER, WEEKS))
    settings.cache_clear()
    assert [week.same for week in found] == [True] * WEEKS, found
    assert min(week.decisions for week in found) > 1_000
    assert [week.verdicts[0] for week in found[:2]] == ["PROMOTE", "PROMOTE"]
