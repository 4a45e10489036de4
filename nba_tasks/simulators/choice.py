"""How the simulators let a policy choose."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

Policy = Callable[[NDArray[np.float32], Bools], Floats]
"""state (n, n_features), eligible (n, n_actions) -> probabilities (n, n_actions)."""


def published(probabilities: Floats, eligible: Bools) -> Floats:
    """Probabilities as a log keeps them: six decimals, summing to 1 exactly enough; the likeliest takes the rest.

    Raises
    ------
    ValueError
        The policy gives probability to an action that is not eligible, or its probabilities do not sum to 1.
    """
    if (probabilities[~eligible] > 0).any() or (np.abs(probabilities.sum(axis=1) - 1) > 1e-6).any():
        raise ValueError("a policy must share a probability of 1 among the eligible actions of every row")
    rounded = np.round(probabilities, 6)
    rows = np.arange(len(rounded))
    likeliest = rounded.argmax(axis=1)
    rounded[rows, likeliest] += 1 - rounded.sum(axis=1)
    return np.round(rounded, 6)


def drawn(probabilities: Floats, uniform: Floats) -> Ints:
    """One action per row by inverting the distribution function; an action of probability 0 is never drawn."""
    below = np.cumsum(probabilities, axis=1)[:, :-1] <= uniform[:, None]
    action: Ints = below.sum(axis=1)
    last = probabilities.shape[1] - 1 - (probabilities[:, ::-1] > 0).argmax(axis=1)
    return np.asarray(np.minimum(action, last))
