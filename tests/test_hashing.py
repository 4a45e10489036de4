"""The hash is one and the same in Python and SQL, and its purposes are independent."""

from __future__ import annotations

import itertools

import numpy as np
import sqlalchemy as sa
from scipy.stats import chi2_contingency

from nba_tasks.hashing import Purpose, hash63, uniforms
from tests.databases import Databases

PURPOSES: tuple[Purpose, ...] = ("offset", "shard", "split", "arm", "draw")


def test_python_and_sql_agree(databases: Databases) -> None:
    ids = ["1", "c-17", "", "ünïcödé ☃", "a|b", "x" * 200, "0" * 9]
    with databases.warehouse.connect() as connection:
        for customer, purpose in itertools.product(ids, PURPOSES):
            found = connection.scalar(
                sa.text("select nba.hash63('shop', :purpose, 's|1', :id)"), {"purpose": purpose, "id": customer}
            )
            assert found == hash63("shop", purpose, "s|1", customer)
            share = connection.scalar(
                sa.text("select nba.uniform('shop', :purpose, 's|1', :id)"), {"purpose": purpose, "id": customer}
            )
            assert share == uniforms("shop", purpose, "s|1", [customer])[0]


def test_known_value() -> None:
    """`printf 'shop|arm|1|42' | sha256sum` begins with b134e184c97a7db1; without its top bit that is 3134….

    A salt, a separator or a byte order that changed would reshuffle every customer of every installation.
    """
    assert hash63("shop", "arm", "1", 42) == 0x3134E184C97A7DB1


def test_purposes_are_pairwise_independent() -> None:
    """Ten chi-square tests of 7 × 7 tables at 10⁻⁴ each: a sound hash fails with probability 10⁻³ (ids are fixed)."""
    ids = range(20_000)
    cells = {purpose: (uniforms("shop", purpose, "1", ids) * 7).astype(int) for purpose in PURPOSES}
    for first, second in itertools.combinations(PURPOSES, 2):
        table = np.zeros((7, 7))
        np.add.at(table, (cells[first], cells[second]), 1)
        assert chi2_contingency(table).pvalue > 1e-4, (first, second)
