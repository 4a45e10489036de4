"""Mail that visits trigger: no contact does anything in this log, and yet those who got mail bought five times as much.

Customers are light or heavy visitors; a visit may end in a purchase within the hour. Some mail is planned at the
epoch's start, for a weekday; some is sent a few hours after a visit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nba_tasks.dataset import Transitions
from nba_tasks.gate import Sample
from nba_tasks.gate.placebo import BeforeContact
from nba_tasks.windows import cut_windows

Floats = NDArray[np.float64]

VISITS = np.array([0.15, 0.6])
"""Visits an epoch of a light and of a heavy visitor."""

BUYS = 0.14
"""Share of visits that end in a purchase."""

DAYS = 7.0


@dataclass(frozen=True)
class Mailing:
    """A log, and what happened in each epoch before its contact."""

    log: Transitions
    before: BeforeContact

    def sample(self, behaviour: Floats) -> Sample:
        """Windows of two epochs, judged with a behaviour model's probabilities of shape (2, 2), by state."""
        by_row = behaviour[self.log.state[:, 0].astype(int)]
        return Sample.of(self.log, cut_windows(self.log, 2), behaviour=by_row, incumbent=by_row, discount=1.0, harms=())


def simulate(n: int, epochs: int, seed: int, *, planned: float = 0.2, triggered: float = 0.0) -> Mailing:
    """Customers over some epochs.

    Parameters
    ----------
    planned : float
        A heavy visitor's chance of planned mail in an epoch; a light one's is half of it.
    triggered : float
        Chance that a visit is followed by mail.
    """
    rng = np.random.default_rng(seed)
    rows = n * epochs
    customer, epoch = np.repeat(np.arange(n), epochs), np.tile(np.arange(epochs), n)
    state = rng.integers(0, 2, n)[customer]
    starts_on = epoch * 7 + rng.integers(0, 7, n)[customer]
    most = 6
    count = np.minimum(rng.poisson(VISITS[state] * (1 + 0.5 * np.sin(starts_on))), most)
    visit = np.where(np.arange(most) < count[:, None], rng.random((rows, most)) * DAYS, np.inf)
    bought = np.where(rng.random((rows, most)) < BUYS, visit + 1 / 24, np.inf)
    # Planned mail leaves at nine o'clock, on one of the epoch's first five days.
    plan = rng.random(rows) < np.where(state == 1, planned, planned / 2)
    sent = np.where(plan, rng.integers(0, 5, rows) + 9 / 24, np.inf)
    answer = np.where(rng.random((rows, most)) < triggered, visit + rng.random((rows, most)) / 4, np.inf).min(axis=1)
    sent = np.minimum(sent, np.where(answer < DAYS, answer, np.inf))
    mailed = np.isfinite(sent)
    moment = sent.copy()
    for day in np.unique(starts_on):
        here = starts_on == day
        known = sent[here & mailed]
        moment[here & ~mailed] = rng.choice(known, int((here & ~mailed).sum())) if len(known) else np.nan
    purchases = (bought < np.inf).sum(axis=1).astype(float)
    happened = np.stack([(bought < moment[:, None]).sum(axis=1), (visit < moment[:, None]).sum(axis=1)], axis=1)
    both = np.ones((rows, 2), dtype=bool)
    log = Transitions(
        customer=customer,
        epoch=epoch,
        state=state[:, None].astype(float),
        action=mailed.astype(np.int64),
        reward=purchases,
        outcomes=np.stack([purchases, mailed], axis=1).astype(float),
        eligible_logged=both,
        eligible_target=both,
        propensity=np.full(rows, np.nan),
        done=epoch == epochs - 1,
        lost=np.zeros(rows, dtype=bool),
        outcome_names=("purchase", "contacts"),
    )
    return Mailing(log, BeforeContact(starts_on, moment, happened.astype(float)))


def learned(mailing: Mailing) -> tuple[Floats, Floats]:
    """Shares of mail by state, of shape (2, 2), and events a day by state and measure, of shape (2, 2)."""
    state, mailed = mailing.log.state[:, 0].astype(int), mailing.log.action
    share = np.array([mailed[state == s].mean() for s in range(2)])
    moment, happened = mailing.before.moment, mailing.before.happened
    daily = [np.nansum(happened[state == s], axis=0) / np.nansum(moment[state == s]) for s in range(2)]
    return np.stack([1 - share, share], axis=1), np.array(daily)


def expected(mailing: Mailing, daily: Floats) -> Floats:
    """Events before the moment, of shape (n, 2), at a state's daily rate."""
    return np.asarray(daily[mailing.log.state[:, 0].astype(int)] * np.nan_to_num(mailing.before.moment)[:, None])
