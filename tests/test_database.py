"""Statements: texts from a programme file or a catalogue reach the database as they are; and migrations."""

from __future__ import annotations

import datetime as dt

import pytest
import sqlalchemy as sa
from hypothesis import example, given
from hypothesis import strategies as st

from nba_tasks import database
from nba_tasks.settings import REPOSITORY
from tests.databases import TestServer

# PostgreSQL's text is UTF-8 without the zero byte.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(text=TEXTS)
@example(text="a:b :c ::d \\:e")
@example(text="100% %s %(x)s %%")
@example(text="it's \\ E'\\072' \\\\n \n")
def test_a_literal_reads_back_as_itself(server: TestServer, text: str) -> None:
    """By each way that a statement takes: with and without bound parameters, and straight to the driver."""
    query = f"select {database.quote_literal(text)}::text, 1::int"
    with database.engine(server.url.render_as_string(hide_password=False)).connect() as connection:
        assert connection.execute(sa.text(query)).one() == (text, 1)
        assert connection.execute(sa.text(f"{query} where 1 = :one"), {"one": 1}).one() == (text, 1)
        assert connection.exec_driver_sql(query.replace("%", "%%")).one() == (text, 1)
        assert connection.exec_driver_sql(query.replace("%", "%%"), {}).one() == (text, 1)


@given(text=TEXTS)
def test_a_literal_survives_copy(server: TestServer, text: str) -> None:
    with database.engine(server.url.render_as_string(hide_password=False)).begin() as connection:
        connection.exec_driver_sql("create temporary table copied (text text) on commit drop")
        query = f"select {database.quote_literal(text)}::text"
        assert database.copy_rows(connection, query, connection, "copied", ("text",)) == 1
        assert connection.exec_driver_sql("select text from copied").scalar_one() == text


NUMBERS = {
    "1": 1, "-2.5": -2.5, "+.5": 0.5, "5.": 5, "007": 7, "1e3": 1000, "1.5E-2": 0.015,
    "true": 1, "T": 1, "No": 0, "off": 0, "0." + "0" * 40 + "1": 0, "1e-400": 0, "0" * 40 + "3": 3,
    "9" * 30: 1e30, "9" * 31: 1e31, "0." + "3" * 28: 1 / 3, "0." + "3" * 29: 1 / 3,
    "9" * 60: None, "1e39": None, "1e400": None, ".": None, "-": None, "": None, " 1": None, "1.2.3": None,
    "--1": None, "1,5": None, "nan": None, "infinity": None, "yes!": None, "0x10": None,
}  # fmt: skip


def test_texts_are_read_as_numbers_or_as_none(server: TestServer) -> None:
    """Short ones, long ones, those that a real cannot hold, and what looks like a number and is none."""
    query = sa.text("select nba.number(t) from unnest(cast(:texts as text[])) with ordinality as u (t, n) order by n")
    with server.databases().warehouse.connect() as connection:
        found = connection.scalars(query, {"texts": list(NUMBERS)}).all()
    for (text, number), read in zip(NUMBERS.items(), found, strict=True):
        assert (read is None) == (number is None), text
        assert read is None or read == pytest.approx(number, rel=1e-6), text


def test_an_older_warehouse_keeps_its_rows(server: TestServer) -> None:
    """A version that was known from a date becomes one that was seen at that date's start."""
    warehouse = server.empty()
    database.migrate(warehouse, "0001")
    with warehouse.begin() as connection:
        connection.exec_driver_sql(
            """
            insert into nba.programmes (programme, interval_days, anchor, business_timezone, stagger, salt)
                values ('shop', 7, '2024-01-01', 'Europe/Berlin', true, '1');
            insert into nba.batches (batch_id, programme_id, as_of) values (1, 1, '2024-03-01');
            insert into history.customers values (1, 1, 'c1', 0, 0, 'l', 's', 1);
            insert into history.customer_versions (customer_key, known_from, created_at, attributes, batch_id)
                values (1, '2024-03-01', '2024-01-01', '{}', 1);
            insert into history.actions values (1, 1, 'mail');
            insert into history.action_versions (programme_id, action, known_from, cost, features, batch_id)
                values (1, 1, '2024-03-01', 0.5, '{}', 1)
            """
        )
    for _ in range(2):
        database.migrate(warehouse)
    with warehouse.connect() as connection:
        for table in ("customer_versions", "action_versions"):
            seen = connection.exec_driver_sql(f"select seen_at from history.{table}").scalar_one()
            assert seen == dt.datetime(2024, 2, 29, 23, tzinfo=dt.UTC)


def test_migrations_are_one_chain() -> None:
    """Each follows the one before, and is named after the statements that it runs."""
    files = sorted((REPOSITORY / "nba_tasks" / "migrations" / "versions").glob("v*.py"))
    scripts = sorted((REPOSITORY / "sql" / "warehouse").glob("0*.sql"))
    assert [file.stem.removeprefix("v") for file in files] == [script.stem for script in scripts]
    for number, file in enumerate(files, 1):
        text = file.read_text(encoding="utf-8")
        before = f'"{number - 1:04}"' if number > 1 else "None"
        assert f'revision = "{number:04}"\ndown_revision = {before}\n' in text, file.name
        assert f'statement("warehouse/{scripts[number - 1].stem}")' in text
