"""Conditions of rules: read with their brackets, and nothing else is."""

from __future__ import annotations

import pytest

from nba_tasks.programme.conditions import Reader

COLUMNS = {"segment": "seg", "visits": "least(v, 9)", "since": "s"}
CATEGORIES = {"segment": ("new", "regular", "it's odd")}


def read(text: str) -> str:
    return Reader(text, COLUMNS, CATEGORIES).sql()


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("visits > 2", "(((least(v, 9)) > 2::real))"),
        ("segment = 'regular'", "(((seg) = 1::real))"),
        ("segment not in ('new', 'it''s odd')", "(((seg) not in (0::real, 2::real)))"),
        ("since between -1 and 2.5 AND since<>0", "(((s) between -1::real and 2.5::real and (s) <> 0::real))"),
        ("visits = 1 or not (since < 3)", "(((least(v, 9)) = 1::real) or ((not (((s) < 3::real)))))"),
    ],
)  # fmt: skip
def test_what_is_read(text: str, sql: str) -> None:
    assert read(text) == sql


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "ends before one of the state"),
        ("colour = 1", "cannot read on at 'colour = 1': expected one of the state"),
        ("visits", "ends before !="),
        ("visits = 'new'", "expected a number"),
        ("segment = 1", "expected 'new' or 'regular'"),
        ("segment = 'gone'", "expected 'new'"),
        ("visits > 1 visits", "expected and, or, or the end"),
        ("(visits > 1", "ends before )"),
        ("visits > 1; drop table x", "expected and, or, or the end"),
        ("visits > (select 1)", "expected a number"),
        ("pg_sleep(9) = 1", "expected one of the state"),
        ("visits > 1 -- quiet", "expected and, or, or the end"),
        ("visits not = 1", "expected in or between"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".*") as caught:
        read(text)
    assert message in str(caught.value)
