"""The tutorial's testbed [1]_: three offers in a hundred days, and only offer 1 followed by offer 3 pays.

Every day brings nothing, a visit or a purchase (.90 / .08 / .02); once offer 1 has preceded offer 3 the chances are
.70 / .08 / .22, which they also are on one day in ten by mere luck. The hundred days are four epochs of 25; an offer
lands at the start of the last three, nothing may be offered in the first. Small enough to know every policy's value
exactly.

References
----------
.. [1] Grid Dynamics: Building a next best action model using reinforcement learning. 2019.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nba_tasks.dataset import Catalogue, Transitions
from nba_tasks.simulators.choice import Bools, Floats, Ints, Policy, drawn
from nba_tasks.simulators.clock import day_number, instants
from nba_tasks.simulators.crm import History, array_literals, catalogue_rows, no_changes

ANCHOR = dt.date(2026, 1, 1)
ZONE = ZoneInfo("Europe/Berlin")
EPOCHS, DAYS = 4, 25
AS_OF = ANCHOR + dt.timedelta(days=EPOCHS * DAYS)  # the first day on which the whole testbed lies in the past

ACTIONS = ("no_action", "offer_1", "offer_2", "offer_3")
OFFERS = (1, 2, 3)
EVENTS = ("visit", "purchase")
OUTCOMES = (*EVENTS, "contacts", "cost")
FEATURES = ("age_group", "visits", "epoch", "days_since_offer_1", "days_since_offer_2", "days_since_offer_3")
FEATURE_COLUMNS = {"age_group": "integer"}
MISSING_DAYS = 9999

VISIT, USUAL, BOOSTED = 0.08, 0.02, 0.22  # chances per day; a visit's is always the same
LUCK = 0.10

Sequence = tuple[int, ...]
"""Offers received, in order."""


def boosted(offers: Ints) -> Bools:
    """Whether offer 1 came before offer 3; `offers` of shape (n, k), 0 for none."""
    seen_1 = np.cumsum(offers == 1, axis=1) > 0
    return np.asarray((seen_1 & (offers == 3)).any(axis=1))


def purchases_of_epoch(offers: Sequence) -> float:
    """Expected purchases in the epoch that starts with the last of `offers`."""
    chance = BOOSTED if boosted(np.array([(0, *offers)]))[0] else USUAL
    return DAYS * ((1 - LUCK) * chance + LUCK * BOOSTED)


def eligible_of(epoch: int, n: int) -> Bools:
    """`no_action` alone in the first epoch, the three offers in the others; shape (n, n_actions)."""
    return np.tile(np.array([epoch == 0, *[epoch > 0] * len(OFFERS)]), (n, 1))


def state_of(age_group: Ints, visits: Ints, epoch: int, offers: Ints) -> NDArray[np.float32]:
    """States at an epoch's start, in the order of `FEATURES`; `offers` of shape (n, epoch): one per earlier epoch."""
    since = np.full((len(visits), len(OFFERS)), MISSING_DAYS)
    for earlier in reversed(range(epoch)):
        for i, offer in enumerate(OFFERS):
            since[offers[:, earlier] == offer, i] = DAYS * (epoch - earlier)
    return np.column_stack((age_group, visits, np.full(len(visits), epoch), since)).astype(np.float32)


def uniform_policy(state: NDArray[np.float32], eligible: Bools) -> Floats:
    """The logging policy: every eligible action with the same probability."""
    return np.asarray(eligible / eligible.sum(axis=1, keepdims=True))


def optimal_policy(state: NDArray[np.float32], eligible: Bools) -> Floats:
    """Written by hand: offer 1 until it was given, then offer 3."""
    given = state[:, FEATURES.index("days_since_offer_1")] < MISSING_DAYS
    choice = np.where(eligible[:, 0], 0, np.where(given, 3, 1))
    return np.eye(len(ACTIONS))[choice]


def optimal_value() -> float:
    """Purchases a customer under the best policy, by dynamic programming over offer sequences.

    Age and visits change nothing, so the best policy need not look at them.
    """

    def best(offers: Sequence) -> float:
        if len(offers) == EPOCHS - 1:
            return 0.0
        return max(purchases_of_epoch((*offers, offer)) + best((*offers, offer)) for offer in OFFERS)

    return purchases_of_epoch(()) + best(())


def policy_value(policy: Policy) -> float:
    """Expected purchases a customer under any policy: exact, by enumeration.

    Runs over age groups, offer sequences and visit counts. Visits do not depend on offers or luck, so their number
    before an epoch grows by an independent binomial(25, .08) each epoch, and it suffices to carry the probability of
    each (age group, sequence, visits).

    Raises
    ------
    ValueError
        The policy's probabilities are not a distribution over eligible actions.
    """
    growth = _binomial(DAYS, VISIT)
    mass: dict[Sequence, Floats] = {(): np.array([growth, growth]) / 2}  # by sequence: (age group, visits)
    value = purchases_of_epoch(())
    for epoch in range(1, EPOCHS):
        following: dict[Sequence, Floats] = {}
        for offers, weight in mass.items():
            ages, visits = weight.shape
            n = weight.size
            history = np.tile(np.array((0, *offers)), (n, 1))
            state = state_of(np.repeat(np.arange(ages), visits), np.tile(np.arange(visits), ages), epoch, history)
            eligible = eligible_of(epoch, n)
            chosen = np.asarray(policy(state, eligible), dtype=np.float64)
            if (chosen < 0).any() or (chosen[~eligible] > 0).any() or (np.abs(chosen.sum(axis=1) - 1) > 1e-6).any():
                raise ValueError("a policy must share a probability of 1 among the eligible actions of every state")
            for offer in OFFERS:
                arrived = weight * chosen[:, offer].reshape(weight.shape)
                following[(*offers, offer)] = np.array([np.convolve(row, growth) for row in arrived])
        value += sum(float(weight.sum()) * purchases_of_epoch(offers) for offers, weight in following.items())
        mass = following
    return value


def _binomial(n: int, p: float) -> Floats:
    """Probabilities of 0 ... n successes."""
    chances = np.ones(1)
    for _ in range(n):
        chances = np.convolve(chances, (1 - p, p))
    return chances


@dataclass(frozen=True)
class Simulation:
    """A played testbed.

    Attributes
    ----------
    age_group : int array of shape (n,)
    action : int array of shape (n, EPOCHS)
    probabilities : float array of shape (n, EPOCHS, n_actions)
    state : float array of shape (n, EPOCHS, n_features)
    events : int array of shape (n, EPOCHS * DAYS)
        Each day's event: 0 none, 1 visit, 2 purchase.
    second : int array of the same shape
        Wall-clock second of the day's event.
    """

    age_group: Ints
    action: Ints
    probabilities: Floats
    state: NDArray[np.float32]
    events: Ints
    second: Ints


def simulate(n: int, seed: int, policy: Policy = uniform_policy) -> Simulation:
    """Play a policy with `n` customers."""
    rng = np.random.default_rng([seed, 11])
    age_group = rng.integers(0, 2, n)
    action = np.zeros((n, EPOCHS), dtype=np.int64)
    probabilities = np.zeros((n, EPOCHS, len(ACTIONS)))
    state = np.zeros((n, EPOCHS, len(FEATURES)), dtype=np.float32)
    events = np.zeros((n, EPOCHS * DAYS), dtype=np.int64)
    for epoch in range(EPOCHS):
        first = epoch * DAYS
        visits = (events[:, :first] == 1).sum(axis=1)
        state[:, epoch] = state_of(age_group, visits, epoch, action[:, :epoch])
        probabilities[:, epoch] = policy(state[:, epoch], eligible_of(epoch, n))
        action[:, epoch] = drawn(probabilities[:, epoch], rng.random(n))
        lucky = rng.random((n, DAYS)) < LUCK
        purchase = np.where(boosted(action[:, : epoch + 1])[:, None] | lucky, BOOSTED, USUAL)
        u = rng.random((n, DAYS))
        events[:, first : first + DAYS] = np.where(u < VISIT, 1, np.where(u < VISIT + purchase, 2, 0))
    second = rng.integers(11 * 3600, 21 * 3600, events.shape)
    return Simulation(age_group, action, probabilities, state, events, second)


def catalogue() -> Catalogue:
    """The actions; features are one column per action."""
    n = len(ACTIONS)
    return Catalogue(ACTIONS, (None, *("offer",) * len(OFFERS)), np.zeros(n), np.eye(n, dtype=np.float32))


def to_transitions(simulation: Simulation) -> Transitions:
    """The fast path: four rows a customer, the last one `done`."""
    n = len(simulation.age_group)
    by_epoch = simulation.events.reshape(n, EPOCHS, DAYS)
    visits, purchases = (by_epoch == 1).sum(axis=2).ravel(), (by_epoch == 2).sum(axis=2).ravel()
    action = simulation.action.ravel()
    eligible = np.tile(np.concatenate([eligible_of(e, 1) for e in range(EPOCHS)]), (n, 1))
    done = np.tile(np.arange(EPOCHS) == EPOCHS - 1, n)
    rows = np.arange(n * EPOCHS)
    return Transitions(
        customer=np.repeat(np.arange(1, n + 1), EPOCHS),
        epoch=np.tile(np.arange(EPOCHS), n),
        state=simulation.state.reshape(n * EPOCHS, len(FEATURES)),
        action=action.astype(np.int16),
        reward=purchases.astype(np.float32),
        outcomes=np.column_stack((visits, purchases, action > 0, np.zeros_like(action))).astype(np.float32),
        eligible_logged=eligible,
        eligible_target=eligible,
        propensity=simulation.probabilities.reshape(n * EPOCHS, len(ACTIONS))[rows, action],
        done=done,
        lost=done.copy(),
        outcome_names=OUTCOMES,
    )


def to_history(simulation: Simulation, as_of: dt.date = AS_OF) -> History:
    """The contract's relations, with rows from before local midnight of `as_of` only.

    Accounts close in the evening of the hundredth day.
    """
    n, today = len(simulation.age_group), day_number(as_of) - day_number(ANCHOR)
    customer = np.arange(1, n + 1, dtype=np.int64)
    closed = np.full(n, day_number(ANCHOR) + EPOCHS * DAYS - 1)
    over = today >= EPOCHS * DAYS
    customers = pd.DataFrame(
        {
            "customer_id": customer,
            "created_at": instants(np.full(n, day_number(ANCHOR) - 1), 8 * 3600 + customer % 36_000, ZONE),
            "closed_at": instants(closed, np.full(n, 22 * 3600), ZONE) if over else pd.NaT,
            "age_group": simulation.age_group,
        }
    )
    row, epoch = (part.ravel() for part in np.indices((n, EPOCHS)))
    row, epoch = row[epoch * DAYS < today], epoch[epoch * DAYS < today]
    action, start = simulation.action[row, epoch], day_number(ANCHOR) + DAYS * epoch
    decision = customer[row] * 10 + epoch
    eligible = np.concatenate([eligible_of(e, 1) for e in range(EPOCHS)])[epoch]
    names = np.array(ACTIONS, dtype=object)
    decisions = pd.DataFrame(
        {
            "decision_id": decision,
            "customer_id": customer[row],
            "decided_at": instants(start, np.full(len(row), 6 * 3600), ZONE),
            "action_id": names[action],
            **array_literals(ACTIONS, eligible, simulation.probabilities[row, epoch]),
        }
    )
    made = action > 0
    contacts = pd.DataFrame(
        {
            "contact_id": decision[made],
            "customer_id": customer[row[made]],
            "contacted_at": instants(start[made], 9 * 3600 + decision[made] % 3600, ZONE),
            "action_id": names[action[made]],
            "decision_id": decision[made],
        }
    )
    who, day = np.nonzero((simulation.events > 0) & (np.arange(EPOCHS * DAYS) < today))
    events = pd.DataFrame(
        {
            "event_id": customer[who] * 1000 + day,
            "customer_id": customer[who],
            "occurred_at": instants(day_number(ANCHOR) + day, simulation.second[who, day], ZONE),
            "event_type": np.array(EVENTS, dtype=object)[simulation.events[who, day] - 1],
            "value": np.nan,
        }
    )
    return History(
        customers=customers,
        contacts=contacts,
        events=events,
        actions=catalogue_rows(
            ACTIONS, (None, *("offer",) * len(OFFERS)), [0.0] * len(ACTIONS), ANCHOR - dt.timedelta(days=1)
        ),
        customer_changes=no_changes("customer_id"),
        action_changes=no_changes("action_id"),
        decisions=decisions,
    )
