from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nba_tasks.dataset import FloatArray, IntArray
from nba_tasks.programme import CustomerFeature, EventFeature, Feature, TimeFeature
from nba_tasks.reasons import moved_most, named, sentences

IDS = ["no_action", "email", "call"]
NAN = float("nan")


def reasons(
    value: list[float], action: int, *, eligible: str = "111", arm: str = "s", short: str = "000", new: str = "000"
) -> str:
    """The sentence of one decision."""
    allowed, few, fresh = (np.array([[mark == "1" for mark in marks]]) for marks in (eligible, short, new))
    because = np.array(["; speaks for it: visits = 2"], dtype=object)
    found = sentences(IDS, np.array([action]), np.array([value]), allowed, np.array([arm]), because, few, fresh)
    return str(found[0])


def lead_of(values: Callable[[FloatArray], FloatArray]) -> Callable[[FloatArray, IntArray, IntArray], FloatArray]:
    """The difference of two columns of Q."""

    def lead(state: FloatArray, first: IntArray, second: IntArray) -> FloatArray:
        q, rows = values(state), np.arange(len(state))
        return np.asarray(q[rows, first] - q[rows, second])

    return lead


def test_what_a_sentence_says() -> None:
    assert reasons([1.0, 1.75, 2.5], 2) == (
        "call is worth 1.50 more than no_action; next best email, 0.75 less; speaks for it: visits = 2"
    )
    assert reasons([1.0, 0.2, 2.5], 2) == "call is worth 1.50 more than no_action; speaks for it: visits = 2"
    assert reasons([3.0, 1.75, 2.5], 0) == "no_action is best; next best call, 0.50 less; speaks for it: visits = 2"
    assert reasons([1.0, 1.75, 2.5], 1) == "call looks 0.75 better; email was drawn by chance, to keep learning"
    assert reasons([1.0, 1.75, 2.5], 1, short="001") == "call looks 0.75 better, but its slots are short; email instead"
    assert reasons([1.0, 1.75, 2.5], 1, eligible="010") == "email is the only action allowed"
    assert reasons([1.0, 1.75, 2.5], 0, eligible="100", arm="h").startswith("holdout group: nobody here is contacted")
    assert reasons([NAN, NAN, NAN], 1) == "business as usual"


def test_a_new_action_without_a_value_is_never_the_next_best() -> None:
    assert reasons([1.0, 1.75, NAN], 1) == "email is worth 0.75 more than no_action; speaks for it: visits = 2"


def test_a_new_action_is_drawn_by_chance_and_compared_with_nothing() -> None:
    assert reasons([1.0, 1.75, 2.5], 2, new="001") == (
        "call is new: there is little evidence yet, so that it was drawn by chance, to learn what it brings"
    )
    assert reasons([1.0, 1.75, 2.5], 1, new="001") == (
        "email is worth 0.75 more than no_action; speaks for it: visits = 2"
    )


def test_the_features_that_moved_a_choice_are_named_by_their_share_of_the_lead() -> None:
    """Q(call) − Q(email) = 3a + b − 2c: of the customer (1, 1, 1, 5) against the usual (0, 0, 0, 5), a says most for
    the call, then b; c speaks against it and d is as usual."""
    weights = np.zeros((4, 3))
    weights[:, 2] = [3.0, 1.0, -2.0, 7.0]
    weights[3, 1] = 7.0

    def values(state: FloatArray) -> FloatArray:
        return np.asarray(state @ weights)

    state = np.array([[0, 0, 0, 5], [0, 0, 0, 5], [1, 1, 1, 5], [0, 0, 0, 5]], dtype=np.float64)
    eligible = np.ones((4, 3), dtype=bool)
    call = np.full(4, 2)
    moved = moved_most(lead_of(values), state, eligible, values(state), call)
    assert moved[2].tolist() == [0, 1, -1]
    assert moved[0].tolist() == [-1, -1, -1]
    email_was_drawn = np.array([2, 2, 1, 2])
    assert (moved_most(lead_of(values), state, eligible, values(state), email_was_drawn)[2] == -1).all()


def test_nothing_is_named_where_there_was_no_choice_or_nothing_is_known() -> None:
    state, contact = np.ones((3, 2)), np.ones(3, dtype=np.int64)
    unknown = np.full((3, 2), np.nan)
    assert (moved_most(lead_of(lambda s: unknown), state, np.ones((3, 2), dtype=bool), unknown, contact) == -1).all()
    known = np.tile([0.0, 1.0], (3, 1))
    assert (moved_most(lead_of(lambda s: known), state, np.tile([False, True], (3, 1)), known, contact) == -1).all()
    nobody = np.zeros((0, 2))
    assert len(moved_most(lead_of(lambda s: known), nobody, nobody.astype(bool), nobody, contact[:0])) == 0


def test_features_in_words() -> None:
    features: list[Feature] = [
        CustomerFeature(name="segment", source="customer", column="segment", categories=("new", "loyal")),
        EventFeature(name="days_since_purchase", source="events", type="purchase", measure="days_since_last"),
        TimeFeature(name="month", source="time", measure="month"),
    ]
    state = np.array([[1, 9999, 6], [-1, 12, 6]], dtype=np.float32)
    found = named(np.array([[0, 1, -1], [1, 0, 2]]), state, features)
    assert found.tolist() == [
        "; speaks for it: segment = loyal, days since purchase = never",
        "; speaks for it: days since purchase = 12, segment = unknown, month = 6",
    ]
    assert named(np.array([[-1, -1, -1]]), state[:1], features).tolist() == [""]
