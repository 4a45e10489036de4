"""A list as a whole: its counts are those of its rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from nba_tasks import lists
from nba_tasks.shape import CatalogueAction, Shape
from nba_tasks.tonight import Night
from tests.loop import AS_OF, Installation, sales_channels

ACTIONS = tuple(
    CatalogueAction(index, name, channel, 0.0, None, None, ())
    for index, (name, channel) in enumerate((("no_action", None), ("email", "email"), ("call", "phone")))
)
SHAPE = Shape(sales_channels(), AS_OF, ACTIONS)
SEGMENT = [feature.name for feature in SHAPE.programme.state].index("segment")

rows = st.lists(
    st.tuples(
        st.integers(0, 2),  # the action drawn
        st.sampled_from(["holdout", "served policy"]),
        st.booleans(),  # explored
        st.integers(0, 3),  # segment
        st.floats(-5, 5) | st.none(),  # expected value
    ),
    max_size=30,
)


def summary(given: list[tuple[int, str, bool, int, float | None]]) -> dict[str, Any]:
    drawn, arms, explored, segments, values = zip(*given, strict=True) if given else ((), (), (), (), ())
    n = len(given)
    state = np.full((n, len(SHAPE.programme.state)), -1.0)
    state[:, SEGMENT] = segments
    decisions = pd.DataFrame(
        {
            "index": np.array(drawn, dtype=int),
            "arm": arms,
            "explored": np.array(explored, dtype=bool),
            "expected": np.array([np.nan if v is None else v for v in values], dtype=float),
            "over": np.zeros(n),
        }
    )
    night = Night(np.full((n, 3), 1 / 3), np.array(drawn, dtype=np.int64))
    return lists.summarise(SHAPE, decisions, state, np.ones((n, 3), bool), night)


@settings(deadline=None)
@given(rows)
def test_counts_are_those_of_the_rows(given: list[tuple[int, str, bool, int, float | None]]) -> None:
    found = summary(given)
    assert found["decisions"] == len(given)
    assert found["to_send"] == sum(drawn > 0 for drawn, *_ in given)
    for part in ("arms", "actions"):
        assert sum(row["decisions"] for row in found[part]) == len(given)
    for row in found["segments"]:
        if row["feature"] == "segment":
            code = SHAPE.programme.state[SEGMENT].categories.index(row["label"])  # type: ignore[union-attr]
            assert row["decisions"] == sum(segment == code for *_, segment, _ in given)
            assert row["to_send"] == sum(segment == code and drawn > 0 for drawn, *_, segment, _ in given)
    known = [value for *_, value in given if value is not None]
    if known:
        assert np.isclose(found["expected_value"], np.mean(known))
    else:
        assert found["expected_value"] is None


def test_every_run_is_kept_and_a_repeated_one_once(trained: Installation, night: Any) -> None:
    night(dry_run=True)
    night()
    night()
    kept = trained.databases.rows("select run_id, dry_run, summary ->> 'decisions' from nba.lists")
    assert len(kept) == 1, "the same run's later try replaces its first"
    decided = trained.databases.rows("select count(*) from nba.scores")[0][0]
    assert kept[0] == ("a run", False, str(decided))
    with trained.warehouse.begin() as connection:
        connection.exec_driver_sql("delete from nba.lists")
