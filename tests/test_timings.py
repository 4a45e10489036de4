"""Each step that was carried to its end leaves a row that says what it took."""

from __future__ import annotations

import pytest

from nba_tasks.settings import settings
from nba_tasks.timings import Work, timed
from tests.databases import AS_OF, Databases, make_programme


def test_a_step_leaves_a_row_and_one_that_fails_does_not(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBA_WAREHOUSE_URL", databases.warehouse.url.render_as_string(hide_password=False))
    settings.cache_clear()
    programme = make_programme()
    with timed(programme, AS_OF, "transitions", shard=3) as work:
        work.rows = 12_000
    with pytest.raises(ZeroDivisionError), timed(programme, AS_OF, "publish"):
        raise ZeroDivisionError
    settings.cache_clear()
    kept = databases.rows("select programme, as_of, step, shard, rows, seconds from nba.timings")
    assert kept == [(programme.programme, AS_OF, "transitions", 3, 12_000, work.seconds)]
    assert work.seconds > 0


def test_work_says_what_it_took() -> None:
    assert str(Work(shard=3, rows=12_000, seconds=1.5)) == "shard 3: 12,000 rows in 1.5 s, 8,000 rows/s"
    assert str(Work()) == "0 rows in 0.0 s"
