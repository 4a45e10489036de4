"""Columns to a database and back: every number and every text comes back as it was."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from nba_tasks import bulk
from tests.databases import TestServer

TEXTS = st.text(st.characters(blacklist_characters="\x00", blacklist_categories=["Cs"]), max_size=6)


def as_real(value: float | None) -> np.float32 | None:
    """What PostgreSQL's `real` holds: Python writes the same number with more digits."""
    return None if value is None else np.float32(value)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    rows=st.lists(
        st.tuples(
            st.none() | TEXTS,
            st.lists(st.none() | st.floats(width=32, allow_nan=False), min_size=3, max_size=3),
            st.lists(st.booleans(), min_size=3, max_size=3),
        ),
        max_size=8,
    ),
    names=st.lists(TEXTS.filter(bool), min_size=3, max_size=3, unique=True),
)
def test_what_is_written_is_read_back(
    server: TestServer, rows: list[tuple[str | None, list[float | None], list[bool]]], names: list[str]
) -> None:
    numbers = np.array([[np.nan if x is None else x for x in row[1]] for row in rows], np.float32).reshape(-1, 3)
    kept = np.array([row[2] for row in rows], bool).reshape(-1, 3)
    with server.admin.connect() as connection:
        connection.exec_driver_sql("create temporary table there (text text, same date, numbers real[], names text[])")
        columns = {
            "text": pa.array([row[0] for row in rows], pa.string()),
            "same": "2026-02-28",
            "numbers": bulk.array_literals(numbers, kept),
            "names": bulk.name_literals(names, kept),
        }
        assert bulk.write(connection, "there", columns) == len(rows)
        found = connection.exec_driver_sql("select text, same::text, numbers, names from there").all()
        read = bulk.read(
            connection,
            "select text, numbers[1] from there where same = :day",
            {"text": pa.string(), "first": pa.float32()},
            {"day": "2026-02-28", "unused": 1},
        )
        connection.exec_driver_sql("drop table there")
    assert [row.text for row in found] == [row[0] for row in rows]
    assert [row.names for row in found] == [[n for n, k in zip(names, row[2], strict=True) if k] for row in rows]
    assert [[as_real(x) for x in row.numbers] for row in found] == [
        [as_real(x) for x, k in zip(row[1], row[2], strict=True) if k] for row in rows
    ]
    assert read.column("text").to_pylist() == [row[0] for row in rows]
    assert [as_real(x) for x in read.column("first").to_pylist()] == [
        as_real(row.numbers[0]) if row.numbers else None for row in found
    ]
