"""A night's draw within capacities and a budget, over random catalogues, arms and wishes."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nba_tasks.shape import CatalogueAction, Shape
from nba_tasks.tonight import BUDGET, Night, draw_night, limits_of
from tests.loop import sales_channels

CHANNELS = ("email", "mail", "phone")


def shape_with(capacities: list[int | None], channels: dict[str, int | None], budget: float | None) -> Shape:
    """no_action, then an action for each capacity, over the channels in turn, dearer from one to the next."""
    programme = sales_channels(
        channels={name: {"daily_limit": limit} for name, limit in channels.items()},
        publish={"budget": budget},
        rules=[],
    )
    actions = [CatalogueAction(0, "no_action", None, 0.0, None, None, ())]
    actions += [
        CatalogueAction(i, f"offer_{i}", CHANNELS[i % 3], 0.3 * i, None, None, (), capacity)
        for i, capacity in enumerate(capacities, start=1)
    ]
    return Shape(programme, dt.date(2026, 6, 3), tuple(actions))


def wishes(seed: int, n: int, n_actions: int) -> dict[str, Any]:
    """Arms, values (some unknown), eligible actions, probabilities and uniform numbers."""
    random = np.random.default_rng(seed)
    arm = random.choice(["h", "b", "s"], n, p=[0.1, 0.2, 0.7])
    eligible = random.random((n, n_actions)) < 0.7
    eligible[:, 0] |= ~eligible.any(axis=1)
    eligible[arm == "h"] = np.arange(n_actions) == 0
    probability = eligible * random.dirichlet(np.ones(n_actions), n)
    probability[:, -1] *= random.random(n) < 0.5  # no support, here and there
    probability[:, 0] += probability.sum(axis=1) == 0
    value = random.gamma(1, 1, (n, n_actions)).astype(np.float64)
    value[random.random(n) < 0.1] = np.nan
    return {
        "arm": arm,
        "value": value,
        "eligible": eligible,
        "probability": probability / probability.sum(axis=1, keepdims=True),
        "uniform": random.random(n),
    }


def drawn(shape: Shape, given_: dict[str, Any], seed: int = 1) -> Night:
    return draw_night(shape, seed=seed, **{k: v for k, v in given_.items() if k != "eligible"})


@settings(deadline=None, max_examples=80)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 200),
    capacities=st.lists(st.none() | st.integers(0, 30), min_size=1, max_size=7),
    phone=st.none() | st.integers(0, 20),
    budget=st.none() | st.floats(0, 60),
)
def test_no_list_breaks_a_limit_an_arm_or_a_rule(
    seed: int, n: int, capacities: list[int | None], phone: int | None, budget: float | None
) -> None:
    shape = shape_with(capacities, {"email": None, "mail": None, "phone": phone}, budget)
    wished = wishes(seed, n, len(shape.actions))
    night = drawn(shape, wished)
    contacts = np.bincount(night.action, minlength=len(shape.actions))
    for action in shape.actions:
        assert action.daily_capacity is None or contacts[action.index] <= action.daily_capacity
    if phone is not None:
        assert sum(contacts[a.index] for a in shape.actions if a.channel == "phone") <= phone
    if budget is not None:
        assert sum(contacts[a.index] * a.cost for a in shape.actions) <= budget + 1e-6
    assert (night.action[wished["arm"] == "h"] == 0).all()
    rows = np.arange(n)
    # Nothing is drawn that had no chance before: it is forbidden, or without support. Being left alone is possible.
    assert ((wished["probability"][rows, night.action] > 0) | (night.action == 0)).all()
    assert (night.probability[rows, night.action] > 0).all()
    assert night.probability.sum(axis=1) == pytest.approx(np.ones(n))
    again = drawn(shape, wished)
    assert (again.action == night.action).all(), "a repeated run draws alike"


def test_arms_get_their_share_of_scarce_slots() -> None:
    """Ten calls for 200 customers who all want one, a fifth of them business as usual: two of the ten are theirs."""
    shape = shape_with([10], {"email": None, "mail": None, "phone": None}, None)
    n = 200
    arm = np.where(np.arange(n) % 5 == 0, "b", "s")
    value = np.column_stack([np.zeros(n), 1 + np.arange(n) / n])
    night = draw_night(
        shape,
        arm,
        value,
        np.tile([0.0, 1.0], (n, 1)),
        np.random.default_rng(0).random(n),
        3,
    )
    assert night.probability[arm == "b", 1].sum() == pytest.approx(2, abs=0.01)
    assert night.probability[arm == "b", 1] == pytest.approx(np.full(40, 0.05), rel=1e-3)
    served = night.probability[arm == "s", 1]
    assert served.sum() == pytest.approx(8, abs=0.01)
    # Nine tenths of the served slots go to the best customers, a tenth is dealt out evenly.
    assert served[-5:] == pytest.approx(np.ones(5), abs=1e-3)
    assert served[-10:].sum() > 7.2
    assert served.min() == pytest.approx(0.1 * 8 / 160, rel=0.01)
    (use,) = night.uses
    assert use.used == 10
    assert use.wished == n
    assert use.price is not None
    assert use.price > 0
    assert "one more slot is worth" in str(use)


def test_without_limits_everybody_is_drawn_for_alone() -> None:
    shape = shape_with([None, None], {"email": None, "mail": None, "phone": None}, None)
    wished = wishes(3, 50, 3)
    night = drawn(shape, wished)
    assert night.uses == ()
    assert (night.probability == wished["probability"]).all()
    assert (drawn(shape, wished, seed=2).action == night.action).all(), "by the customers' own numbers"


def test_limits_are_read_from_the_catalogue_and_the_file() -> None:
    shape = shape_with([None, 7, 3], {"email": 50, "mail": None, "phone": None}, 12.5)
    assert [(limit.name, limit.at_most) for limit in limits_of(shape)] == [
        ("offer_2", 7.0),
        ("offer_3", 3.0),
        ("channel email", 50.0),
        (BUDGET, 12.5),
    ]
