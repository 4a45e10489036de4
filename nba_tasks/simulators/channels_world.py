"""The customers of the sales-channels simulator: what they are, what is known of them, how they answer one week.

All arrays have one entry per customer; a week is played by all of them at once.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from nba_tasks.simulators.choice import Bools, Floats, Ints, Policy
from nba_tasks.simulators.market import CHANNELS, KERNEL_WEEKS, Market

ACTIONS = ("no_action", *CHANNELS)
EMAIL, MAIL, PHONE = 1, 2, 3

EVENTS = ("open", "click", "visit", "purchase", "complaint", "unsubscribe")
OPEN, CLICK, VISIT, PURCHASE, COMPLAINT, UNSUBSCRIBE = range(6)

FEATURES = (
    "segment", "age_band", "online_affinity", "basket", "consent_mail", "consent_phone", "emails_4", "contacts_2",
    "days_since_mail", "days_since_phone", "visits_2", "clicks_2", "days_since_purchase", "purchases",
)  # fmt: skip
MISSING_DAYS = 9999
NEVER = np.iinfo(np.int64).min
MAIL_EPOCHS, PHONE_EPOCHS = 2, 4  # caps: one letter in two epochs, one call in four
HISTORY = 4  # epochs of contacts that features and caps look back on

INTERVAL = 7
SATIATED_DAYS = 14
FLOOR = 0.03  # the logging policy gives every eligible action at least this probability
MAX_RATE = 0.25  # no irritation drives more than this share away with one contact

# Columns of a week's uniform draws.
DRAW_ACTION, DRAW_WITHDRAWAL, DRAW_DECIDED, DRAW_CONTACTED = range(4)
DRAW_OCCURS = 4  # one per event type
DRAW_MOMENT = DRAW_OCCURS + len(EVENTS)  # one per event type
N_DRAWS = DRAW_MOMENT + len(EVENTS)


@dataclass
class World:
    """Everything that decides how customers answer. What `state_of` does not show is hidden from policies."""

    segment: Ints
    age_band: Ints
    online_affinity: Floats  # 0 ... 1
    basket: Floats  # mean order value
    consent: Bools  # (n, 3)
    pressure: Floats
    pipeline: Floats  # (n, KERNEL_WEEKS): purchase rate that earlier contacts add to this and the coming weeks
    contacted: Ints  # (n, HISTORY): action of the last epochs, the latest first
    visited: Bools  # (n, 2)
    clicked: Bools  # (n, 2)
    last_mail: Ints  # local day; NEVER
    last_phone: Ints
    last_purchase: Ints
    purchases: Ints
    alive: Bools

    def rows(self, chosen: Bools | Ints) -> World:
        """A copy of the chosen customers."""
        return World(*(getattr(self, f.name)[chosen] for f in fields(self)))

    def put(self, chosen: Bools | Ints, part: World) -> None:
        """Write the chosen customers back."""
        for f in fields(self):
            getattr(self, f.name)[chosen] = getattr(part, f.name)


@dataclass(frozen=True)
class Week:
    """What happened in one epoch."""

    occurred: Bools  # (n, n_events)
    moment: Ints  # (n, n_events): seconds after the epoch's first local midnight, on the wall clock
    value: Floats  # of the order, 0 where there was none
    withdrawn: Bools  # consent to the contact's channel was withdrawn with the complaint


def population(n: int, seed: int, market: Market) -> World:
    """`n` customers without history. A larger `n` only adds customers behind the same first ones."""
    u = np.random.default_rng([seed, 1]).random((n, 7))
    segment = np.searchsorted(np.cumsum(market.segment_share)[:-1], u[:, 0], side="right").astype(np.int64)
    age_band = np.searchsorted(np.cumsum(market.age_share)[:-1], u[:, 1], side="right").astype(np.int64)
    # Younger customers are the more at home online; two decimals, as a CRM would keep a score.
    online_affinity = np.clip(0.65 - 0.15 * age_band + 0.5 * (u[:, 2] - 0.5), 0.05, 1.0).round(2).astype(np.float64)
    basket = np.round(np.asarray(market.order_value)[segment] * (0.7 + 0.6 * u[:, 3]), 2)
    never = np.full(n, NEVER)
    return World(
        segment=segment,
        age_band=age_band,
        online_affinity=online_affinity,
        basket=basket,
        consent=u[:, 4:7] < np.asarray(market.consent),
        pressure=np.zeros(n),
        pipeline=np.zeros((n, KERNEL_WEEKS)),
        contacted=np.zeros((n, HISTORY), dtype=np.int64),
        visited=np.zeros((n, 2), dtype=bool),
        clicked=np.zeros((n, 2), dtype=bool),
        last_mail=never.copy(),
        last_phone=never.copy(),
        last_purchase=never.copy(),
        purchases=np.zeros(n, dtype=np.int64),
        alive=np.ones(n, dtype=bool),
    )


def draws(seed: int, epoch: int, n: int) -> tuple[Floats, Floats]:
    """A week's random numbers: uniforms (n, N_DRAWS) and normals (n,), the same for every policy that is played."""
    uniform = np.random.default_rng([seed, 2, epoch]).random((n, N_DRAWS))
    return uniform, np.random.default_rng([seed, 3, epoch]).standard_normal(n)


def state_of(world: World, start: Ints) -> NDArray[np.float32]:
    """What a policy sees at the epochs' local start days, in the order of `FEATURES`; shape (n, n_features)."""

    def days_since(last: Ints) -> Ints:
        return np.where(last == NEVER, MISSING_DAYS, start - last)

    return np.column_stack(
        (
            world.segment,
            world.age_band,
            world.online_affinity,
            world.basket,
            world.consent[:, MAIL - 1],
            world.consent[:, PHONE - 1],
            (world.contacted == EMAIL).sum(axis=1),
            (world.contacted[:, :2] > 0).sum(axis=1),
            days_since(world.last_mail),
            days_since(world.last_phone),
            world.visited.sum(axis=1),
            world.clicked.sum(axis=1),
            days_since(world.last_purchase),
            world.purchases,
        )
    ).astype(np.float32)


def eligible_of(world: World) -> Bools:
    """What consent and caps allow, shape (n, n_actions)."""
    allowed = np.column_stack((np.ones(len(world.alive), dtype=bool), world.consent))
    allowed[:, MAIL] &= ~(world.contacted[:, : MAIL_EPOCHS - 1] == MAIL).any(axis=1)
    allowed[:, PHONE] &= ~(world.contacted[:, : PHONE_EPOCHS - 1] == PHONE).any(axis=1)
    return allowed


def moments(uniform: Floats) -> Ints:
    """When each event would happen, in wall-clock seconds after the epoch's first midnight; shape (n, n_events).

    All lie between 10:00 and 22:00, behind the contact: a click follows its open, a complaint ends its day, and an
    unsubscribe is the last word of its week.
    """
    u = uniform[:, DRAW_MOMENT:]
    day = np.floor(INTERVAL * u).astype(np.int64)
    second = 10 * 3600 + np.floor((INTERVAL * u - day) * 10 * 3600).astype(np.int64)
    second[:, OPEN] = 10 * 3600 + np.floor(9 * 3600 * u[:, OPEN]).astype(np.int64)
    second[:, CLICK] = second[:, OPEN] + 5 + np.floor(3000 * u[:, CLICK]).astype(np.int64)
    day[:, OPEN] = day[:, CLICK] = np.floor(u[:, OPEN] * 997 % 3).astype(np.int64)
    day[:, UNSUBSCRIBE] = INTERVAL - 1
    for event, hour in ((COMPLAINT, 20), (UNSUBSCRIBE, 21)):
        second[:, event] = hour * 3600 + np.floor(3600 * u[:, event]).astype(np.int64)
    return day * 86_400 + second


def play(world: World, action: Ints, start: Ints, uniform: Floats, normal: Floats, market: Market) -> Week:
    """Play one epoch: `world` is changed in place to what it is at the epoch's end.

    Parameters
    ----------
    action : int array of shape (n,)
    start : int array of shape (n,)
        The epoch's first local day of each customer.
    uniform, normal : arrays of shape (n, N_DRAWS) and (n,)
        The week's random numbers, see `draws`.
    """
    fit = _fit(world, action, market)
    world.pipeline += _added_purchases(world, action, fit, market)
    rate = _rates(world, action, start, fit, market)
    occurred = uniform[:, DRAW_OCCURS:DRAW_MOMENT] < rate
    occurred[:, CLICK] &= occurred[:, OPEN]
    moment = moments(uniform)
    mean_one = np.exp(market.order_spread * normal - market.order_spread**2 / 2)
    value = np.where(occurred[:, PURCHASE], np.round(world.basket * mean_one, 2), 0.0)
    withdrawn = occurred[:, COMPLAINT] & (uniform[:, DRAW_WITHDRAWAL] < market.withdrawal)

    world.pipeline[:, :-1] = world.pipeline[:, 1:]
    world.pipeline[:, -1] = 0
    world.pressure *= market.pressure_decay
    world.pressure += np.array((0.0, *market.pressure_weight))[action]
    world.contacted = np.column_stack((action, world.contacted[:, :-1]))
    world.visited = np.column_stack((occurred[:, VISIT], world.visited[:, 0]))
    world.clicked = np.column_stack((occurred[:, CLICK], world.clicked[:, 0]))
    world.last_mail = np.where(action == MAIL, start, world.last_mail)
    world.last_phone = np.where(action == PHONE, start, world.last_phone)
    bought = start + moment[:, PURCHASE] // 86_400
    world.last_purchase = np.where(occurred[:, PURCHASE], bought, world.last_purchase)
    world.purchases = world.purchases + occurred[:, PURCHASE]
    world.consent[withdrawn, action[withdrawn] - 1] = False
    world.alive = world.alive & ~occurred[:, UNSUBSCRIBE]
    return Week(occurred, moment, value, withdrawn)


def _fit(world: World, action: Ints, market: Market) -> Floats:
    """How well the channel suits the customer, less the fatigue of earlier contacts; shape (n,)."""
    n = len(action)
    fit = np.ones((n, len(ACTIONS)))
    fit[:, EMAIL] = 2 * world.online_affinity
    fit[:, MAIL] = np.asarray(market.mail_fit)[world.age_band]
    return np.asarray(fit[np.arange(n), action] * np.exp(-market.fatigue * world.pressure))


def _added_purchases(world: World, action: Ints, fit: Floats, market: Market) -> Floats:
    """What the contact adds to the purchase rates of this and the coming weeks, shape (n, KERNEL_WEEKS)."""
    warm = world.visited.any(axis=1) | world.clicked.any(axis=1)
    effect = np.array((0.0, market.email_effect, market.mail_effect, market.phone_effect))[action]
    effect = effect * fit * np.asarray(market.segment_response)[world.segment]
    effect = np.where((action == PHONE) & warm, effect * market.warm_boost, effect)
    return np.asarray(effect[:, None] * _kernels(market)[action])


def _rates(world: World, action: Ints, start: Ints, fit: Floats, market: Market) -> Floats:
    """Probability of each event in this epoch, shape (n, n_events); a click's is given its open."""
    irritation = np.exp(market.irritation * world.pressure)
    satiated = (world.last_purchase != NEVER) & (start - world.last_purchase <= SATIATED_DAYS)
    hazard = np.asarray(market.base_purchase)[world.segment] + world.pipeline[:, 0]
    hazard = np.where(satiated, market.satiation * hazard, hazard)
    added_visits = np.array((0.0, market.email_visit, market.mail_visit, market.phone_visit))[action]
    leaves = market.unsubscribe_base + np.array((0.0, *market.unsubscribe))[action] * irritation
    return np.column_stack(
        (
            np.where(action == EMAIL, np.minimum(1.0, market.open_rate * fit), 0.0),
            np.full(len(action), market.click_rate),
            np.minimum(1.0, np.asarray(market.base_visit)[world.segment] + added_visits * fit),
            -np.expm1(-hazard),
            np.minimum(MAX_RATE, np.array((0.0, *market.complaint))[action] * irritation),
            np.minimum(MAX_RATE, leaves),
        )
    )


def _kernels(market: Market) -> Floats:
    """Share of each action's effect that lands in each week from the contact's own on; rows sum to 1."""
    kernels = np.zeros((len(ACTIONS), KERNEL_WEEKS))
    kernels[EMAIL, 0] = 1
    # Two thirds of a letter's later answers come in its second week; a call's follow-up is a third of a letter's.
    later = np.array((10.0, 4.0, 1.0)) / 15
    kernels[MAIL] = (1 - market.delay, *(market.delay * later))
    kernels[PHONE] = (1 - market.delay / 3, market.delay / 3, 0, 0)
    return kernels


def logging_policy(market: Market) -> Policy:
    """What the CRM team did before: sensible habits with a random part.

    E-mail to nearly everybody, letters to the older and the better customers, calls after a visit; customers who just
    bought get more attention (they are "hot"), and nobody counts how often they were contacted.
    Every eligible action has at least `FLOOR` probability.
    """

    def policy(state: NDArray[np.float32], eligible: Bools) -> Floats:
        column = {name: state[:, i].astype(np.float64) for i, name in enumerate(FEATURES)}
        good = column["segment"] >= 2
        warm = (column["visits_2"] > 0) | (column["clicks_2"] > 0)
        hot = column["days_since_purchase"] <= SATIATED_DAYS
        score = np.zeros(eligible.shape)
        score[:, 0] = 0.8 + market.restraint - 0.4 * hot
        score[:, EMAIL] = 0.6 + 0.3 * (column["online_affinity"] > 0.5)
        score[:, MAIL] = -0.9 + 0.4 * (column["age_band"] == 2) + 0.9 * good + 0.3 * hot
        score[:, PHONE] = -2.2 + 1.3 * warm + 0.8 * good + 0.3 * hot
        weight = np.where(eligible, np.exp(score), 0.0)
        share = weight / weight.sum(axis=1, keepdims=True)
        count = eligible.sum(axis=1, keepdims=True)
        return np.where(eligible, FLOOR + (1 - FLOOR * count) * share, 0.0)

    return policy
