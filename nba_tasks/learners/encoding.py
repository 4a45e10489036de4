"""Rows for a regressor: a state beside the features of one action.

An action enters by its features, not by its name, so that a new action borrows what was learned from its likes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nba_tasks.dataset import FloatArray, IntArray

Rows = NDArray[np.float32]


def encode(state: FloatArray, features: FloatArray, action: IntArray) -> Rows:
    """One row per state, with the action taken in it.

    Parameters
    ----------
    state : array of shape (n, n_features)
    features : array of shape (n_actions, n_action_features)
    action : int array of shape (n,)

    Returns
    -------
    float32 array of shape (n, n_features + n_action_features)
    """
    rows = np.empty((len(state), state.shape[1] + features.shape[1]), dtype=np.float32)
    rows[:, : state.shape[1]] = state
    rows[:, state.shape[1] :] = features[action]
    return rows


def each_action(state: FloatArray, features: FloatArray) -> Iterator[Rows]:
    """The same states beside each action in turn.

    Yields
    ------
    float32 array of shape (n, n_features + n_action_features)
        One buffer, overwritten for the next action: use it before asking for the next.
    """
    rows = np.empty((len(state), state.shape[1] + features.shape[1]), dtype=np.float32)
    rows[:, : state.shape[1]] = state
    for action in features:
        rows[:, state.shape[1] :] = action
        yield rows
