"""Bands: every state feature cut into a handful of groups with names, for tables and maps that a person reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nba_tasks.dataset import FloatArray, IntArray

MOST_VALUES = 6
"""A feature with no more distinct values than this shows each of them."""

MOST_NAMES = 8
"""More named values than this are cut to the most frequent ones and `OTHERS`."""

QUANTILES = (0.25, 0.5, 0.75)
"""Where a feature with many values is cut."""

OTHERS = "others"


@dataclass(frozen=True)
class StateFeature:
    """What a state's column is called, and the values of it that stand for something.

    Attributes
    ----------
    name : str
    names : mapping of float to str
        Categories by their position; the value that stands for "missing".
    categorical : bool
        Every value is a category.
    """

    name: str
    names: Mapping[float, str] = field(default_factory=dict)
    categorical: bool = False


@dataclass(frozen=True)
class Banded:
    """One feature in bands.

    Attributes
    ----------
    feature : str
    labels : tuple of str
        In ascending order of the values, named ones last in theirs.
    code : int array of shape (n,)
        Position of each row's label.
    """

    feature: str
    labels: tuple[str, ...]
    code: NDArray[np.int64]


def banded(values: FloatArray, feature: StateFeature) -> Banded:
    """Cut one column: named values by name, few values each by itself, many at the quartiles.

    Parameters
    ----------
    values : array of shape (n,)
    feature : StateFeature
    """
    values = np.asarray(values, dtype=np.float64)
    keys = np.array(sorted(feature.names), dtype=np.float64)
    named = np.isin(values, keys)
    labels, code = _cut(values[~named])
    found = np.empty(len(values), dtype=np.int64)
    found[~named] = code
    names, positions = _named(values[named], keys, feature.names)
    found[named] = len(labels) + positions
    return Banded(feature.name, (*labels, *names), found)


def mutual_information(code: IntArray, choice: IntArray) -> float:
    """How much knowing one tells of the other, in nats; int arrays of shape (n,), counted from 0."""
    if len(code) == 0:
        return 0.0
    joint = np.zeros((int(code.max()) + 1, int(choice.max()) + 1))
    np.add.at(joint, (code, choice), 1.0)
    joint /= len(code)
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / independent[seen])).sum())


def strength(column: Banded, choice: IntArray, given: IntArray) -> float:
    """How much more a feature tells of a choice than what is `given` tells already, in nats; arrays of shape (n,)."""
    return mutual_information(_joint(given, column.code), choice) - mutual_information(given, choice)


def strongest_pair(columns: Sequence[Banded], choice: IntArray, given: IntArray) -> tuple[int, int] | None:
    """The feature that tells most of a choice, and the one that tells most beside it; None with fewer than two.

    Parameters
    ----------
    columns : sequence of Banded
        Of the same n rows.
    choice : int array of shape (n,)
    given : int array of shape (n,)
        What is known without them: say, which actions the rules allow.
    """
    if len(columns) < 2:
        return None
    first = int(np.argmax([strength(column, choice, given) for column in columns]))
    known = _joint(given, columns[first].code)
    beside = [-1.0 if i == first else strength(column, choice, known) for i, column in enumerate(columns)]
    return first, int(np.argmax(beside))


def _joint(one: IntArray, other: IntArray) -> NDArray[np.int64]:
    """A code for each pair of codes that occurs, counted from 0."""
    pair = one.astype(np.int64) * (int(other.max(initial=0)) + 1) + other
    return np.asarray(np.unique(pair, return_inverse=True)[1], dtype=np.int64)


def _cut(values: NDArray[np.float64]) -> tuple[list[str], NDArray[np.int64]]:
    """Labels and codes of values without names."""
    distinct, code = np.unique(values, return_inverse=True)
    if len(distinct) <= MOST_VALUES:
        return [f"{value:.4g}" for value in distinct], code.astype(np.int64)
    edges = np.unique(np.quantile(values, QUANTILES, method="nearest"))
    bands, code = np.unique(np.searchsorted(edges, values, side="right"), return_inverse=True)
    labels = []
    for band in range(len(bands)):
        inside = values[code == band]
        low, high = f"{inside.min():.3g}", f"{inside.max():.3g}"
        labels.append(low if low == high else f"{low} to {high}")
    return labels, code.astype(np.int64)


def _named(
    values: NDArray[np.float64], keys: NDArray[np.float64], names: Mapping[float, str]
) -> tuple[list[str], NDArray[np.int64]]:
    """Labels and codes of values that have names; only those that occur."""
    position = np.searchsorted(keys, values)
    count = np.bincount(position, minlength=len(keys))
    shown = np.flatnonzero(count)
    if len(shown) > MOST_NAMES:
        shown = np.sort(np.argsort(-count, kind="stable")[:MOST_NAMES])
    labels = [names[float(keys[i])] for i in shown]
    code_of = np.full(len(keys), len(shown))
    code_of[shown] = np.arange(len(shown))
    if np.count_nonzero(count) > len(shown):
        labels.append(OTHERS)
    return labels, code_of[position].astype(np.int64)
