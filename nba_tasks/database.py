"""Access to the databases: engines, statements from `sql/`, bulk copies and migrations."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import jinja2
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from nba_tasks.settings import settings

if TYPE_CHECKING:
    import pandas as pd

    from nba_tasks.programme import Programme

OTHERS_READ = ":%\\"
"""What SQLAlchemy, the driver or an escape string takes for something else than itself."""


@cache
def engine(url: str) -> Engine:
    """One engine per URL and process. Sessions speak UTC, so that timestamps read and compare alike everywhere."""
    return sa.create_engine(
        url,
        pool_pre_ping=True,
        connect_args={"options": "-c timezone=UTC -c intervalstyle=iso_8601", "application_name": "nba"},
    )


def warehouse() -> Engine:
    """The warehouse named by NBA_WAREHOUSE_URL."""
    return engine(settings().url("NBA_WAREHOUSE_URL"))


def crm(programme: Programme) -> Engine:
    """The programme's source database."""
    return engine(settings().url(programme.crm.url_variable))


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(settings().sql_folder),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["identifier"] = quote_identifier
    environment.filters["literal"] = quote_literal
    return environment


def quote_identifier(name: str) -> str:
    """A table's or column's name for a statement's text, each part between dots quoted."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))


def quote_literal(value: str) -> str:
    """A text constant for a statement's text, where a bound parameter cannot stand.

    Characters that SQLAlchemy or the driver would read as their own (`:name`, `%`, a backslash) are written by number.

    Raises
    ------
    ValueError
        The text holds a zero byte, which PostgreSQL cannot store.
    """
    if "\x00" in value:
        raise ValueError(f"{value!r} holds a zero byte, which PostgreSQL cannot store")
    quoted = value.replace("'", "''")
    if not any(character in quoted for character in OTHERS_READ):
        return f"'{quoted}'"
    return "E'" + "".join(f"\\{ord(c):03o}" if c in OTHERS_READ else c for c in quoted) + "'"


def statement(name: str, **names: Any) -> str:
    """The text of `sql/NAME.sql`. `names` fills in what cannot be a bound parameter: relations, columns, lists."""
    return _templates().get_template(f"{name}.sql").render(**names)


def execute(connection: Connection, name: str, parameters: dict[str, Any] | None = None, **names: Any) -> Any:
    """Run `sql/NAME.sql` with bound `parameters` (`:name` in the file)."""
    return connection.execute(sa.text(statement(name, **names)), parameters or {})


def frame(connection: Connection, query: str, parameters: dict[str, Any] | None = None) -> pd.DataFrame:
    """The rows of a query as a DataFrame."""
    import pandas as pd

    return pd.read_sql_query(sa.text(query), connection, params=parameters or {})


def copy_rows(source: Connection, query: str, target: Connection, table: str, columns: tuple[str, ...]) -> int:
    """Stream a query's rows into a table by COPY, from one database to another, through a file in memory or on disk.

    Returns
    -------
    int
        Rows copied.
    """
    into = f"copy {quote_identifier(table)} ({', '.join(map(quote_identifier, columns))}) from stdin"
    # Spooled: a small night stays in memory, ten million rows do not.
    with tempfile.SpooledTemporaryFile(max_size=64 * 2**20) as buffer:
        with _raw_cursor(source) as cursor:
            cursor.copy_expert(f"copy ({query}) to stdout", buffer)
        buffer.seek(0)
        with _raw_cursor(target) as cursor:
            cursor.copy_expert(into, buffer)
            return int(cursor.rowcount)


@contextmanager
def _raw_cursor(connection: Connection) -> Iterator[Any]:
    """The driver's own cursor inside the connection's transaction."""
    raw = connection.connection.driver_connection
    assert raw is not None
    with raw.cursor() as cursor:
        yield cursor


def lock(connection: Connection, *names: str, shared: bool = False) -> None:
    """Hold the advisory lock of that name until the transaction ends: two runs cannot do the same work at once.

    Parameters
    ----------
    shared : bool
        Wait only for those who hold it alone: for reading what they write.
    """
    key = int.from_bytes(hashlib.sha256("/".join(names).encode()).digest()[:8], "big", signed=True)
    function = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
    connection.execute(sa.text(f"select {function}(:key)"), {"key": key})


def migrate(target: Engine, revision: str = "head") -> None:
    """Bring the warehouse's schema to this version (or an earlier one), then replace its functions."""
    import alembic.command
    import alembic.config

    configuration = alembic.config.Config()
    configuration.set_main_option("script_location", "nba_tasks:migrations")
    with target.begin() as connection:
        lock(connection, "migrate")
        configuration.attributes["connection"] = connection
        alembic.command.upgrade(configuration, revision)
        connection.exec_driver_sql(statement("warehouse/functions").replace("%", "%%"))
