from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nba_tasks.gate.exhibits.bands import (
    MOST_NAMES,
    OTHERS,
    StateFeature,
    banded,
    mutual_information,
    strongest_pair,
)


def test_few_values_are_shown_each() -> None:
    cut = banded(np.array([2.0, 0.0, 2.0, 1.0]), StateFeature("emails"))
    assert (cut.labels, cut.code.tolist()) == (("0", "1", "2"), [2, 0, 2, 1])


def test_categories_keep_their_order_and_only_those_that_occur() -> None:
    feature = StateFeature("segment", {-1.0: "unknown", 0.0: "dormant", 1.0: "regular", 2.0: "loyal"})
    cut = banded(np.array([2.0, 0.0, -1.0, 2.0]), feature)
    assert (cut.labels, cut.code.tolist()) == (("unknown", "dormant", "loyal"), [2, 1, 0, 2])


def test_many_values_are_cut_at_the_quartiles_and_missing_is_a_band_of_its_own() -> None:
    """0 … 99 in four bands of 25 whose edges are the values at rank 25, 50 and 74 (the nearest ones)."""
    values = np.concatenate([np.arange(100.0), [9999.0] * 10])
    cut = banded(values, StateFeature("days", {9999.0: "never"}))
    assert cut.labels == ("0 to 24", "25 to 49", "50 to 73", "74 to 99", "never")
    assert np.bincount(cut.code).tolist() == [25, 25, 24, 26, 10]


def test_rare_names_are_put_together() -> None:
    names = {float(i): f"region {i}" for i in range(MOST_NAMES + 3)}
    values = np.repeat(np.arange(MOST_NAMES + 3.0), np.arange(1, MOST_NAMES + 4))
    cut = banded(values, StateFeature("region", names))
    assert cut.labels == (*(f"region {i}" for i in range(3, MOST_NAMES + 3)), OTHERS)
    assert np.count_nonzero(cut.code == MOST_NAMES) == 1 + 2 + 3


@given(
    hnp.arrays(np.float64, st.integers(1, 60), elements=st.sampled_from([*map(float, range(12)), 0.5, -3.25, 9999.0])),
    st.sampled_from([{}, {9999.0: "never"}, {float(i): f"name {i}" for i in range(12)}]),
)
def test_every_row_gets_one_label_and_every_label_a_row(values: np.ndarray, names: dict[float, str]) -> None:
    cut = banded(values, StateFeature("feature", names))
    assert len(cut.code) == len(values)
    assert set(cut.code.tolist()) == set(range(len(cut.labels)))
    assert len(set(cut.labels)) == len(cut.labels)
    for value in set(values.tolist()):
        assert len(set(cut.code[values == value].tolist())) == 1, "equal values lie in one band"


def test_mutual_information_by_hand() -> None:
    """A copy of a fair coin tells ln 2 of it; an independent coin nothing."""
    coin = np.array([0, 0, 1, 1])
    assert mutual_information(coin, coin) == pytest.approx(math.log(2))
    assert mutual_information(coin, np.array([0, 1, 0, 1])) == pytest.approx(0)


def test_the_strongest_pair_is_what_decides_together() -> None:
    """The choice is a AND b, beside noise and a copy of b: a copy adds nothing to b, a does."""
    rng = np.random.default_rng(0)
    a, b, noise = (rng.integers(0, 2, 4_000) for _ in range(3))
    a[:400] = 1  # so that the choice follows b a little more closely than a
    columns = [banded(c.astype(float), StateFeature(name)) for name, c in zip("anbc", (a, noise, b, b), strict=True)]
    nothing = np.zeros(4_000, dtype=np.int64)
    assert strongest_pair(columns, a & b, nothing) == (2, 0)
    assert strongest_pair(columns[:1], a & b, nothing) is None


def test_what_the_rules_settle_moves_no_choice() -> None:
    """b only says what is allowed; among what is allowed, the noise column decides."""
    rng = np.random.default_rng(1)
    a, b, noise = (rng.integers(0, 2, 4_000) for _ in range(3))
    columns = [banded(c.astype(float), StateFeature(name)) for name, c in zip("abn", (a, b, noise), strict=True)]
    pair = strongest_pair(columns, b * (1 + noise), b)
    assert pair is not None
    assert pair[0] == 2
