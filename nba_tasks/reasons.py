"""Why: one sentence for each decision that a call-centre agent could read. Sets and vectors, no loop over customers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nba_tasks.arms import HOLDOUT
from nba_tasks.dataset import BoolArray, FloatArray, IntArray
from nba_tasks.policy import Floats
from nba_tasks.programme import NO_ACTION, CustomerFeature, Feature

Words = NDArray[np.object_]

FEATURES = 3
"""How many features a reason names."""

NOBODY = "holdout group: nobody here is contacted, so that the effect of contacts can be measured"
USUAL = "business as usual"
NEW = " is new: there is little evidence yet, so that it was drawn by chance, to learn what it brings"


def moved_most(
    lead: Callable[[FloatArray, IntArray, IntArray], FloatArray],
    state: FloatArray,
    eligible: BoolArray,
    value: FloatArray,
    action: IntArray,
) -> NDArray[np.int16]:
    """The features that moved the choice most: how much of the best action's lead they bring about.

    The lead of the best eligible action over the next best shrinks by some amount where one feature of the customer is
    replaced by what is usual (tonight's median): the features with the largest such amounts are named.

    Parameters
    ----------
    lead : callable
        From states and two actions for each to what Q gives the first beyond the second, of shape (n,).
    state : array of shape (n, n_features)
    eligible : bool array of shape (n, n_actions)
    value : array of shape (n, n_actions)
        Q; NaN where unknown.
    action : int array of shape (n,)
        What was drawn.

    Returns
    -------
    int16 array of shape (n, 3)
        Positions of features, the strongest first; -1 where fewer speak for the choice. Only where a contact was drawn
        that is the best action, and another one was possible.
    """
    found = np.full((len(state), FEATURES), -1, dtype=np.int16)
    q = np.where(eligible & ~np.isnan(value), value, -np.inf)
    rows = np.flatnonzero((np.isfinite(q).sum(axis=1) > 1) & (action > 0) & (q.argmax(axis=1) == action))
    if not len(rows):
        return found
    order = np.argsort(-q[rows], axis=1, kind="stable")
    best, second = order[:, 0], order[:, 1]
    leads = lead(state[rows], best, second)
    usual = np.median(state, axis=0)
    shrinks = np.zeros((len(rows), state.shape[1]))
    for f in range(state.shape[1]):
        differs = np.flatnonzero(state[rows, f] != usual[f])
        if len(differs):
            otherwise = state[rows[differs]].copy()
            otherwise[:, f] = usual[f]
            shrinks[differs, f] = leads[differs] - lead(otherwise, best[differs], second[differs])
    named = np.argsort(-shrinks, axis=1, kind="stable")[:, :FEATURES]
    speaks = np.take_along_axis(shrinks, named, axis=1) > 1e-9
    found[rows, : named.shape[1]] = np.where(speaks, named, -1)
    return found


def sentences(
    ids: Sequence[str],
    action: NDArray[np.int64],
    value: Floats,
    eligible: BoolArray,
    arm: NDArray[np.str_],
    because: Words,
    short: BoolArray,
    new: BoolArray,
) -> Words:
    """Why each decision was taken, of shape (n,).

    Parameters
    ----------
    ids : sequence of str
        Action ids by index.
    action : int array of shape (n,)
        What was drawn.
    value, eligible : arrays of shape (n, n_actions)
        NaN where no value is known.
    arm : array of shape (n,)
    because : array of str, shape (n,)
        What moved the choice, see `named`; used where the best action was drawn.
    short : bool array of shape (n, n_actions)
        Actions whose slots are short: their probability was cut.
    new : bool array of shape (n, n_actions)
        Actions too new to be compared with others: who gets them is left to chance.
    """
    names, rows = np.array(ids, dtype=object), np.arange(len(action))
    known = np.where(eligible & ~np.isnan(value) & ~new, value, -np.inf)
    chosen, nothing = value[rows, action], np.where(eligible[:, 0], value[:, 0], np.nan)
    known[rows, action] = -np.inf
    second = known.argmax(axis=1)
    alone = np.isinf(known[rows, second])
    gap = np.where(alone, 0.0, chosen - np.where(alone, 0.0, known[rows, second]))
    mine, other = names[action], names[second]
    lead = mine + " is worth " + _number(chosen - nothing) + f" more than {NO_ACTION}"
    lead = np.where((action == 0) | np.isnan(nothing), mine, lead)
    after = np.where(second == 0, "", "; next best " + other + ", " + _number(gap) + " less")
    rest = np.where(action == 0, mine + " is best; next best " + other + ", " + _number(gap) + " less", lead + after)
    explored = other + " looks " + _number(-gap) + " better; " + mine + " was drawn by chance, to keep learning"
    scarce = other + " looks " + _number(-gap) + " better, but its slots are short; " + mine + " instead"
    return np.asarray(
        np.select(
            [arm == HOLDOUT, new[rows, action], np.isnan(chosen), alone, (gap < 0) & short[rows, second], gap < 0],
            [NOBODY, mine + NEW, USUAL, mine + " is the only action allowed", scarce, explored],
            rest + because,
        ),
        dtype=object,
    )


def named(moved: IntArray, state: FloatArray, features: Sequence[Feature]) -> Words:
    """What moved each choice, in words: `; speaks for it: visits 2 = 1, segment = loyal`; empty where nothing is named.

    Parameters
    ----------
    moved : int array of shape (n, 3)
        See `moved_most`.
    state : array of shape (n, n_features)
    features : sequence of Feature
    """
    text: Words = np.full(len(moved), "", dtype=object)
    for place in range(moved.shape[1]):
        for f, feature in enumerate(features):
            rows = np.flatnonzero(moved[:, place] == f)
            if len(rows):
                before = ", " if place else "; speaks for it: "
                text[rows] += before + feature.name.replace("_", " ") + " = " + _in_words(feature, state[rows, f])
    return text


def _in_words(feature: Feature, values: FloatArray) -> Words:
    """A feature's values as a person would say them."""
    distinct, where = np.unique(values, return_inverse=True)
    words = [_word(feature, float(value)) for value in distinct]
    return np.array(words, dtype=object)[where]


def _word(feature: Feature, value: float) -> str:
    if isinstance(feature, CustomerFeature) and feature.categories:
        known = 0 <= value < len(feature.categories)
        return feature.categories[int(value)] if known else "unknown"
    missing = getattr(feature, "missing", None)
    if missing is not None and value == missing and getattr(feature, "measure", "") not in ("count", "sum"):
        return "never" if getattr(feature, "source", "") in ("contacts", "events") else "unknown"
    return f"{value:g}"


def _number(values: Floats) -> Words:
    """Two decimals, each distinct text written once."""
    cents = np.round(np.where(np.isfinite(values), values, 0.0), 2)
    distinct, where = np.unique(cents, return_inverse=True)
    texts: list[Any] = [f"{value:.2f}" for value in distinct]
    return np.array(texts, dtype=object)[where]
