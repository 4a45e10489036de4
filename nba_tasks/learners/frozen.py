"""A forest whose structure is frozen: learning is then nothing but averages over its leaves.

With the structure fixed, regression on new targets is one matrix of non-negative weights that sum to 1, and fitted Q
iteration over it converges (Gordon, "Stable function approximation in dynamic programming", ICML 1995; Ernst, Geurts,
Wehenkel, JMLR 2005, section 3.5).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor

from nba_tasks.dataset import FloatArray, IntArray
from nba_tasks.learners.encoding import Rows, each_action

LeafArray = NDArray[np.uint16] | NDArray[np.uint32]
Values = NDArray[np.float64]

THREADS = os.cpu_count() or 1
CHUNK = 16_384  # states per chunk: its sums stay in the processor's cache, which halves the time of a sweep
COUNTED = 262_144  # rows whose leaves are counted at once: numpy widens their numbers, and that copy stays in the cache


def grow(
    rows: Rows, target: FloatArray, *, trees: int, min_samples_leaf: int, seed: int, grow_rows: int | None = None
) -> ExtraTreesRegressor:
    """Extremely randomised trees on the rows, or each on a sample of its own.

    Samples of their own (L. Breiman, "Bagging predictors", Machine Learning 24, 1996) cost no more than one for all
    trees, and what one sample happened to hold does not shape all of them.

    Parameters
    ----------
    rows : float32 array of shape (n, n_columns)
    target : array of shape (n,)
    trees, min_samples_leaf : int
    seed : int
    grow_rows : int, optional
        Grow each tree on so many rows, drawn with replacement, where there are more; on all of them by default.
    """
    sampled = grow_rows is not None and len(rows) > grow_rows
    forest = ExtraTreesRegressor(
        trees,
        min_samples_leaf=min_samples_leaf,
        max_features=1.0,
        bootstrap=sampled,
        max_samples=grow_rows if sampled else None,
        n_jobs=THREADS,
        random_state=seed,
    )
    return forest.fit(rows, target)


def in_chunks(n: int, work: Callable[[int, int], None]) -> None:
    """Call `work(start, stop)` for consecutive chunks of n rows, on all cores."""
    starts = range(0, n, CHUNK)
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(lambda start: work(start, min(start + CHUNK, n)), starts):
            pass


class FrozenForest:
    """The leaves of a fitted forest, numbered compactly; what they are worth is kept apart from it.

    Parameters
    ----------
    forest : fitted ExtraTreesRegressor
        Grown depth first (scikit-learn's default), so that the leaves below any node have consecutive numbers.

    Attributes
    ----------
    offset : int array of shape (n_trees + 1,)
        Leaves of tree t have values at `offset[t]:offset[t + 1]`.
    """

    def __init__(self, forest: ExtraTreesRegressor) -> None:
        self.forest = forest
        self.trees = [estimator.tree_ for estimator in forest.estimators_]
        is_leaf = [tree.children_left < 0 for tree in self.trees]
        sizes = [int(leaf.sum()) for leaf in is_leaf]
        self.offset = np.concatenate([[0], np.cumsum(sizes)])
        self.dtype = np.uint16 if max(sizes) <= 2**16 else np.uint32
        self._leaf_of_node = [(np.cumsum(leaf) - 1).astype(self.dtype) for leaf in is_leaf]

    @property
    def n_columns(self) -> int:
        """Columns of the rows that it was grown on."""
        return int(self.forest.n_features_in_)

    @property
    def n_leaves(self) -> int:
        """Leaves of all trees together: the length of an array of values."""
        return int(self.offset[-1])

    def grown_values(self) -> Values:
        """What the leaves were worth to the rows that each tree was grown on, of shape (n_leaves,)."""
        return np.concatenate([tree.value[tree.children_left < 0, 0, 0] for tree in self.trees])

    def leaves_of_chunk(self, state: FloatArray, features: FloatArray) -> LeafArray:
        """The leaf of every state beside every action, on the calling thread.

        Returns
        -------
        uint16 (uint32 where a tree has more leaves) array of shape (n_trees, n_actions, n)
        """
        found = np.empty((len(self.trees), len(features), len(state)), dtype=self.dtype)
        for action, rows in enumerate(each_action(state, features)):
            for t, tree in enumerate(self.trees):
                np.take(self._leaf_of_node[t], tree.apply(rows), out=found[t, action], mode="clip")
        return found

    def leaves(self, state: FloatArray, features: FloatArray) -> LeafArray:
        """`leaves_of_chunk` for any number of states, on all cores."""
        found = np.empty((len(self.trees), len(features), len(state)), dtype=self.dtype)

        def work(start: int, stop: int) -> None:
            found[:, :, start:stop] = self.leaves_of_chunk(state[start:stop], features)

        in_chunks(len(state), work)
        return found

    def read(self, values: Values, leaves: LeafArray) -> Values:
        """The mean over trees of the leaves' values.

        Parameters
        ----------
        values : array of shape (n_leaves,)
        leaves : array of shape (n_trees, …), of a moderate size: temporaries are as long

        Returns
        -------
        array of shape (…)
        """
        total = np.zeros(leaves.shape[1:])
        one = np.empty_like(total)
        for t, leaf in enumerate(leaves):
            # "clip" skips numpy's buffering of `out`; leaf numbers are in range by construction.
            np.take(values[self.offset[t] : self.offset[t + 1]], leaf, out=one, mode="clip")
            total += one
        total /= len(self.trees)
        return total

    def ranges_of_empty(self, tree: int, count: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """Leaves of a tree without rows, and the leaves below the nearest ancestor that has some.

        Parameters
        ----------
        count : array of shape (leaves of the tree,)

        Returns
        -------
        empty, first, last : int arrays of shape (n_empty,)
            An empty leaf stands for the average over leaves `first:last`.
        """
        left, right = self.trees[tree].children_left, self.trees[tree].children_right
        leaf_of_node = self._leaf_of_node[tree].astype(np.int64)
        parent = np.full(len(left), -1)
        inner = np.flatnonzero(left >= 0)
        parent[left[inner]] = parent[right[inner]] = inner
        before = np.concatenate([[0], np.cumsum(count)])
        empty = np.flatnonzero(count == 0)
        node = np.flatnonzero(left < 0)[empty]
        first, last = empty.copy(), empty + 1
        while (bare := before[last] == before[first]).any():
            node[bare] = parent[node[bare]]
            low, high = node.copy(), node.copy()
            while (open_ := left[low] >= 0).any():
                low[open_] = left[low[open_]]
            while (open_ := left[high] >= 0).any():
                high[open_] = right[high[open_]]
            first, last = leaf_of_node[low], leaf_of_node[high] + 1
        return empty, first, last


@dataclass(frozen=True)
class LeafModel:
    """A frozen forest and what its leaves are worth.

    Parameters
    ----------
    forest : FrozenForest
    leaf_values : array of shape (forest.n_leaves,)
    """

    forest: FrozenForest
    leaf_values: Values

    def read(self, state: FloatArray, features: FloatArray) -> Values:
        """Values of a chunk of states beside every action, on the calling thread; shape (n_actions, n)."""
        return self.forest.read(self.leaf_values, self.forest.leaves_of_chunk(state, features))


class LeafAverages:
    """Averages of a target over the leaves that its rows fall into.

    A leaf without rows takes the average of its nearest ancestor that has some, so every leaf has a value.

    Parameters
    ----------
    forest : FrozenForest
    logged : array of shape (n_trees, n)
        The leaf of each row, n ≥ 1.
    """

    def __init__(self, forest: FrozenForest, logged: LeafArray) -> None:
        self._forest, self._logged = forest, logged
        sizes = np.diff(forest.offset)
        self._count = [np.bincount(leaf, minlength=size) for leaf, size in zip(logged, sizes, strict=True)]
        self._empty = [
            forest.ranges_of_empty(t, count) if (count == 0).any() else None for t, count in enumerate(self._count)
        ]

    def __call__(self, target: FloatArray) -> Values:
        """The value of every leaf.

        Parameters
        ----------
        target : array of shape (n,)

        Returns
        -------
        array of shape (n_leaves,)
        """
        values = np.empty(self._forest.n_leaves)
        offset = self._forest.offset

        def work(t: int) -> None:
            values[offset[t] : offset[t + 1]] = self._of_tree(t, target)

        with ThreadPoolExecutor(THREADS) as pool:
            for _ in pool.map(work, range(len(self._count))):
                pass
        return values

    def _of_tree(self, t: int, target: FloatArray) -> Values:
        leaf, count, empty = self._logged[t], self._count[t], self._empty[t]
        total = np.zeros(len(count))
        for start in range(0, len(leaf), COUNTED):
            some = slice(start, start + COUNTED)
            total += np.bincount(leaf[some], weights=target[some], minlength=len(count))
        average: Values = total / np.maximum(count, 1)
        if empty is not None:
            bare, first, last = empty
            sums, counts = (np.concatenate([[0], np.cumsum(part)]) for part in (total, count))
            average[bare] = (sums[last] - sums[first]) / (counts[last] - counts[first])
        return average


def of_actions(leaves: LeafArray, action: IntArray, rows: IntArray) -> LeafArray:
    """The leaves of the actions taken in some rows.

    Parameters
    ----------
    leaves : array of shape (n_trees, n_actions, n)
    action, rows : int arrays of shape (m,)

    Returns
    -------
    array of shape (n_trees, m)
    """
    taken = np.empty((len(leaves), len(rows)), dtype=leaves.dtype)
    position = action.astype(np.int64) * leaves.shape[2] + rows
    for t, leaf in enumerate(leaves):
        np.take(leaf.reshape(-1), position, out=taken[t], mode="clip")
    return taken
