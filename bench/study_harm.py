"""How often a candidate exactly at the harm margin passes rule 5, and what that certainty costs in width.

    python -m bench.study_harm [--quick] [--minutes 30]

A log of rare events is drawn thousands of times: its length, how often the harm happens, how far the candidate steps
from the incumbent (λ), how many decisions a window holds, and who logged the data all vary. The harm of the action
that the candidate favours is set so that its true rate is exactly the most that is tolerated. Whoever passes then does
so by error, which may happen in α of the logs, and one point more.

Three bounds differ in the weight that they give to one further event, which a bound on rare events must allow for: the
largest weight (Fay and Feuer), the mean weight (Tiwari), and the gate's own (`nba_tasks.gate.harms.next_event`). Each
is counted alone and with the rule's demand for 50 effective events; the normal bound stands beside them.

Decisions and their weights are drawn once for a block of logs; a log is a Poisson number of events on them. Customers
have six windows each, and are prone to harm by a factor that varies between them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Annotated, Literal

import numpy as np
import typer
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import binomtest

from bench.replicates import Kept, Point, Record, play_all
from bench.targets import Target, conclude
from nba_tasks.bounds import spent_alpha
from nba_tasks.gate.harms import Part, next_event, tolerated
from nba_tasks.programme import Gate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Logger = Literal["incumbent", "another"]

GATE = Gate()
ALPHAS = (spent_alpha(GATE.alpha, 1), spent_alpha(GATE.alpha, 2))
"""Of the first and the second candidate against an incumbent."""

TOLERANCE = 0.01
BLOCK, QUICK_BLOCK = 1_000, 500
BLOCKS, QUICK_BLOCKS = 10, 1

N_ACTIONS, N_KINDS, WINDOWS = 4, 12, 6
EPSILON = 0.05

NEXT_EVENT: dict[str, Callable[[Floats], float]] = {
    "largest": lambda weight: float(weight.max()) / weight.size,
    "mean": lambda weight: float(weight[weight > 0].mean()) / weight.size if (weight > 0).any() else 0.0,
    "gate": next_event,
}


@dataclass(frozen=True)
class Setting:
    """One kind of log.

    Attributes
    ----------
    logger : {"incumbent", "another"}
        Who chose the logged actions: the incumbent, or a policy before it.
    favoured : float
        How often the log takes the action that the new policy always takes.
    mix : float
        λ of the candidate.
    horizon : int
    rate : float
        The incumbent's harms per decision.
    events : int
        Expected in the log under the incumbent; with the rate this gives its length.
    """

    logger: Logger
    favoured: float
    mix: float
    horizon: int
    rate: float
    events: int

    def __str__(self) -> str:
        per = f"{self.rate * 1e4:g}"
        return f"{self.logger}-{self.favoured:g}-mix{self.mix:g}-h{self.horizon}-per10000_{per}-events{self.events}"


LOGGERS: tuple[Logger, ...] = ("incumbent", "another")
# A timid candidate reaches the margin only by an action that the log all but leaves alone.
FAVOURED_AND_MIX = ((0.03, 0.1), (0.03, 0.25), (0.15, 0.25), (0.15, 0.5), (0.15, 1.0))

SETTINGS = tuple(
    Setting(logger, favoured, mix, horizon, rate, events)
    for logger, (favoured, mix), horizon, rate, events in product(
        LOGGERS, FAVOURED_AND_MIX, (1, 4, 8), (2e-4, 1e-3, 2.5e-3, 5e-3), (100, 400)
    )
)


@dataclass(frozen=True)
class Decisions:
    """The decisions of a log with their weights and intensities of harm, each of shape (n,).

    Attributes
    ----------
    candidate, incumbent : arrays
        Cumulative weights.
    intensity : array
        Expected events.
    customer : int array
    n_customers : int
    """

    candidate: Floats
    incumbent: Floats
    intensity: Floats
    customer: Ints
    n_customers: int


def draw_decisions(setting: Setting, rng: np.random.Generator) -> Decisions | None:
    """Decisions on which the candidate lies exactly at the margin; None where no harm of its action puts it there."""
    horizon = setting.horizon
    customers = max(1, round(setting.events / setting.rate / horizon / WINDOWS))
    shape = (customers * WINDOWS, horizon)
    behaviour = rng.dirichlet(np.full(N_ACTIONS - 1, 3.0), N_KINDS) * (1 - setting.favoured)
    behaviour = np.column_stack([behaviour, np.full(N_KINDS, setting.favoured)])
    new = np.eye(N_ACTIONS)[np.full(N_KINDS, N_ACTIONS - 1)]
    # A policy promoted since the log was made: a third of its decisions are another's.
    promoted = np.eye(N_ACTIONS)[rng.integers(0, N_ACTIONS - 1, N_KINDS)]
    incumbent = behaviour if setting.logger == "incumbent" else 0.7 * behaviour + 0.3 * promoted
    candidate = (1 - EPSILON) * ((1 - setting.mix) * incumbent + setting.mix * new) + EPSILON / N_ACTIONS
    # Half of the decisions meet the customer's own kind, the others any.
    own = np.repeat(rng.integers(0, N_KINDS, customers), WINDOWS)[:, None]
    kind = np.where(rng.random(shape) < 0.5, own, rng.integers(0, N_KINDS, shape))
    action = (rng.random(shape)[..., None] > behaviour.cumsum(axis=1)[kind][..., :-1]).sum(axis=-1)
    weights = [np.cumprod((policy / behaviour)[kind, action], axis=1) for policy in (candidate, incumbent)]
    prone = rng.gamma(2, 0.5, N_KINDS)[kind] * np.repeat(rng.exponential(size=customers), WINDOWS)[:, None]
    favoured = action == N_ACTIONS - 1
    # The candidate's rate is a + k b, the incumbent's c + k d, with k the harm of the favoured action.
    (a, b), (c, d) = (
        (float((weight * prone * ~favoured).mean()), float((weight * prone * favoured).mean())) for weight in weights
    )
    factor, allowed = tolerated(setting.rate, GATE)
    ratio = factor + allowed / setting.rate
    if b <= ratio * d or ratio * c < a:
        return None
    harm = (ratio * c - a) / (b - ratio * d)
    intensity = setting.rate / (c + harm * d) * prone * np.where(favoured, harm, 1.0)
    return Decisions(
        candidate=weights[0].ravel(),
        incumbent=weights[1].ravel(),
        intensity=intensity.ravel(),
        customer=np.repeat(np.arange(customers), WINDOWS * horizon),
        n_customers=customers,
    )


@dataclass(frozen=True)
class Counted:
    """What `compare_harm` finds in one log, in many; arrays of shape (n_logs,).

    Attributes
    ----------
    raising, lowering : (rate, variance)
        Of the events that raise the excess and of those that lower it.
    error : array
        Customer-clustered standard error of the excess.
    effective_events : array
        Of the candidate.
    """

    raising: tuple[Floats, Floats]
    lowering: tuple[Floats, Floats]
    error: Floats
    effective_events: Floats

    @property
    def excess(self) -> Floats:
        return self.raising[0] - self.lowering[0]


def draw_events(decisions: Decisions, logs: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """The log and the decision of every event."""
    position = np.cumsum(decisions.intensity)
    log = np.repeat(np.arange(logs), rng.poisson(position[-1], logs))
    event = np.searchsorted(position, rng.random(len(log)) * position[-1])
    return log, np.minimum(event, len(position) - 1)


def totals(values: Floats, log: NDArray[np.integer], logs: int) -> Floats:
    """Sums of events' values by log."""
    return np.bincount(log, weights=values, minlength=logs).astype(np.float64)


def count(decisions: Decisions, logs: int, log: Ints, event: Ints, factor: float) -> Counted:
    """Weigh the events of every log."""
    n, customers = len(decisions.intensity), decisions.n_customers
    mine = decisions.candidate[event]
    adds = mine - factor * decisions.incumbent[event]
    both, whose = np.unique(log * customers + decisions.customer[event], return_inverse=True)
    by_customer = totals(adds, whose, len(both))
    excess = totals(adds, log, logs)
    centred = totals(by_customer**2, both // customers, logs) - excess**2 / customers
    clustered = np.maximum(centred, 0.0) * customers / (customers - 1) / n**2
    poisson = totals(adds**2, log, logs) / n**2
    wider = np.maximum(1.0, np.divide(clustered, poisson, out=np.ones(logs), where=poisson > 0))
    squares = totals(mine**2, log, logs)

    def part(values: Floats) -> tuple[Floats, Floats]:
        return totals(values, log, logs) / n, wider * totals(values**2, log, logs) / n**2

    return Counted(
        raising=part(np.maximum(adds, 0.0)),
        lowering=part(np.maximum(-adds, 0.0)),
        error=np.sqrt(clustered),
        effective_events=np.divide(totals(mine, log, logs) ** 2, squares, out=np.zeros(logs), where=squares > 0),
    )


def excess_bounds(
    decisions: Decisions, counted: Counted, factor: float, further: Callable[[Floats], float], alpha: float
) -> tuple[Floats, Floats]:
    """Lower and upper bounds of the excess in every log, as `HarmTest` gives them for one."""
    adds = decisions.candidate - factor * decisions.incumbent
    raising = Part(*counted.raising, further(np.maximum(adds, 0.0)))
    lowering = Part(*counted.lowering, further(np.maximum(-adds, 0.0)))
    below = np.hypot(raising.below(alpha), lowering.above(alpha))
    above = np.hypot(raising.above(alpha), lowering.below(alpha))
    return counted.excess - below, counted.excess + above


def play(setting: Setting, logs: int, number: int) -> Record:
    """One block of logs: how many pass and are rejected, by bound and α."""
    rng = np.random.default_rng([number, *str(setting).encode()])
    decisions = draw_decisions(setting, rng)
    if decisions is None:
        return {"logs": 0}
    log, event = draw_events(decisions, logs, rng)
    rate = totals(decisions.incumbent[event], log, logs) / len(decisions.intensity)
    record: dict[str, float] = {"logs": logs}
    # The margin that applies is itself an estimate: of each log, the one that the gate would take.
    relative = np.array([tolerated(found, GATE)[0] > 1 for found in rate.tolist()])
    for chosen, (factor, allowed) in (
        (relative, (1 + GATE.harm_relative, 0.0)),
        (~relative, (1.0, GATE.harm_absolute)),
    ):
        if chosen.any():
            _judge(record, decisions, count(decisions, logs, log, event, factor), chosen, factor, allowed)
    return record


def _judge(
    record: dict[str, float], decisions: Decisions, counted: Counted, chosen: Mask, factor: float, allowed: float
) -> None:
    """Add the chosen logs' verdicts to the record."""

    def add(key: str, found: Mask) -> None:
        record[key] = record.get(key, 0) + int((found & chosen).sum())

    enough = counted.effective_events >= GATE.harm_min_events
    add("enough", enough)
    for k, alpha in enumerate(ALPHAS, 1):
        normal = -float(ndtri(alpha)) * counted.error
        add(f"normal {k} passed", (counted.excess + normal < allowed) & enough)
        add(f"normal {k} alone", counted.excess + normal < allowed)
        for name, further in NEXT_EVENT.items():
            low, high = excess_bounds(decisions, counted, factor, further, alpha)
            add(f"{name} {k} passed", (high < allowed) & enough)
            add(f"{name} {k} alone", high < allowed)
            add(f"{name} {k} rejected", low > allowed)
            shown = chosen & enough & (normal > 0)
            if shown.any():
                record[f"{name} {k} width"] = float(np.median((high - counted.excess)[shown] / normal[shown]))


@dataclass(frozen=True)
class Found:
    """What a setting's blocks showed together."""

    setting: Setting
    records: Sequence[Record]

    @property
    def logs(self) -> int:
        return int(sum(record["logs"] for record in self.records))

    def count(self, key: str) -> int:
        return int(sum(record.get(key, 0) for record in self.records))

    def share(self, key: str) -> float:
        return self.count(key) / self.logs

    def width(self, key: str) -> float:
        """Mean over blocks, NaN where no log had enough events."""
        values = [record[key] for record in self.records if key in record]
        return float(np.mean(values)) if values else float("nan")


def report(found: Sequence[Found]) -> None:
    """One line a setting: shares in percent at the first candidate's α, and widths against the normal bound."""
    bounds = ("normal", *NEXT_EVENT)
    print("passes in % with (and without) the demand for events, at a nominal", f"{100 * ALPHAS[0]:.2f}")
    print(f"{'setting':52}  enough  " + "  ".join(f"{name:>12}" for name in bounds) + "   width: largest  gate")
    for one in found:
        shares = "  ".join(
            f"{100 * one.share(f'{name} 1 passed'):5.2f} ({100 * one.share(f'{name} 1 alone'):4.1f})" for name in bounds
        )
        widths = f"{one.width('largest 1 width'):7.2f}  {one.width('gate 1 width'):5.2f}"
        print(f"{one.setting!s:52}  {100 * one.share('enough'):5.1f}%  {shares}          {widths}")


def targets(found: Sequence[Found]) -> list[Target]:
    """The worst setting of each kind; only "surely" counts chance: its 99.9% interval lies above."""
    promises = []
    for k, alpha in enumerate(ALPHAS, 1):
        limit = alpha + TOLERANCE
        for what in ("passed", "rejected"):
            worst = max(one.share(f"gate {k} {what}") for one in found)
            promises.append(Target(f"harm_at_margin_{what}_attempt_{k}", worst, limit, at_most=True))
        passed = [binomtest(one.count(f"gate {k} passed"), one.logs).proportion_ci(0.999) for one in found]
        surely = sum(bool(interval.low > limit) for interval in passed)
        promises.append(Target(f"harm_settings_surely_above_attempt_{k}", surely, 0, at_most=True))
    wide = [one.width("gate 1 width") / one.width("largest 1 width") for one in found]
    promises.append(Target("harm_median_width_against_largest_weight", float(np.nanmedian(wide)), 1, at_most=True))
    return promises


def main(
    quick: Annotated[bool, typer.Option("--quick", help="a few hundred logs a setting: minutes, and noisier")] = False,
    minutes: Annotated[float | None, typer.Option(help="stop after this long; the next run goes on")] = None,
    processes: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Count how often candidates at the harm margin pass; exits 1 where a target falls short."""
    logs, blocks = (QUICK_BLOCK, QUICK_BLOCKS) if quick else (BLOCK, BLOCKS)
    kept = Kept("harm", ("bench/study_harm.py", "nba_tasks/gate/harms.py", "nba_tasks/bounds.py"))
    points = [Point(f"{setting}-{logs}", partial(play, setting, logs), blocks, batch=2) for setting in SETTINGS]
    played = play_all(points, kept, processes=processes, minutes=minutes)
    found = [Found(setting, played[point.name]) for setting, point in zip(SETTINGS, points, strict=True)]
    possible = [one for one in found if one.logs]
    report(possible)
    print(f"{len(possible)} settings; in {len(found) - len(possible)} others no harm puts the candidate at the margin")
    conclude(targets(possible))


if __name__ == "__main__":
    typer.run(main)
