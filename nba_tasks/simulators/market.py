"""What the sales-channels simulator believes about customers: rates, where they come from, and markets drawn from them.

Sources, by the letters used below (house lists; amounts in euros; the retailer sells small orders often):

[H]  K. Hillstrom, MineThatData e-mail test, 2008: a randomised test on 64,000 customers. In two weeks 10.6% visited
     and .57% bought without an e-mail; an e-mail added 4.5-7.7 points of visits and 54-119% of purchases.
[C]  Campaign Monitor, e-mail benchmarks 2022, retail: 17% opened, .7% clicked, .1% unsubscribed per send; all
     industries 21.5%, 2.3%, .1%. Other collections give 15-30%, 1-2.5% and .1-.5%.
[D]  DMA / ANA response rate reports: a letter to a house list was answered by 3.4% (2012), 3.7% (2015), 9% (2018; as a
     letter-size envelope 15.1%). We count every answer as an added purchase, which is generous to letters.
[L]  Practitioners' "half-life": half of all answers to bulk post are in after three to four weeks. We stay below it
     (half within two weeks), so that four weeks show most of a letter's effect.
[T]  DMA response rate report 2012: calls to a house list ended in an order in 12.95% of cases, to all lists in 8.21%;
     call centres call 1-3% of calls over all lists good. The best customers, called warm, lie far above these averages.
[S]  Mailbox providers ask senders to stay below .1% complaints per send and block above .3%.
[R]  No published figure: a range that we state, wide enough to hold what practitioners report.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

CHANNELS = ("email", "mail", "phone")
SEGMENTS = ("dormant", "occasional", "regular", "loyal")
AGE_BANDS = ("18-34", "35-54", "55+")
KERNEL_WEEKS = 4


@dataclass(frozen=True)
class Market:
    """How customers behave. Rates are per week or per contact; four-tuples follow `SEGMENTS`, triples `AGE_BANDS`.

    What a contact adds to the weekly purchase rate is `effect x segment response x channel fit x exp(-fatigue x
    pressure)`, for a call also `warm_boost` where the customer visited or clicked in the last two epochs; `delay` of it
    lands in later weeks. Pressure is the sum of contact weights, decaying by `pressure_decay` a week; irritation makes
    complaints and unsubscribes grow as `exp(irritation x pressure)`.
    """

    segment_share: tuple[float, ...] = (0.30, 0.35, 0.25, 0.10)  # [R]
    age_share: tuple[float, ...] = (0.30, 0.40, 0.30)  # [R]
    base_purchase: tuple[float, ...] = (0.002, 0.006, 0.015, 0.035)  # per week; 1% on average, [R]
    base_visit: tuple[float, ...] = (0.02, 0.05, 0.09, 0.16)  # per week; [H] .053 on average, [R] spread
    order_value: tuple[float, ...] = (32.0, 36.0, 42.0, 50.0)  # [R]
    order_spread: float = 0.25  # standard deviation of a log order around the customer's own mean; [R]
    segment_response: tuple[float, ...] = (0.2, 0.8, 1.6, 2.2)  # answers grow with recency and frequency; [R]
    mail_fit: tuple[float, ...] = (0.3, 1.0, 1.7)  # older customers answer letters; [R]

    cost: tuple[float, ...] = (0.02, 0.60, 2.00)  # by channel; [R] sending, print and postage, five minutes of an agent
    email_effect: float = 0.020  # added purchases per e-mail: doubles those of two weeks; [H]
    mail_effect: float = 0.130  # added purchases per letter, over all its weeks; [D]
    phone_effect: float = 0.060  # added purchases per cold call; [T]
    warm_boost: float = 3.5  # a call to someone who visited or clicked lately; [T]
    delay: float = 0.80  # share of a letter's effect that lands after its own week; [L]
    email_visit: float = 0.07  # added visits per e-mail; [H]
    mail_visit: float = 0.02  # [R]
    phone_visit: float = 0.02  # [R]
    open_rate: float = 0.20  # [C]
    click_rate: float = 0.10  # of those who opened; [C]

    pressure_weight: tuple[float, ...] = (0.6, 0.7, 1.2)  # by channel; [R]
    pressure_decay: float = 0.70  # per week; [R]
    fatigue: float = 0.45  # [R]
    irritation: float = 0.60  # [R]
    unsubscribe: tuple[float, ...] = (0.0015, 0.0010, 0.0040)  # per contact without pressure; [C], [R] for the rest
    unsubscribe_base: float = 0.0003  # per week without any contact; [R]
    complaint: tuple[float, ...] = (0.0008, 0.0010, 0.0080)  # per contact without pressure; [S], [R] for calls
    withdrawal: float = 0.5  # share of complaints that end the consent to that channel; [R]
    satiation: float = 0.4  # purchase rate in the two weeks after a purchase, as a share of the usual one; [R]

    consent: tuple[float, ...] = (0.95, 0.75, 0.60)  # by channel, at the start; [R]
    created_midway: float = 0.15  # share of customers who join during the half-year; [R]
    restraint: float = 0.0  # added to the logging policy's score of doing nothing; [R]


RANGES: dict[str, tuple[float, float]] = {
    "email_effect": (0.010, 0.024),  # [H]
    "mail_effect": (0.034, 0.151),  # [D]
    "phone_effect": (0.020, 0.080),  # [T]
    "warm_boost": (1.5, 4.0),  # [T]
    "delay": (0.5, 0.9),  # [L]
    "email_visit": (0.045, 0.077),  # [H]
    "open_rate": (0.15, 0.30),  # [C]
    "click_rate": (0.04, 0.12),  # [C]
    "pressure_decay": (0.5, 0.85),  # [R]
    "fatigue": (0.1, 0.8),  # [R]
    "irritation": (0.2, 1.0),  # [R]
    "satiation": (0.2, 1.0),  # [R]
}
"""Where `draw_market` draws from, uniformly: lowest and highest value, with its source."""

DEFAULT = Market()

MYOPIC_IS_OPTIMAL = replace(
    DEFAULT,
    delay=0.0,
    warm_boost=1.0,
    fatigue=0.0,
    irritation=0.0,
    satiation=1.0,
    unsubscribe=(0.0, 0.0, 0.0),
    withdrawal=0.0,
    pressure_weight=(0.0, 0.0, 0.0),
)
"""Nothing done today changes tomorrow (caps aside, and a capped action is best used as soon as it pays)."""

CONTACT_DOES_NOTHING = replace(
    DEFAULT,
    email_effect=0.0,
    mail_effect=0.0,
    phone_effect=0.0,
    email_visit=0.0,
    mail_visit=0.0,
    phone_visit=0.0,
    unsubscribe=(0.0, 0.0, 0.0),
    complaint=(0.0, 0.0, 0.0),
)
"""Contacts only cost money: the best policy is to make none."""

QUIET = replace(DEFAULT, restraint=1.9)
"""The logging policy contacts one customer in five a week: the volume of a large CRM."""

MARKETS = {
    "default": DEFAULT,
    "myopic_is_optimal": MYOPIC_IS_OPTIMAL,
    "contact_does_nothing": CONTACT_DOES_NOTHING,
    "quiet": QUIET,
}


def draw_market(seed: int) -> Market:
    """A market drawn uniformly from `RANGES`; the rest as in `DEFAULT`."""
    rng = np.random.default_rng([seed, 7])
    drawn: dict[str, Any] = {name: float(rng.uniform(low, high)) for name, (low, high) in RANGES.items()}
    assert set(drawn) <= {field.name for field in fields(Market)}
    return replace(DEFAULT, **drawn)
