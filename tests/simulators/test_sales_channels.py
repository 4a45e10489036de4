"""The sales-channels simulator: frozen, consistent with the contract and with the programme, and honest about truth."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from nba_tasks.dataset import Transitions
from nba_tasks.hashing import hash63
from nba_tasks.programme import Cap, CustomerFeature, Event, EventFeature, read_programme
from nba_tasks.simulators import channels_world as world
from nba_tasks.simulators import sales_channels as sc
from nba_tasks.simulators.choice import Bools, Floats, Policy
from nba_tasks.simulators.crm import History
from nba_tasks.simulators.market import AGE_BANDS, CONTACT_DOES_NOTHING, DEFAULT, MARKETS, MYOPIC_IS_OPTIMAL, SEGMENTS
from nba_tasks.simulators.sales_channels_history import ZONE, to_history

PROGRAMME = read_programme(Path(__file__).parents[2] / "dags" / "programmes" / "sales_channels.yaml")
AS_OF = dt.date(2026, 4, 9)  # a Thursday two weeks after a change of clocks
FROZEN = {1: "fb03a505b4bbfb72"}
"""SHA-256 of a small history by version: raise `VERSION` with every change of the simulator."""


@pytest.fixture(scope="module")
def simulation() -> sc.Simulation:
    return sc.simulate(1500, 5, as_of=AS_OF)


@pytest.fixture(scope="module")
def history(simulation: sc.Simulation) -> History:
    return to_history(simulation)


@pytest.fixture(scope="module")
def transitions(simulation: sc.Simulation) -> Transitions:
    return sc.to_transitions(simulation)


def always(action: int) -> Policy:
    """The same action for everybody who may be given it, else none."""

    def policy(state: NDArray[np.float32], eligible: Bools) -> Floats:
        return np.asarray(np.eye(len(world.ACTIONS))[np.where(eligible[:, action], action, 0)])

    return policy


def local_date(instants: pd.Series[pd.Timestamp]) -> NDArray[np.datetime64]:
    return instants.dt.tz_convert(ZONE).dt.tz_localize(None).to_numpy("datetime64[D]")


def test_the_simulator_is_frozen() -> None:
    history = to_history(sc.simulate(200, 1, as_of=dt.date(2026, 6, 1)))
    text = "".join(
        getattr(history, name).to_csv(index=False, float_format="%.2f")
        for name in ("customers", "decisions", "contacts", "events")
    )
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == FROZEN[sc.VERSION]


def test_programme_and_simulator_agree() -> None:
    assert PROGRAMME.programme == sc.PROGRAMME
    assert PROGRAMME.salt == sc.SALT
    assert PROGRAMME.grid.anchor == sc.ANCHOR
    assert PROGRAMME.grid.interval_days == world.INTERVAL
    assert PROGRAMME.grid.settlement_lag_days == sc.SETTLEMENT_LAG
    assert PROGRAMME.grid.zone == ZONE
    assert PROGRAMME.feature_names == world.FEATURES
    assert tuple(PROGRAMME.events) == world.EVENTS
    assert tuple(event.weight for event in PROGRAMME.events.values()) == sc.WEIGHTS
    assert PROGRAMME.events["purchase"].measure == "value"
    assert PROGRAMME.events["unsubscribe"] == Event(harm=True, ends=True)
    caps = {rule.channel: (rule.max, rule.epochs) for rule in PROGRAMME.rules if isinstance(rule, Cap)}
    assert caps == {"mail": (1, world.MAIL_EPOCHS), "phone": (1, world.PHONE_EPOCHS)}
    categories = {f.name: f.categories for f in PROGRAMME.state if isinstance(f, CustomerFeature)}
    assert (categories["segment"], categories["age_band"]) == (SEGMENTS, AGE_BANDS)


def test_transitions_are_well_formed(transitions: Transitions) -> None:
    transitions.check()
    taken = ~transitions.open
    assert transitions.eligible_logged[taken][np.arange(taken.sum()), transitions.action[taken]].all()
    assert (transitions.propensity[taken] >= world.FLOOR - 1e-6).all()
    assert transitions.done.any()
    assert len(sc.catalogue()) == transitions.n_actions


def test_probabilities_are_distributions_over_eligible_actions(history: History) -> None:
    decisions = history.decisions
    sets = [text.strip("{}").split(",") for text in decisions["eligible_actions"]]
    shares = [[float(share) for share in text.strip("{}").split(",")] for text in decisions["probabilities"]]
    assert all(len(allowed) == len(row) for allowed, row in zip(sets, shares, strict=True))
    assert all(abs(sum(row) - 1) < 1e-9 and min(row) > 0 for row in shares)
    assert all(action in allowed for action, allowed in zip(decisions["action_id"], sets, strict=True))
    frequency = (decisions["action_id"] == "email").mean()
    expected = [
        row[allowed.index("email")] if "email" in allowed else 0.0 for allowed, row in zip(sets, shares, strict=True)
    ]
    # Fails by chance in 6 of 100,000 seeds; this one is fixed.
    assert abs(frequency - np.mean(expected)) < 4 * 0.5 / np.sqrt(len(decisions))


def test_nobody_acts_before_being_created_or_from_as_of_on(history: History) -> None:
    created = history.customers.set_index("customer_id")["created_at"]
    for rows, column in ((history.events, "occurred_at"), (history.contacts, "contacted_at")):
        assert (rows[column].to_numpy() > created.loc[rows["customer_id"]].to_numpy()).all()
        assert (local_date(rows[column]) < np.datetime64(AS_OF)).all()
    for rows in (history.events, history.contacts, history.decisions):
        assert rows.iloc[:, 0].is_unique


def test_consent_is_respected(history: History) -> None:
    contacts = history.contacts.assign(attribute="consent_" + history.contacts["action_id"]).sort_values("contacted_at")
    changes = history.customer_changes.sort_values("changed_at")
    known = pd.merge_asof(
        contacts, changes, left_on="contacted_at", right_on="changed_at", by=["customer_id", "attribute"]
    )
    assert (known["value"] == "true").all()
    assert (changes["value"] == "false").groupby(changes["customer_id"]).any().any()
    last = changes.groupby(["customer_id", "attribute"])["value"].last().unstack()
    today = history.customers.set_index("customer_id")[list(last.columns)]
    assert (last.sort_index() == today.sort_index()).all(axis=None)


def test_caps_are_respected(history: History) -> None:
    contacts = history.contacts.assign(day=local_date(history.contacts["contacted_at"]))
    for channel, epochs in (("mail", world.MAIL_EPOCHS), ("phone", world.PHONE_EPOCHS)):
        own = contacts[contacts["action_id"] == channel].sort_values(["customer_id", "day"])
        gap = own.groupby("customer_id")["day"].diff().dropna()
        assert len(gap)
        assert gap.min() >= pd.Timedelta(days=epochs * world.INTERVAL)


def test_nothing_follows_an_unsubscribe(history: History) -> None:
    gone = history.events[history.events["event_type"] == "unsubscribe"].set_index("customer_id")["occurred_at"]
    assert len(gone)
    for rows, column in ((history.events, "occurred_at"), (history.decisions, "decided_at")):
        theirs = rows[rows["customer_id"].isin(gone.index)]
        assert (theirs[column].to_numpy() <= gone.loc[theirs["customer_id"]].to_numpy()).all()


def test_states_are_what_the_history_says(history: History, transitions: Transitions) -> None:
    """Recomputes, literally, event features and the epoch's grid for a hundred rows."""
    events = history.events.assign(day=local_date(history.events["occurred_at"]))
    rng = np.random.default_rng(0)
    busy = np.flatnonzero(transitions.state[:, world.FEATURES.index("visits_2")] > 0)
    for row in rng.choice(busy, 100, replace=False):
        customer, epoch = int(transitions.customer[row]), int(transitions.epoch[row])
        offset = hash63(sc.PROGRAMME, "offset", sc.SALT, customer) % world.INTERVAL
        start = np.datetime64(sc.ANCHOR) + np.timedelta64(offset + world.INTERVAL * epoch, "D")
        own = events[(events["customer_id"] == customer) & (events["day"] < start)]
        for i, feature in enumerate(PROGRAMME.state):
            if not isinstance(feature, EventFeature):
                continue
            chosen = own[own["event_type"] == feature.type]
            if feature.measure == "days_since_last":
                expected = (start - chosen["day"].max()).days if len(chosen) else feature.missing
            else:
                begin = start - np.timedelta64((feature.epochs or 1000) * world.INTERVAL, "D")
                expected = (chosen["day"] >= begin).sum()
            assert transitions.state[row, i] == expected, feature.name


def test_rewards_are_what_the_history_says(history: History, transitions: Transitions) -> None:
    started = (AS_OF - dt.timedelta(days=sc.SETTLEMENT_LAG + world.INTERVAL)).isoformat()
    early = history.contacts[local_date(history.contacts["contacted_at"]) <= np.datetime64(started)]
    contacts, cost = (transitions.outcomes[:, transitions.outcome_names.index(name)] for name in ("contacts", "cost"))
    assert contacts.sum() == len(early)
    price = dict(zip(world.ACTIONS, sc.catalogue().cost, strict=True))
    assert cost.sum() == pytest.approx(early["action_id"].map(price).sum(), rel=1e-5)
    np.testing.assert_allclose(transitions.reward, sc.reward_of(transitions.outcomes.astype(np.float64)), atol=1e-4)


def test_more_customers_only_add_customers() -> None:
    few, many = sc.simulate(50, 9), sc.simulate(80, 9)
    np.testing.assert_array_equal(few.action, many.action[:50])
    np.testing.assert_array_equal(few.state, many.state[:50])


def test_blocks_have_customers_of_their_own() -> None:
    block = to_history(sc.simulate(30, 9, first_customer=101))
    assert block.customers["customer_id"].min() == 101
    assert set(block.events["customer_id"]) <= set(range(101, 131))


def test_window_values_are_paired() -> None:
    logging = world.logging_policy(DEFAULT)
    first = sc.window_value(logging, 4, 0.95, 800, 3)
    again = sc.window_value(logging, 4, 0.95, 800, 3)
    none = sc.window_value(always(0), 4, 0.95, 800, 3)
    np.testing.assert_array_equal(first.returns, again.returns)
    np.testing.assert_array_equal(first.customer, none.customer)
    assert none.objectives["contacts"] == 0
    # Common luck: most windows without a contact earn the same, so the difference varies less than either return.
    assert np.var(first.returns - none.returns) < np.var(first.returns)


def test_window_value_of_the_logging_policy_is_what_was_logged() -> None:
    """The mean over the log's own windows, exactly: both play the same luck."""
    h, discount, n = 4, 0.9, 600
    transitions = sc.to_transitions(sc.simulate(n, 6, as_of=AS_OF))
    value = sc.window_value(world.logging_policy(DEFAULT), h, discount, n, 6, lost_customer_value=5, as_of=AS_OF)
    frame = pd.DataFrame(
        {
            "customer": transitions.customer,
            "window": transitions.epoch // h,
            "t": transitions.epoch % h,
            "reward": (transitions.reward - 5 * transitions.lost) * discount ** (transitions.epoch % h),
            "open": transitions.open,
        }
    )
    windows = frame.groupby(["customer", "window"]).agg(
        first=("t", "min"), length=("t", "size"), cut=("open", "any"), total=("reward", "sum")
    )
    grid = sc.grid_of(n, 6, AS_OF, DEFAULT)
    last = dict(
        zip(grid.customer, (np.datetime64(AS_OF) - np.datetime64(sc.ANCHOR)).astype(int) - 3 - grid.offset, strict=True)
    )
    keys = windows.index.to_frame()
    settled = (keys["window"] + 1) * h * world.INTERVAL <= keys["customer"].map(last)
    complete = windows[(windows["first"] == 0) & settled]
    assert not complete["cut"].any()
    assert len(complete) == len(value.returns)
    assert complete["total"].mean() == pytest.approx(value.mean, abs=1e-4)


def test_named_markets_are_what_they_say() -> None:
    """Contact that does nothing only costs; where nothing lasts, no parameter that outlives a week is left."""
    idle = sc.window_value(always(0), 4, 1.0, 1000, 4, CONTACT_DOES_NOTHING)
    busy = sc.window_value(always(1), 4, 1.0, 1000, 4, CONTACT_DOES_NOTHING)
    cost = idle.returns - busy.returns
    assert (cost >= 0).all()
    assert cost.mean() == pytest.approx(0.02 * busy.objectives["contacts"])
    market = MYOPIC_IS_OPTIMAL
    assert (market.delay, market.fatigue, market.irritation, market.satiation, market.warm_boost) == (0, 0, 0, 1, 1)
    assert set(MARKETS) == {"default", "myopic_is_optimal", "contact_does_nothing", "quiet"}


def test_a_career_counts_every_week() -> None:
    value = sc.career_value(always(0), 5, 1.0, 300, 8, replace(DEFAULT, base_purchase=(0.0,) * 4))
    assert value.mean == 0
    assert len(value.returns) == 300


def test_a_policy_must_respect_eligibility() -> None:
    with pytest.raises(ValueError, match="eligible"):
        sc.simulate(50, 1, policy=lambda state, eligible: np.full(eligible.shape, 0.25))


def test_a_date_before_the_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="too early"):
        sc.simulate(10, 1, as_of=dt.date(2024, 3, 1))
