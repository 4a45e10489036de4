"""Real customers with a known truth: the MineThatData e-mail test, read through the CRM contract.

In 2008 64,000 customers were sent one of two e-mails or none, at random, and followed for two weeks [1]_. The file is
not part of this project: `read` takes its path, and `generate` makes up a file of the same format for tests.

References
----------
.. [1] K. Hillstrom: The MineThatData e-mail analytics and data mining challenge. 2008.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import Engine

from nba_tasks.dataset import Catalogue, Transitions
from nba_tasks.simulators.clock import day_number, instants
from nba_tasks.simulators.crm import (
    History,
    array_literals,
    catalogue_rows,
    create_contract,
    no_changes,
    write_history,
)
from nba_tasks.single_actions import single_actions
from nba_tasks.windows import cut_windows

ANCHOR = dt.date(2026, 1, 5)  # the file has no dates: all customers are decided on that day
ZONE = ZoneInfo("Europe/Berlin")
DAYS = 14
AS_OF = ANCHOR + dt.timedelta(days=DAYS)  # the first day on which the whole test lies in the past

ACTIONS = ("no_action", "mens_email", "womens_email")
SEGMENTS = ("No E-Mail", "Mens E-Mail", "Womens E-Mail")  # the same, as the file says it
FEATURE_COLUMNS = {
    "recency": "integer",
    "history": "double precision",
    "mens": "integer",
    "womens": "integer",
    "zip_code": "text",
    "newbie": "integer",
    "channel": "text",
}
ZIP_CODES = ("Surburban", "Rural", "Urban")  # spelt as in the file
CHANNELS = ("Phone", "Web", "Multichannel")
COLUMNS = (
    "recency", "history_segment", "history", "mens", "womens", "zip_code", "newbie", "channel", "segment", "visit",
    "conversion", "spend",
)  # fmt: skip
PUBLISHED_CUSTOMERS = 64_000
OUTCOMES = ("visit", "conversion", "purchase")
PUBLISHED = {
    "no_action": (0.10617, 0.00573, 0.6528),
    "mens_email": (0.18276, 0.01253, 1.4226),
    "womens_email": (0.15140, 0.00884, 1.0772),
}
"""Visit rate, conversion rate and mean spend of each arm, over all 64,000 customers of the published file."""

HISTORY_SEGMENTS = (
    (100.0, "1) $0 - $100"),
    (200.0, "2) $100 - $200"),
    (350.0, "3) $200 - $350"),
    (500.0, "4) $350 - $500"),
    (750.0, "5) $500 - $750"),
    (1000.0, "6) $750 - $1,000"),
    (np.inf, "7) $1,000 +"),
)


def read(path: Path) -> pd.DataFrame:
    """The test's file, as published or compressed (`.csv`, `.csv.xz`, …).

    Raises
    ------
    ValueError
        A column is missing, or a value is not one that the published file has.
    """
    data = pd.read_csv(path)
    if missing := [name for name in COLUMNS if name not in data]:
        raise ValueError(f"{path}: the columns {', '.join(missing)} are missing; is this the e-mail test's file?")
    for column, allowed in (("segment", SEGMENTS), ("zip_code", ZIP_CODES), ("channel", CHANNELS)):
        if strange := sorted(set(data[column]) - set(allowed)):
            raise ValueError(f"{path}: {column} holds {', '.join(map(str, strange))}; it may hold {', '.join(allowed)}")
    return data


def generate(n: int, seed: int) -> pd.DataFrame:
    """A made-up file of the same format, with rates close to the published ones.

    An e-mail helps most where it shows what the customer bought before; the arms are drawn with equal chances.
    """
    rng = np.random.default_rng([seed, 13])
    mens = rng.random(n) < 0.55
    womens = np.where(mens, rng.random(n) < 0.18, True)
    history = np.round(np.maximum(29.99, rng.lognormal(5.0, 0.9, n)), 2)
    recency = rng.integers(1, 13, n)
    arm = rng.integers(0, len(ACTIONS), n)
    added = np.select([arm == 1, arm == 2], [np.where(mens, 0.085, 0.065), np.where(womens, 0.070, 0.015)], 0.0)
    visit = rng.random(n) < 0.106 * (1.4 - recency / 16) + added
    conversion = visit & (rng.random(n) < np.where(arm == 0, 0.054, 0.064))
    spend = np.where(conversion, np.round(np.maximum(29.99, rng.lognormal(4.45, 0.75, n)), 2), 0.0)
    limits, names = zip(*HISTORY_SEGMENTS, strict=True)
    return pd.DataFrame(
        {
            "recency": recency,
            "history_segment": np.array(names, dtype=object)[np.searchsorted(limits, history, side="right")],
            "history": history,
            "mens": mens.astype(int),
            "womens": womens.astype(int),
            "zip_code": rng.choice(np.array(ZIP_CODES, dtype=object), n, p=(0.45, 0.15, 0.40)),
            "newbie": rng.integers(0, 2, n),
            "channel": rng.choice(np.array(CHANNELS, dtype=object), n, p=(0.44, 0.44, 0.12)),
            "segment": np.array(SEGMENTS, dtype=object)[arm],
            "visit": visit.astype(int),
            "conversion": conversion.astype(int),
            "spend": spend,
        }
    )


def to_history(data: pd.DataFrame, as_of: dt.date = AS_OF, seed: int = 0) -> History:
    """The contract's relations: one randomised decision per customer, outcomes spread over the two weeks.

    Only days are made up (the file has none): a visit falls on a random day, a conversion and its purchase follow it.
    Customers are numbered in the order of the file.

    Raises
    ------
    ValueError
        `as_of` lies before the end of the two weeks.
    """
    if as_of < AS_OF:
        raise ValueError(f"as_of {as_of} lies within the test's two weeks, which end before {AS_OF}")
    n = len(data)
    rng = np.random.default_rng([seed, 14])
    customer = np.arange(1, n + 1, dtype=np.int64)
    today = np.full(n, day_number(ANCHOR))
    arm = pd.Categorical(data["segment"], categories=list(SEGMENTS)).codes.astype(np.int64)
    names = np.array(ACTIONS, dtype=object)
    decisions = pd.DataFrame(
        {
            "decision_id": customer,
            "customer_id": customer,
            "decided_at": instants(today, np.full(n, 6 * 3600), ZONE),
            "action_id": names[arm],
            **array_literals(ACTIONS, np.ones((n, len(ACTIONS)), dtype=bool), np.full((n, len(ACTIONS)), 1 / 3)),
        }
    )
    sent = arm > 0
    contacts = pd.DataFrame(
        {
            "contact_id": customer[sent],
            "customer_id": customer[sent],
            "contacted_at": instants(today[sent], 9 * 3600 + rng.integers(0, 3600, int(sent.sum())), ZONE),
            "action_id": names[arm[sent]],
            "decision_id": customer[sent],
        }
    )
    customers = data[list(FEATURE_COLUMNS)].assign(
        customer_id=customer,
        created_at=instants(today - 1, 8 * 3600 + customer % 36_000, ZONE),
        consent_email="true",
    )
    return History(
        customers=customers,
        contacts=contacts,
        events=_events(data, customer, rng),
        actions=catalogue_rows(ACTIONS, (None, "email", "email"), (0.0, 0.0, 0.0), ANCHOR - dt.timedelta(days=1)),
        customer_changes=no_changes("customer_id"),
        action_changes=no_changes("action_id"),
        decisions=decisions,
    )


def _events(data: pd.DataFrame, customer: NDArray[np.int64], rng: np.random.Generator) -> pd.DataFrame:
    """Visits, conversions, and what was spent in them."""
    n = len(data)
    day = day_number(ANCHOR) + rng.integers(0, DAYS, n)
    second = rng.integers(11 * 3600, 20 * 3600, n)
    spend = data["spend"].to_numpy(np.float64)
    kinds = (
        ("visit", data["visit"].to_numpy() > 0, 0, np.full(n, np.nan)),
        ("conversion", data["conversion"].to_numpy() > 0, 1200, np.full(n, np.nan)),
        ("purchase", spend > 0, 1201, spend),
    )
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "event_id": customer[happened] * 10 + number,
                    "customer_id": customer[happened],
                    "occurred_at": instants(day[happened], second[happened] + later, ZONE),
                    "event_type": kind,
                    "value": value[happened],
                }
            )
            for number, (kind, happened, later, value) in enumerate(kinds)
        ],
        ignore_index=True,
    )


def load(crm: Engine, path: Path) -> dt.date:
    """Fill a CRM database with the file's customers, emptied first; returns the date to decide for."""
    data = read(path)
    create_contract(crm, FEATURE_COLUMNS)
    write_history(crm, to_history(data), replace=True)
    return AS_OF


@dataclass(frozen=True)
class ArmCheck:
    """One arm and outcome: what importance sampling estimates, and what randomisation shows.

    Attributes
    ----------
    estimate, lower, upper : float
        Self-normalised estimate of "always this action", with its two-sided 95% interval.
    arm_mean : float
        Mean of the customers used who were in this arm.
    published : float or None
        The whole experiment's mean; None for a generated file.
    """

    action_id: str
    outcome: str
    customers: int
    estimate: float
    lower: float
    upper: float
    arm_mean: float
    published: float | None


def check_arms(transitions: Transitions, catalogue: Catalogue, published: bool) -> list[ArmCheck]:
    """Compare the estimates of "always one arm" with the arms themselves, on the given customers.

    Parameters
    ----------
    transitions : Transitions
        One epoch per customer.
    published : bool
        Whether the file is the published one, whose arm means are known.
    """
    windows = cut_windows(transitions, 1)
    rows = windows.rows[:, 0]
    found = []
    for single in single_actions(transitions, windows, catalogue, discount=0.0):
        if single.outcome not in OUTCOMES:
            continue
        column = transitions.outcomes[rows, transitions.outcome_names.index(single.outcome)]
        in_arm = transitions.action[rows] == catalogue.ids.index(single.action_id)
        lower, upper = single.estimate.interval(0.05)
        truth = PUBLISHED[single.action_id][OUTCOMES.index(single.outcome)] if published else None
        mean = float(column[in_arm].astype(np.float64).mean())
        found.append(
            ArmCheck(
                single.action_id, single.outcome, single.customers, single.estimate.value, lower, upper, mean, truth
            )
        )
    return found
