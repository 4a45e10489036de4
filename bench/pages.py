"""How long the pages take to answer with years of gates and a week of 1.9 million decisions behind them.

    make bench-pages

A stack of its own is started (PostgreSQL, MLflow, Airflow), its databases are filled set-wise, and every page is asked
for several times over loopback by a logged-in person: the time until the answer is there, the stack idling beside.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from bench import pages_fill
from bench.report_pictures import report_of
from bench.targets import Target, conclude
from nba_tasks import database
from nba_tasks.programme import Programme, read_programme
from nba_tasks.report import Report
from nba_tasks.settings import REPOSITORY, Settings
from nba_tasks.simulators.crm import create_contract
from nba_tasks.stack.airflow_api import AirflowClient
from nba_tasks.stack.services import ADMIN, Stack, only_one

MILLISECONDS = 300.0
WAITING, DECIDED = pages_fill.GATES - 1, pages_fill.GATES - 30
"""A gate that a person can be asked about, and one that was decided long ago."""


def places(programme: str, today: dt.date) -> dict[str, str]:
    """What is asked for, by the name that its figure has."""
    gates, night = f"/nba/gates?programme={programme}", f"/nba/lists/{programme}/{today}"
    return {
        "gates": "/nba/gates",
        "gates_last_page": f"{gates}&page={pages_fill.GATES // 25}",
        "gates_waiting": f"{gates}&verdict=PROMOTE&decision=waiting",
        "gate": f"/nba/gates/{WAITING}",
        "gate_decided": f"/nba/gates/{DECIDED}",
        "gate_file": f"/nba/gates/{DECIDED}/report.html",
        "lists": "/nba/lists",
        "lists_last_page": f"/nba/lists?page={pages_fill.LISTS // 25}",
        "list": night,
        "list_last_page": f"{night}?page=20",
        "customer": f"/nba/customers/{programme}?id=C1",
        "customer_never_seen_before": f"/nba/customers/{programme}?id=C{pages_fill.DECISIONS}",
        "policies": f"/nba/policies/{programme}",
        "policies_last_page": f"/nba/policies/{programme}?page={pages_fill.GATES // 25}",
        "run": f"/nba/runs/{programme}.policy_training/manual__{DECIDED}",
    }


def summary_of(report: Report) -> dict[str, Any]:
    """A night's summary with the programme's own actions and segments."""
    counts = {"decisions": 271_428, "to_send": 135_714, "expected_value": 1.2}
    return counts | {
        "explored": 0.05,
        "value_over_no_action": 0.2,
        "arms": [{"arm": arm, **counts} for arm in ("business as usual", "holdout", "served")],
        "actions": [
            {"action_id": row["action_id"], "channel": "email", "chances": 1e4, "allowed": 2e5, **counts}
            for row in report["action_mix"]
        ],
        "segments": [
            {"feature": row["feature"], "label": row["label"], **counts} for row in report["segments"]
        ],
        "limits": [],
    }  # fmt: skip


def ask(stack: Stack, paths: dict[str, str], times: int) -> Iterator[tuple[str, list[float], int]]:
    """Every page's times in milliseconds, slowest last, and its bytes."""
    token = AirflowClient(stack.airflow_url, ADMIN, stack.secrets.admin_password).token
    with httpx.Client(base_url=stack.airflow_url, cookies={"_token": token}, timeout=60, trust_env=False) as client:
        for path in paths.values():  # the first request of a kind imports and compiles
            answer = client.get(path)
            if answer.status_code != httpx.codes.OK:
                raise RuntimeError(f"{path}: {answer.status_code} {answer.text[-300:]}")
        for name, path in paths.items():
            took = []
            for _ in range(times):
                began = time.perf_counter()
                size = len(client.get(path).content)
                took.append(1000 * (time.perf_counter() - began))
            yield name, sorted(took), size


def measure(stack: Stack, programme: Programme, times: int) -> list[tuple[str, list[float], int]]:
    """Start, fill, ask."""
    server = stack.start_database()
    urls = stack.urls(server)
    warehouse, crm = (database.engine(urls[name]) for name in ("NBA_WAREHOUSE_URL", "NBA_CRM_URL"))
    database.migrate(warehouse)
    create_contract(crm, {})
    began = time.perf_counter()
    night = pages_fill.newest_night(warehouse)  # of an earlier run that was cut short behind the filling
    if night is None:
        night = dt.datetime.now(programme.grid.zone).date()
        report = report_of(customers=3000, seed=1)
        pages_fill.fill(warehouse, crm, programme, report, summary_of(report), night)
    print(
        f"{pages_fill.GATES:,} gates, {pages_fill.DECISIONS:,} decisions: {time.perf_counter() - began:.0f} s to fill"
    )
    stack.start_programs(server)
    return list(ask(stack, places(programme.programme, night), times))


def table(found: list[tuple[str, list[float], int]]) -> str:
    """The times as Markdown."""
    lines = ["| page | fastest ms | median ms | worst ms | kB |", "|---|---|---|---|---|"]
    for name, took, size in found:
        figures = (took[0], statistics.median(took), took[-1], size / 1000)
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(f'{figure:.0f}' for figure in figures)} |")
    return "\n".join(lines)


def keep(folder: Path, said: str, promised: Sequence[Target]) -> None:
    """Write the dated record."""
    folder.mkdir(parents=True, exist_ok=True)
    today = dt.date.today()
    lines = "\n".join(map(str, promised))
    title = f"# The pages, {today}\n\n`make bench-pages`, on {os.cpu_count()} cores."
    (folder / f"{today}-pages.md").write_text(f"{title}\n\n{said}\n\n```text\n{lines}\n```\n", encoding="utf-8")


def main(
    times: Annotated[int, typer.Option(min=1, help="requests of every page")] = 20,
    folder: Annotated[Path, typer.Option(help="holds the stack while it runs")] = Path(".nba/bench-pages"),
    record: Annotated[Path | None, typer.Option(help="folder of the dated record")] = Path("docs/benchmarks"),
) -> None:
    """Fill, ask and tell; exits 1 where a page's median is too slow."""
    programme = read_programme(REPOSITORY / "dags" / "programmes" / "sales_channels.yaml")
    ports = Settings()
    stack = Stack(Settings(home=folder.resolve(), airflow_port=ports.airflow_port, mlflow_port=ports.mlflow_port))
    with only_one(stack.home):
        try:
            stack.check_ports()
            found = measure(stack, programme, times)
        finally:
            stack.stop()
    shutil.rmtree(stack.home)
    promised = [
        Target(f"pages_{name}_ms", statistics.median(took), MILLISECONDS, at_most=True) for name, took, _ in found
    ]
    said = (
        f"{table(found)}\n\nEach page {times} times, with {pages_fill.GATES:,} gates, {pages_fill.LISTS:,} nights with "
        f"a list and {pages_fill.DECISIONS:,} decisions; as many scores, customers, contacts and events. The machine's "
        f"load was {os.getloadavg()[0]:.0f}."
    )
    print(said)
    if record:
        keep(record, said, promised)
    conclude(promised)


if __name__ == "__main__":
    typer.run(main)
