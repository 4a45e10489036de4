"""The gain, segment by segment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nba_tasks.bounds import Clusters
from nba_tasks.dataset import FloatArray, IntArray
from nba_tasks.gate.exhibits.bands import StateFeature, banded, strength
from nba_tasks.gate.sample import Sample

Floats = NDArray[np.float64]

NUMERIC_FEATURES = 4
"""Of the features without named values, as many as this are shown: those that tell most of the learned choice."""

MIN_CUSTOMERS = 30
"""A segment of fewer customers is left out: their interval would mean nothing."""


@dataclass(frozen=True)
class Segment:
    """Δ per window among those that begin with a customer of one kind, with its two-sided interval.

    Attributes
    ----------
    feature, label : str
        The kind: a feature of the state at the window's first decision, and its value or band.
    customers, windows : int
    estimate, standard_error, lower, upper : float
        Customers are the clusters of the variance; nothing is bounded with fewer than two.
    """

    feature: str
    label: str
    customers: int
    windows: int
    estimate: float
    standard_error: float
    lower: float
    upper: float


def segments(
    sample: Sample,
    difference: Floats,
    state: FloatArray,
    features: Sequence[StateFeature],
    choice: IntArray,
    eligible: IntArray,
    alpha: float,
) -> tuple[Segment, ...]:
    """Every segment of every feature with named values, and of the strongest of the others.

    Parameters
    ----------
    sample : Sample
    difference : array of shape (n_windows,)
        The deciding estimator's influence values of Δ.
    state : array of shape (n, n_features)
    features : sequence of StateFeature, length n_features
    choice : int array of shape (n,)
        The action that the learned policy prefers in every row's state.
    eligible : int array of shape (n,)
        A code for the set of actions that the rules allow in every row.
    alpha : float
        Intervals hold with probability 1 − α, each by itself: of twenty, one misses at 5%.
    """
    first = sample.windows.rows[:, 0]
    columns = [banded(state[first, i], feature) for i, feature in enumerate(features)]
    told = [strength(column, choice[first], eligible[first]) for column in columns]
    numeric = [i for i in np.argsort(told)[::-1] if not features[i].categorical][:NUMERIC_FEATURES]
    found = []
    for i, column in enumerate(columns):
        if len(column.labels) < 2 or not (features[i].categorical or i in numeric):
            continue
        for position, label in enumerate(column.labels):
            inside = column.code == position
            clusters = Clusters(sample.windows.customer[inside])
            if clusters.n < MIN_CUSTOMERS:
                continue
            estimate = clusters.mean(difference[inside])
            found.append(
                Segment(
                    column.feature,
                    label,
                    clusters.n,
                    int(inside.sum()),
                    estimate.value,
                    estimate.standard_error,
                    *estimate.interval(alpha),
                )
            )
    return tuple(found)
