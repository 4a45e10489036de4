"""What the gate judges is what is published, the prices of scarce slots included."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pytest

from bench.study_loop import catalogue_of, programme_of, split_customers
from nba_tasks import policy_store
from nba_tasks.average_night import evenly, rows_now, scaled
from nba_tasks.bounds import Clusters
from nba_tasks.capacity import Limit, movable
from nba_tasks.dataset import BoolArray, FloatArray
from nba_tasks.estimators import on_windows
from nba_tasks.loading import Loaded, Split
from nba_tasks.policy import Floats, ServedPolicy
from nba_tasks.programme import Programme
from nba_tasks.shape import CatalogueAction, Shape
from nba_tasks.simulators import sales_channels
from nba_tasks.simulators.channels_world import PHONE
from nba_tasks.tonight import draw_night, limits_of
from nba_tasks.train import fit
from nba_tasks.trial import Side, sides_of

CUSTOMERS, CALLS = 6_000, 5

Judged = tuple[Programme, ServedPolicy, dict[Split, Side], dict[Split, Side]]


@pytest.fixture(scope="module")
def judged() -> Judged:
    """A candidate that would call far more than the five customers a night whom the agents can call."""
    programme = programme_of("sales_channels")
    learning = programme.learning.model_copy(update={"trees": 20, "refits": 1, "max_sweeps": 30})
    programme = programme.model_copy(update={"learning": learning})
    simulation = sales_channels.simulate(CUSTOMERS, 3)
    grid, played = simulation.grid, sales_channels.to_transitions(simulation)
    settled = np.sum([grid.settled(epoch) for epoch in grid.epochs], axis=0)
    last = grid.epochs.start + settled - 1
    splits = split_customers(programme, played, last[np.searchsorted(grid.customer, played.customer)])
    catalogue = catalogue_of(programme, sales_channels.catalogue(), grid.as_of)
    behaviour, fitted = fit(programme, splits["learn"].transitions, catalogue, 0)
    layers = programme.layers
    served = ServedPolicy(behaviour, fitted.q, behaviour, support=layers.support, mix=1.0, epsilon=layers.epsilon)
    free = sides_of(programme, splits, served)
    return programme, served, free, sides_of(programme, splits, served, limits_of(shape_of(programme)))


def shape_of(programme: Programme) -> Shape:
    known = sales_channels.catalogue()
    rows = zip(known.ids, known.channels, known.cost.tolist(), strict=True)
    capacity = {PHONE: CALLS}
    actions = (CatalogueAction(i, *row, None, None, (), capacity.get(i)) for i, row in enumerate(rows))
    return Shape(programme, sales_channels.AS_OF, tuple(actions))


def test_where_nothing_is_limited_nothing_changes(judged: Judged) -> None:
    _, served, free, _ = judged
    side = free["gate"]
    wished = served.mixtures(side.q, side.behaviour_target, side.incumbent, side.data.eligible_target)(0.3)
    np.testing.assert_array_equal(side.candidate(served, 0.3), wished)
    assert side.incumbent is side.incumbent_wished
    assert side.night is None


def test_gate_prices_keep_an_average_nights_slots_and_every_rule(judged: Judged) -> None:
    """The gate split's customers ask for their part of the calls, though the prices know nothing of them."""
    programme, served, free, limited = judged
    now = {split: rows_now(side.data) for split, side in limited.items()}
    due = sum(map(len, now.values())) / programme.grid.interval_days
    splits: tuple[tuple[Split, float], ...] = (("learn", 1e-4), ("gate", 0.6))
    for split, tolerance in splits:
        side, before, rows = limited[split], free[split], now[split]
        share = len(rows) / due
        for mix in (0.2, 1.0):
            candidate = side.candidate(served, mix)
            assert before.candidate(served, mix)[rows, PHONE].sum() > 2 * CALLS * share
            assert candidate[rows, PHONE].sum() <= CALLS * share * (1 + tolerance)
            assert candidate[rows, PHONE].sum() >= CALLS * share * (1 - tolerance)
            np.testing.assert_allclose(candidate.sum(axis=1), 1)
            assert not (candidate > 0)[~movable(before.candidate(served, mix), side.q)].any()
        assert side.incumbent[rows, PHONE].sum() == pytest.approx(CALLS * share, rel=tolerance)


def test_a_sample_of_the_customers_has_as_much_of_the_slots(judged: Judged) -> None:
    """Half of every split is read: the limits are those of the whole night, and half of them are the sample's."""
    programme, served, _, limited = judged
    whole = limited["gate"].night
    assert whole is not None
    halves: dict[Split, Loaded] = {}
    for split, side in limited.items():
        kept = side.data.customer % 2 == 0
        halves[split] = Loaded(side.data.rows(kept), np.full(kept.sum(), int(side.data.epoch.max())), share=0.5)
    night = sides_of(programme, halves, served, limits_of(shape_of(programme)))["gate"].night
    assert night is not None
    (all_of_it,), (its,) = whole.limits, night.limits
    assert its.at_most / len(night.q) == pytest.approx(all_of_it.at_most / len(whole.q), rel=0.05)


def test_a_night_is_published_almost_as_it_was_judged(judged: Judged) -> None:
    """A night of the gate split's customers, its calls scaled to them, is priced anew as publishing prices it."""
    programme, served, free, limited = judged
    side = free["gate"]
    rows = rows_now(side.data)
    arm = np.full(len(rows), "s")
    wished = side.candidate(served, 0.5)[rows]
    limit = scaled(limits_of(shape_of(programme)), len(rows), len(rows) / 0.3 / programme.grid.interval_days)
    known = sales_channels.catalogue()
    slots = int(limit[0].at_most)
    catalogue = zip(known.ids, known.channels, known.cost.tolist(), strict=True)
    actions = (
        CatalogueAction(i, *row, None, None, (), slots if i == PHONE else None) for i, row in enumerate(catalogue)
    )
    shape = Shape(programme, dt.date(2026, 6, 1), tuple(actions))
    night = limited["gate"].night
    assert night is not None
    at_training = night.of_candidate(served, 0.5)
    uniform = np.random.default_rng(1).random(len(rows))
    drawn = draw_night(shape, arm, side.q[rows], wished, uniform, 5, at_training)
    (use,) = drawn.uses
    assert use.price_at_training == at_training.of_limits["phone"]
    assert use.price is not None
    assert use.price > 0
    assert "the gate reckoned with" in str(use)
    frozen = limited["gate"].candidate(served, 0.5)[rows]
    moved = np.abs(wished - drawn.probability).sum()
    assert np.abs(frozen - drawn.probability).sum() < 0.35 * moved


def test_what_the_gate_estimates_is_what_the_priced_policy_spends(judged: Judged) -> None:
    """The weighted cost of the judged windows is that of the priced policy, played by new customers.

    A call costs a hundred times an e-mail. The difference must lie within four standard errors of the estimate and the
    3% that 3,000 customers' own truth may be off (false alarm below 1 in 10,000, and the seeds are fixed).
    """
    programme, served, _, limited = judged
    night = limited["gate"].night
    assert night is not None
    prices = night.of_incumbent

    def priced(state: FloatArray, eligible: BoolArray) -> Floats:
        wished = served.incumbent.probabilities(state, eligible)
        return prices.within(wished, np.full(wished.shape, np.nan))

    horizon, discount = programme.gate.horizon, programme.learning.discount
    truth, unlimited = (
        sales_channels.window_value(policy, horizon, discount, 3_000, 99).objectives["cost"]
        for policy in (priced, served.incumbent.probabilities)
    )
    side = limited["gate"]
    sample = side.sample(programme, 0.0)
    cost = on_windows(side.data.outcomes[:, -1], sample.windows) * discount ** np.arange(horizon)
    found = Clusters(sample.windows.customer).mean((sample.weigh(side.incumbent) * cost).sum(axis=1))
    assert abs(found.value - truth) < 4 * found.standard_error + 0.03 * truth
    assert unlimited - truth > 3 * (4 * found.standard_error + 0.03 * truth), "or the test would say nothing"


def test_prices_are_stored_with_the_version(judged: Judged, tmp_path: Path) -> None:
    programme, served, _, limited = judged
    night = limited["gate"].night
    assert night is not None
    prices = night.of_candidate(served, 0.4)
    incumbent = policy_store.StoredPolicy(served.incumbent, programme.feature_names, ("a", "b", "c", "d"))
    policy = ServedPolicy(incumbent, served.q, served.behaviour, support=0.05, mix=0.4, epsilon=0.05)
    stored = policy_store.StoredPolicy(policy, programme.feature_names, ("a", "b", "c", "d"), prices)
    policy_store.save(stored, tmp_path / "policy")
    again = policy_store.load(tmp_path / "policy").prices
    assert again is not None
    assert again.of_limits == prices.of_limits
    rows = rows_now(limited["gate"].data)
    wished, value = limited["gate"].incumbent_wished[rows], limited["gate"].q[rows]
    np.testing.assert_array_equal(again.within(wished, value), prices.within(wished, value))
    assert policy_store.load(tmp_path / "policy" / "incumbent").prices is None


def test_an_average_night_is_the_customers_who_are_there_now() -> None:
    assert len(evenly(np.arange(250), 100)) == 84
    assert scaled([Limit("call", (0.0, 1.0), 10)], 50, 200) == (Limit("call", (0.0, 1.0), 2.5),)
