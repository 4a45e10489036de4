"""Look-alikes: what customers like these earned after each action, without planning ahead.

The trees are those of the learned Q-function, with other averages in their leaves: of the reward until the next
decision (myopic), or of everything that the log's own policy earned from then on (long-run value: an action gets the
credit of whatever was done afterwards). Same log, same trees, same layers: what the learned policy earns beyond them
is what planning ahead adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nba_tasks.dataset import FloatArray, Transitions
from nba_tasks.learners.artefacts import ArtefactError, load_array
from nba_tasks.learners.baselines import with_returns_as_reward
from nba_tasks.learners.encoding import Rows, encode
from nba_tasks.learners.forest_q import STATE_ONLY, ForestQ
from nba_tasks.learners.frozen import FrozenForest, LeafArray, LeafAverages, Values, in_chunks

NAMES = ("myopic look-alike", "look-alike on long-run value")


@dataclass(frozen=True)
class LookAlikes:
    """Both look-alikes of a learned Q-function.

    Parameters
    ----------
    q : ForestQ
        Whose trees they share.
    level, effect : arrays of shape (2, leaves of q's level) and (2, leaves of q's effect)
        What the leaves are worth to each, in the order of `NAMES`.
    """

    q: ForestQ
    level: Values
    effect: Values

    @classmethod
    def fit(cls, q: ForestQ, transitions: Transitions, discount: float) -> LookAlikes:
        """Average both targets over the leaves of the logged actions; open rows have none and are left out."""
        rows = np.flatnonzero(~transitions.open)
        state = np.ascontiguousarray(transitions.state[rows], dtype=np.float32)
        taken = encode(state, q.catalogue.features, transitions.action[rows])
        level, effect = q.level.forest, q.effect.forest
        level_leaves, effect_leaves = _leaves(level, state), _leaves(effect, taken)
        level_averages, effect_averages = LeafAverages(level, level_leaves), LeafAverages(effect, effect_leaves)
        returns = with_returns_as_reward(transitions, discount).reward
        levels, effects = [], []
        for target in (transitions.reward[rows].astype(np.float64), returns[rows].astype(np.float64)):
            levels.append(level_averages(target))
            effects.append(effect_averages(target - level.read(levels[-1], level_leaves)))
        return cls(q, np.stack(levels), np.stack(effects))

    def values(self, state: FloatArray) -> dict[str, NDArray[np.float32]]:
        """Values of every action by each look-alike, float32 arrays of shape (n, n_actions)."""
        features, trees = self.q.catalogue.features, (self.q.level.forest, self.q.effect.forest)
        found = np.empty((len(NAMES), len(state), len(features)), dtype=np.float32)

        def work(start: int, stop: int) -> None:
            chunk = state[start:stop]
            # Leaves are looked up once for both.
            level, effect = trees[0].leaves_of_chunk(chunk, STATE_ONLY), trees[1].leaves_of_chunk(chunk, features)
            for i in range(len(NAMES)):
                found[i, start:stop] = (trees[0].read(self.level[i], level) + trees[1].read(self.effect[i], effect)).T

        in_chunks(len(state), work)
        return dict(zip(NAMES, found, strict=True))

    def save(self, folder: Path) -> None:
        """Write the leaf values into a folder; the trees are the Q-function's."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "level.npy", self.level, allow_pickle=False)
        np.save(folder / "effect.npy", self.effect, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path, q: ForestQ) -> LookAlikes:
        """Read what `save` wrote.

        Raises
        ------
        ArtefactError
            A file is missing or damaged, or belongs to other trees.
        """
        level, effect = (
            _checked(folder / f"{name}.npy", part.forest) for name, part in (("level", q.level), ("effect", q.effect))
        )
        return cls(q, level, effect)


def _checked(path: Path, forest: FrozenForest) -> Values:
    values = load_array(path)
    shape = (len(NAMES), forest.n_leaves)
    if values.dtype != np.float64 or values.shape != shape or not np.isfinite(values).all():
        raise ArtefactError(f"{path}: must hold {shape[0]} rows of one finite number for each of the forest's leaves")
    return values.astype(np.float64)


def _leaves(forest: FrozenForest, rows: Rows) -> LeafArray:
    """The leaf of every row, of shape (n_trees, n)."""
    found = np.empty((len(forest.trees), len(rows)), dtype=forest.dtype)

    def work(start: int, stop: int) -> None:
        found[:, start:stop] = forest.leaves_of_chunk(rows[start:stop], STATE_ONLY)[:, 0]

    in_chunks(len(rows), work)
    return found
