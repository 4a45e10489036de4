"""`nba readiness`: a programme's log as a gate would see it, in plain words, and the start-up forecast."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from nba_tasks.dataset import BoolArray, Catalogue, FloatArray, Transitions
from nba_tasks.gate import Sample
from nba_tasks.learners.behaviour import BehaviourModel
from nba_tasks.loading import Loaded, load
from nba_tasks.policy import Floats, apply_rules, explore
from nba_tasks.programme import Grid, Programme
from nba_tasks.readiness import (
    Judgeable,
    Overlap,
    epochs_until,
    freedom,
    judgeable,
    overlaps,
    reference_action,
    replayed,
)
from nba_tasks.train import reading
from nba_tasks.windows import Windows, cut_windows

HORIZONS = (1, 2, 3, 4, 6, 8, 12)

MAX_ROWS = 200_000
"""Enough to tell who earns more from who earns less."""

FORECAST_SHARES = (0.1, 0.2, 0.4)
"""What start-up mode is forecast with where the programme does not say."""


@dataclass(frozen=True)
class Readiness:
    """What a programme's log can decide.

    Attributes
    ----------
    customers, decisions : int
        Looked at: those of the select split.
    logged_share : float
        Share of the decisions whose probability was logged; where there are such, they alone are judged by.
    choice : float
        Share of the decisions in which the log left at least two actions a chance.
    actions : tuple of Overlap
    horizons : tuple of Judgeable
    startup : tuple of (share drawn at random, date on which a gate can decide or None)
    """

    programme: Programme
    as_of: dt.date
    customers: int
    decisions: int
    logged_share: float
    choice: float
    actions: tuple[Overlap, ...]
    horizons: tuple[Judgeable, ...]
    startup: tuple[tuple[float, dt.date | None], ...]

    @property
    def at_gate(self) -> Judgeable | None:
        """At the horizon of the programme's gate."""
        return next((found for found in self.horizons if found.horizon == self.programme.gate.horizon), None)

    @property
    def longest_horizon(self) -> int:
        """The longest at which some gain could be proved; 0 where none."""
        return max((j.horizon for j in self.horizons if math.isfinite(j.detectable(self.programme.gate))), default=0)

    @property
    def ready(self) -> bool:
        """Every decision judged by was logged, and a gain worth waiting for would be found."""
        at = self.at_gate
        return bool(self.logged_share) and at is not None and at.detectable(self.programme.gate) <= self.worth

    @property
    def worth(self) -> float:
        """The gain that is worth waiting for: the programme's, else a quarter of today's value; NaN if unknown."""
        return _worth(self.programme, self.at_gate)

    def lines(self) -> Iterator[str]:
        """The report, line by line."""
        yield (
            f"{self.programme.programme}, {self.as_of}: {self.decisions:,} settled decisions of {self.customers:,} "
            "customers (those who choose a policy's step)"
        )
        yield from self._lines_of_choice()
        for action in self.actions:
            yield (
                f"  {action.action}: allowed beside another action in {action.decisions:,} decisions, taken in "
                f"{action.taken:.1%} of them; had a real chance in {action.had_a_chance:.0%}"
                + (f"; {action.blasted:.0%} of it went to everybody at once" if action.blasted > 0.01 else "")
            )
        yield from self._lines_of_horizons()
        yield from self._lines_of_startup()

    def _lines_of_choice(self) -> Iterator[str]:
        if not self.logged_share:
            yield (
                "no decision has its probability logged: a gate rests on estimated ones, and never promotes without a "
                "person. Log decisions, or use start-up mode"
            )
        elif self.logged_share < 1:
            yield f"{self.logged_share:.0%} of the decisions have their probability logged; these alone are judged by"
        else:
            yield "every decision has its probability logged"
        if self.choice < 0.5:
            yield (
                f"only {self.choice:.0%} of the decisions left a choice: elsewhere rules or habits decided, and the "
                "log cannot tell what another action would have brought"
            )
        else:
            yield f"{self.choice:.0%} of the decisions left a choice"

    def _lines_of_horizons(self) -> Iterator[str]:
        gate = self.programme.gate
        for found in self.horizons:
            smallest, best = found.detectable(gate), found.best(gate)
            decisions = f"{found.horizon} decision{'s' if found.horizon > 1 else ''}"
            if math.isfinite(smallest):
                share = f", {smallest / abs(found.value):.0%} of today's {found.value:.2f}" if found.value else ""
                yield f"windows of {decisions}: a gate would find a new policy's gain of {smallest:.2f} or more{share}"
            else:
                why = best.obstacles(gate) or ("the log leaves too little choice, or harms could not be told apart",)
                yield f"windows of {decisions}: no gain could be proved ({'; '.join(why)})"
        longest = self.longest_horizon
        yield f"longest horizon that can be judged: {longest or 'none'}"
        wanted = f"a gain of {self.worth:.2f} a window of {gate.horizon} decisions, the gate's horizon"
        yield f"ready: {wanted}, would be found" if self.ready else f"not ready: {wanted}, would not be found"

    def _lines_of_startup(self) -> Iterator[str]:
        if self.ready:
            return
        for share, date in self.startup:
            when = f"from about {date} on" if date else "not within five years"
            yield f"start-up mode with {share:.0%} of the decisions drawn at random: a gate could decide {when}"


def look(programme: Programme, as_of: dt.date, seed: int = 0) -> Readiness:
    """Read the transitions of a date and say what they can decide.

    Raises
    ------
    BatchError, TransitionsError
        The date's history or transitions are missing.
    DatasetError
        There is nothing in them.
    """
    with reading(programme, as_of) as (connection, source):
        learn = load(connection, source.shape, "learn", programme.learning.max_customers).transitions
        select = load(connection, source.shape, "select")
        catalogue = source.catalogue
    learn.check()
    select.transitions.check()
    return readiness(programme, as_of, learn, select, catalogue, seed)


def readiness(
    programme: Programme, as_of: dt.date, learn: Transitions, select: Loaded, catalogue: Catalogue, seed: int = 0
) -> Readiness:
    """The same from arrays: the learn split teaches how the log chose, the select split is looked at."""
    data, random = select.transitions, np.random.default_rng(seed)
    behaviour = BehaviourModel.fit(learn, seed=seed).probabilities(data.state, _some(data))
    settled = ~data.open
    logged = settled & ~np.isnan(data.propensity)
    free = freedom(data, behaviour, programme.layers.support)
    return Readiness(
        programme=programme,
        as_of=as_of,
        customers=len(np.unique(data.customer)),
        decisions=int(settled.sum()),
        logged_share=float(logged.sum() / max(settled.sum(), 1)),
        choice=free,
        actions=overlaps(data, behaviour, catalogue.ids, programme.layers.support),
        horizons=tuple(_judgeable(programme, data, select, behaviour, free, random)),
        startup=tuple(
            _forecast(programme, as_of, select, behaviour, _kinds(learn, data, seed), catalogue.cost, random)
        ),
    )


def _judgeable(
    programme: Programme, data: Transitions, select: Loaded, behaviour: Floats, free: float, random: np.random.Generator
) -> Iterator[Judgeable]:
    chosen = reference_action(behaviour, _some(data), programme.layers.support, random)
    growth = programme.splits.gate / programme.splits.select
    for horizon in sorted({*HORIZONS, programme.gate.horizon}):
        windows = logged_windows(cut_windows(data, horizon, select.last_epoch), data)
        if len(windows):
            sample = _sample(programme, data, windows, behaviour)
            yield judgeable(sample, chosen, programme.gate, free, growth)


def _forecast(
    programme: Programme,
    as_of: dt.date,
    select: Loaded,
    usual: Floats,
    kinds: NDArray[np.int64],
    cost: FloatArray,
    random: np.random.Generator,
) -> Iterator[tuple[float, dt.date | None]]:
    """When start-up mode would let a gate decide: begun tonight, or when decisions began to be logged."""
    grid, gate, data = programme.grid, programme.gate, select.transitions
    windows = cut_windows(data, gate.horizon, select.last_epoch)
    if not len(windows):
        return
    eligible = _some(data)
    done = float((~np.isnan(data.propensity)).sum()) / len(np.unique(data.customer))
    for share in (programme.startup.explore,) if programme.startup.explore else FORECAST_SHARES:
        drawn = explore(apply_rules(usual, eligible), eligible, share)
        future = replayed(data, drawn, kinds, cost, random)
        chosen = reference_action(drawn, eligible, programme.layers.support, random)
        free = freedom(future, drawn, programme.layers.support)
        growth = programme.splits.gate / programme.splits.select
        found = judgeable(_sample(programme, future, windows, drawn), chosen, gate, free, growth)
        each = len(windows) / len(np.unique(windows.customer))
        epochs = epochs_until(found, gate, _worth(programme, found), each, longest=_five_years(grid))
        if epochs is None:
            yield share, None
        else:
            # Windows begin at multiples of the horizon, on each customer's own day; the last epoch has to settle.
            wait = 0 if done else -int(data.epoch.max()) % gate.horizon
            left = max(epochs + wait + 1 - done, 0)
            yield share, as_of + dt.timedelta(days=round(left * grid.interval_days) + grid.settlement_lag_days)


def _kinds(learn: Transitions, data: Transitions, seed: int) -> NDArray[np.int64]:
    """Tenths of the rows by the reward that a model of the learn split expects from the state alone; shape (n,)."""
    settled = np.flatnonzero(~learn.open)[:MAX_ROWS]
    model = HistGradientBoostingRegressor(max_iter=50, max_leaf_nodes=15, random_state=seed)
    expected = model.fit(learn.state[settled], learn.reward[settled]).predict(data.state)
    return np.asarray(np.searchsorted(np.quantile(expected, np.arange(1, 10) / 10), expected), dtype=np.int64)


def _worth(programme: Programme, at: Judgeable | None) -> float:
    if programme.startup.gain is not None:
        return programme.startup.gain
    return 0.25 * abs(at.value) if at is not None else math.nan


def _five_years(grid: Grid) -> int:
    return max(1, 5 * 365 // grid.interval_days)


def _sample(programme: Programme, data: Transitions, windows: Windows, behaviour: Floats) -> Sample:
    return Sample.of(
        data,
        windows,
        behaviour=behaviour,
        incumbent=behaviour,
        discount=programme.learning.discount,
        harms=programme.harms,
    )


def logged_windows(windows: Windows, data: Transitions) -> Windows:
    """The windows whose every decision was logged, where there are any; which they are is a matter of the calendar."""
    if not len(windows):
        return windows
    logged = ~np.isnan(data.propensity)
    whole = np.asarray((logged[windows.rows] | ~windows.alive).all(axis=1), dtype=bool)
    return windows.take(whole) if whole.any() else windows


def _some(data: Transitions) -> BoolArray:
    """What was allowed on the day, the logged action among it, and never nothing."""
    eligible = data.eligible_logged.copy()
    rows = np.flatnonzero(~data.open)
    eligible[rows, data.action[rows]] = True
    eligible[~eligible.any(axis=1), 0] = True
    return eligible
