"""The demo: a simulated CRM, the DAGs through Airflow's own scheduler, and what came out of them."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markdown import Markdown
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text
from sqlalchemy import text
from sqlalchemy.engine import Engine

from nba_tasks.database import engine, migrate
from nba_tasks.programme import Programme
from nba_tasks.stack.airflow_api import AirflowClient, Run
from nba_tasks.stack.errors import StackError
from nba_tasks.stack.services import ADMIN, Stack

PREVIEW_ROWS = 10

Fill = Callable[[Engine], tuple[dt.date, str]]
"""Fills a programme's CRM; returns the date to decide for, and what it did in words."""


@dataclass(frozen=True)
class SimulatedCrm:
    """Fills the CRM with simulated customers, unless an earlier demo did.

    Parameters
    ----------
    programme : Programme
        One whose name a simulator bears.
    customers, seed : int
    """

    programme: Programme
    customers: int
    seed: int

    def __call__(self, crm: Engine) -> tuple[dt.date, str]:
        from nba_tasks.simulators.crm import simulate_to_crm

        began = time.monotonic()
        name = self.programme.programme
        today = dt.datetime.now(self.programme.grid.zone).date()
        mark = f"demo {name}: {self.customers} customers, seed {self.seed}, until "
        found = database_comment(crm)
        if found is None:
            simulate_to_crm(name, crm, as_of=today, customers=self.customers, seed=self.seed)
            with crm.begin() as connection:
                connection.execute(text(f"COMMENT ON DATABASE crm IS '{mark}{today}'"))
            return today, f"{self.customers:,} customers simulated ({time.monotonic() - began:.1f} s)"
        if not found.startswith(mark):
            raise StackError(f"the CRM holds another demo's data ({found}); `make clean` forgets them")
        if found != f"{mark}{today}":
            return today, f"using the customers made until {found.removeprefix(mark)}; `make clean` forgets them"
        return today, "using the customers made earlier today"


@dataclass(frozen=True)
class HillstromCrm:
    """Fills the Hillstrom database from the published file.

    Parameters
    ----------
    data : Path
        CSV file, may be compressed.
    """

    data: Path

    def __call__(self, crm: Engine) -> tuple[dt.date, str]:
        from nba_tasks.simulators.hillstrom import load

        return load(crm, self.data), f"{self.data} loaded"


def run_demo(stack: Stack, console: Console, programme: Programme, fill: Fill) -> dt.date:
    """From nothing to an action list, and print it.

    Parameters
    ----------
    stack : Stack
        Not yet started.
    programme : Programme
    fill : callable
        Fills the programme's CRM while Airflow starts; returns the date to decide for, and what it did in words.

    Returns
    -------
    date
        The date that was decided for.

    Raises
    ------
    StackError
        A step failed; the message names it and shows the end of its log.
    """
    began = time.monotonic()
    console.print(f"[bold]{programme.programme}[/]: starting; logs are in {stack.home / 'logs'}")
    server = stack.start_database()
    warehouse = engine(server.database_url("warehouse"))
    crm = engine(stack.urls(server)[programme.crm.url_variable])
    pool = ThreadPoolExecutor(max_workers=1)
    try:
        filled = pool.submit(prepare_data, warehouse, crm, fill)
        stack.start_programs(server)
        as_of, done = filled.result()
    finally:
        pool.shutdown(wait=False)  # Ctrl-C does not wait for the simulation
    console.print(f"  {done}")
    client = AirflowClient(stack.airflow_url, ADMIN, stack.secrets.admin_password)
    run_dags(client, console, programme.programme, as_of)
    show_results(console, warehouse, crm, programme, as_of)
    console.print(f"\nall of it took {time.monotonic() - began:.0f} s\n")
    show_addresses(console, stack)
    return as_of


def prepare_data(warehouse: Engine, crm: Engine, fill: Fill) -> tuple[dt.date, str]:
    """Bring the warehouse's tables up to date and fill the CRM."""
    migrate(warehouse)
    return fill(crm)


def database_comment(database: Engine) -> str | None:
    """The comment on a database, which says what filled it."""
    query = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
    with database.connect() as connection:
        found: str | None = connection.scalar(text(query))
    return found


def run_dags(client: AirflowClient, console: Console, programme: str, as_of: dt.date) -> None:
    """The whole loop through Airflow: one DAG by hand, two by assets, then tonight's actions."""
    names = ("contact_history", "policy_training", "promotion_review", "nightly_actions")
    history, training, review, nightly = (f"{programme}.{name}" for name in names)
    for dag_id in (history, training, review):
        client.unpause(dag_id)
    run = follow(client, console, client.trigger(history, {"as_of": str(as_of)}))
    for dag_id in (training, review):
        started = client.started_by(run, dag_id)
        if started is None:
            console.print(f"  {dag_id} has no reason to run again")
            break
        run = follow(client, console, started)
    client.unpause(nightly)  # not earlier: the history's asset would start it before there is a champion
    follow(client, console, client.trigger(nightly, {"as_of": str(as_of)}))


def follow(client: AirflowClient, console: Console, run: Run) -> Run:
    """Show a run until it ends."""
    with progress(console, run.dag_id) as watch:
        return client.wait(run, watch)


@contextmanager
def progress(console: Console, title: str) -> Iterator[Any]:
    """A line that moves while a DAG runs; in a log, a line for every change."""
    began = time.monotonic()
    if console.is_terminal:
        spinner = Spinner("dots", text=title)
        with Live(Group(spinner), console=console, refresh_per_second=8) as live:
            last = ""

            def animate(run: Run) -> None:
                nonlocal last
                last = f"{title}  {time.monotonic() - began:.0f} s  {run.summary()}"
                spinner.update(text=last)
                if run.state == "success":
                    live.update(Text(f"✓ {last}"))

            yield animate
        return
    seen = ""

    def write(run: Run) -> None:
        nonlocal seen
        if run.summary() != seen or run.state == "success":
            seen = run.summary()
            mark = "✓" if run.state == "success" else " "
            console.print(f"{mark} {title}  {time.monotonic() - began:.0f} s  {seen}", markup=False, soft_wrap=True)

    yield write


def show_results(console: Console, warehouse: Engine, crm: Engine, programme: Programme, as_of: dt.date) -> None:
    """Print the gate's verdict and the head of tonight's list.

    Raises
    ------
    StackError
        The ledger holds no gate.
    """
    from nba_tasks.ledger import last_gate
    from nba_tasks.publish import preview
    from nba_tasks.report import review_body

    gate = last_gate(warehouse, programme.programme)
    if not gate:
        raise StackError(f"the ledger holds no gate of {programme.programme}")
    console.print(Markdown(review_body(gate["report"], programme.grid.interval_days)))
    console.print(f"decision: {gate['decision'] or 'none'}, by {gate['decided_by'] or 'nobody'}\n")
    rows = preview(crm, programme, as_of, PREVIEW_ROWS)
    console.print(_as_table(f"campaign_list for {as_of}, first rows", rows) if rows else f"no list for {as_of}")


def show_arms(console: Console, warehouse: Engine, programme: Programme, as_of: dt.date) -> None:
    """Print what importance sampling says of every arm of the e-mail test, beside what randomisation says."""
    from nba_tasks.batches import read_batch
    from nba_tasks.loading import load
    from nba_tasks.simulators.hillstrom import PUBLISHED_CUSTOMERS, check_arms
    from nba_tasks.transitions import shape_of

    with warehouse.connect() as connection:
        shape = shape_of(connection, programme, read_batch(connection, programme, as_of))
        judging = load(connection, shape, "gate").transitions
        customers = connection.scalar(
            text(
                "select count(*) from history.customers join nba.programmes using (programme_id) where programme = :p"
            ),
            {"p": programme.programme},
        )
    published = customers == PUBLISHED_CUSTOMERS
    rows = [vars(check) for check in check_arms(judging, shape.catalogue(), published)]
    console.print(_as_table("what each arm earns: estimated from the log, and as randomised (gate's customers)", rows))


def show_addresses(console: Console, stack: Stack) -> None:
    """Print where to look further."""
    console.print(f"Airflow     {stack.airflow_url}   user {ADMIN}   password {stack.secrets.admin_password}")
    console.print(f"MLflow      {stack.mlflow_url}   user {ADMIN}   password {stack.secrets.mlflow_password}")
    console.print("SQL prompt  .venv/bin/nba sql crm      (or warehouse)")


def _as_table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(*rows[0], title=title, title_justify="left")
    for row in rows:
        table.add_row(*map(_shown, row.values()))
    return table


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value))
    return str(value)
