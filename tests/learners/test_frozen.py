"""Leaf averages: what every leaf is worth, also one without rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nba_tasks.learners.frozen import CHUNK, FrozenForest, LeafAverages, grow, of_actions

NO_FEATURES = np.empty((1, 0), dtype=np.float32)


def a_forest(seed: int, n: int = 200, leaf: int = 2, trees: int = 3) -> FrozenForest:
    rng = np.random.default_rng(seed)
    return FrozenForest(
        grow(rng.random((n, 2)).astype(np.float32), rng.random(n), trees=trees, min_samples_leaf=leaf, seed=seed)
    )


def test_on_its_own_rows_it_is_the_forest_that_was_grown() -> None:
    rng = np.random.default_rng(1)
    rows, target = rng.random((500, 3)).astype(np.float32), rng.normal(size=500)
    forest = FrozenForest(grow(rows, target, trees=7, min_samples_leaf=4, seed=1))
    leaves = forest.leaves(rows, NO_FEATURES)
    values = LeafAverages(forest, leaves[:, 0])(target)
    new = rng.random((100, 3)).astype(np.float32)
    np.testing.assert_allclose(
        forest.read(values, forest.leaves(new, NO_FEATURES))[0], forest.forest.predict(new), rtol=1e-9, atol=1e-12
    )


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000), rows=st.integers(1, 40))
def test_an_empty_leaf_takes_the_average_of_its_nearest_ancestor_with_rows(seed: int, rows: int) -> None:
    forest = a_forest(seed % 10)
    rng = np.random.default_rng(seed)
    state, target = rng.random((rows, 2)).astype(np.float32) * rng.random(), rng.normal(size=rows)
    leaves = forest.leaves(state, NO_FEATURES)[:, 0]
    values = LeafAverages(forest, leaves)(target)
    for t, tree in enumerate(forest.trees):
        paths = tree.decision_path(state).toarray().astype(bool)  # (rows, nodes)
        parent = {
            int(child): node
            for node in range(tree.node_count)
            for child in (tree.children_left[node], tree.children_right[node])
            if child >= 0
        }
        for leaf, start in enumerate(np.flatnonzero(tree.children_left < 0)):
            node = int(start)
            while not paths[:, node].any():
                node = parent[node]
            assert values[forest.offset[t] + leaf] == pytest.approx(target[paths[:, node]].mean(), abs=1e-9)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), constant=st.floats(-1e3, 1e3))
def test_averages_keep_constants_and_do_not_expand_distances(seed: int, constant: float) -> None:
    forest = a_forest(seed % 10)
    rng = np.random.default_rng(seed)
    average = LeafAverages(forest, forest.leaves(rng.random((20, 2)), NO_FEATURES)[:, 0])
    first, second = rng.normal(size=(2, 20))
    np.testing.assert_allclose(average(np.full(20, constant)), constant, atol=1e-9)
    assert np.abs(average(first) - average(second)).max() <= np.abs(first - second).max() + 1e-12


def test_more_states_than_a_chunk() -> None:
    forest = a_forest(3)
    state = np.random.default_rng(0).random((CHUNK + 7, 2)).astype(np.float32)
    np.testing.assert_array_equal(
        forest.leaves(state, NO_FEATURES)[..., -7:], forest.leaves_of_chunk(state[-7:], NO_FEATURES)
    )


def test_leaf_numbers_are_as_small_as_they_can_be() -> None:
    assert a_forest(1).dtype == np.uint16
    rows = np.arange(2**16 + 2, dtype=np.float32)[:, None]
    wide = FrozenForest(grow(rows, np.sqrt(rows[:, 0]), trees=1, min_samples_leaf=1, seed=0))
    assert wide.dtype == np.uint32
    assert len(np.unique(wide.leaves(rows, NO_FEATURES))) == len(rows)


def test_the_leaves_of_the_actions_taken() -> None:
    leaves = np.arange(2 * 3 * 5, dtype=np.uint16).reshape(2, 3, 5)
    action, rows = np.array([2, 0, 1]), np.array([0, 3, 4])
    np.testing.assert_array_equal(of_actions(leaves, action, rows), leaves[:, action, rows])
