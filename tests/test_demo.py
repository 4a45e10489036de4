"""The whole product as a person starts it: real Airflow, real Postgres, real MLflow, by `make demo-once`'s command."""

from __future__ import annotations

import datetime as dt
import os
import socket
import subprocess
import sys
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from nba_tasks import database
from nba_tasks.settings import REPOSITORY, settings
from nba_tasks.simulators import hillstrom
from nba_tasks.stack.services import Stack


def free_port() -> str:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def run_stack(home: Path, *arguments: str) -> str:
    """Run a command of the stack to its end; returns what it printed."""
    environment = os.environ | {
        "NBA_HOME": str(home),
        "NBA_AIRFLOW_PORT": free_port(),
        "NBA_MLFLOW_PORT": free_port(),
        "COLUMNS": "200",
    }
    done = subprocess.run(
        [sys.executable, "-m", "nba_tasks.stack", *arguments],
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.slow
def test_demo_once_leaves_a_promoted_policy_and_a_list(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path_factory.mktemp("demo")
    first = run_stack(home, "demo", "--once")
    assert "campaign_list for" in first
    again = run_stack(home, "demo", "--once")
    assert "using the customers made earlier today" in again
    monkeypatch.setenv("NBA_HOME", str(home))
    settings.cache_clear()
    stack = Stack(settings())
    server = stack.start_database()
    try:
        crm, warehouse = (database.engine(server.database_url(name)) for name in ("crm", "warehouse"))
        with crm.connect() as connection:

            def count(query: str) -> int:
                return int(connection.execute(sa.text(query)).scalar_one())

            decided = count("select count(*) from decisions where programme is not null")
            assert decided == count("select decisions from publications") > 1_000
            assert decided == count("select count(distinct customer_id) from decisions where programme is not null")
            assert (
                count(
                    "select count(*) from decisions where programme is not null"
                    " and abs((select sum(p) from unnest(probabilities) as p) - 1) > 1e-9"
                )
                == 0
            )
            listed = count("select count(*) from campaign_list")
            assert listed == count("select to_send from publications")
            assert listed == count(
                "select count(*) from decisions where programme is not null and action_id <> 'no_action'"
            )
            assert count("select count(*) from campaign_list where action_id = 'no_action'") == 0
            published = count("select policy_version from publications")
        with warehouse.connect() as connection:
            gate = connection.execute(sa.text("select * from nba.gates")).one()
            today = dt.datetime.now(ZoneInfo("Europe/Berlin")).date()
            due = connection.execute(
                sa.text("select count(*) from nba.scores where as_of = :today"), {"today": today}
            ).scalar_one()
        # Today's customers are new ones every day, so that a DEFER is possible; what follows from it is not.
        expected = ("approved", "auto_promote") if gate.verdict == "PROMOTE" else (None, None)
        assert (gate.decision, gate.decided_by) == expected
        served = gate.candidate_version if gate.verdict == "PROMOTE" else gate.incumbent_version
        assert published == served
        assert due == decided
    finally:
        stack.stop()


@pytest.mark.slow
def test_the_e_mail_test_runs_through_the_same_dags(tmp_path: Path) -> None:
    """A generated file of the published format; the estimates of "always one arm" are the arms' own means."""
    data = tmp_path / "generated.csv"
    hillstrom.generate(20_000, seed=3).to_csv(data, index=False)
    printed = run_stack(tmp_path / "home", "hillstrom", str(data))
    assert "what each arm earns" in printed
    assert any(f"{verdict}: version" in printed for verdict in ("PROMOTE", "DEFER", "REJECT"))
    lines = [line for line in printed.splitlines() if "mens_email" in line and "│" in line]
    assert len(lines) >= 6
    for line in lines:
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        estimate, lower, upper, mean = (float(cell) for cell in cells[3:7])
        assert estimate == pytest.approx(mean, rel=1e-3)
        assert lower < mean < upper
