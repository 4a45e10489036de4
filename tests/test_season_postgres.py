"""A season's weeks through Postgres and the real steps give the lists of the fast path, customer by customer."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from bench.season_postgres import NUMBER, SETTING, compared, play
from nba_tasks.settings import settings
from tests.databases import TestServer
from tests.loop import connect

WEEKS = 5


def test_every_kind_of_difference_counts() -> None:
    """Another action, another probability, somebody left out, a list that is not what was decided, another verdict."""
    mine = pd.DataFrame({"customer": [1, 2, 3], "action": [0, 1, 2], "probability": [0.5, 0.2, 0.3]})
    theirs = mine.assign(sent=mine["action"])
    verdicts = ("DEFER", "DEFER")
    assert compared(0, verdicts, mine, theirs).same
    for listed in (
        theirs.assign(action=[0, 1, 1]),
        theirs.assign(probability=[0.5, 0.2, 0.3 + 1e-6]),
        theirs.iloc[:2],
        theirs.assign(sent=[0, 0, 2]),
    ):
        assert not compared(0, verdicts, mine, listed).same
    assert not compared(0, verdicts, mine.iloc[:2], theirs).same
    assert not compared(0, ("PROMOTE", "DEFER"), mine, theirs).same


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
