"""A sweep over a frozen forest beside one that trains its regressor anew, at five million transitions.

    python -m bench.learning_speed [--transitions 5000000] [--value-transitions 500000]

The log is that of the market of a few states, widened to 14 columns. The peer is the faster of the two regressors that
`refit_q` offers, boosting on histograms; both have 60 trees. A sweep's seconds are the median over a fit's last ten
sweeps, which average every row (the first phase sweeps over fewer), and over all three where every sweep trains.
Whatever takes longer than such a sweep (reading the problem, growing trees, finding leaves) is preparation.

Speed is worth nothing where the policy is worse: at half a million transitions both learn to the end, and the value of
what they learned is exact, by dynamic programming. Every fit has a process of its own, whose peak memory counts.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import typer

from bench.gate_speed import COLUMNS, DISCOUNT, TREES, widened
from bench.targets import Target, conclude
from nba_tasks.dataset import Transitions
from nba_tasks.learners.bellman import FittedQ, QFunction
from nba_tasks.learners.forest_q import fit_q
from nba_tasks.learners.refit_q import fit_q_by_refits
from nba_tasks.simulators import tabular
from nba_tasks.simulators.tabular import LOGGING, RETAIL

Kind = Literal["frozen", "refit"]

EPOCHS = 26
TIMES_FASTER, GIBIBYTES, VALUE_RATIO = 20.0, 6e9 / 2**30, 0.99
LAST = 10
ENDLESS = 300
"""Decisions after which what is left of a discounted return, .95 ** 300, is nothing."""


@dataclass(frozen=True)
class Fit:
    """What one fit took and found.

    Attributes
    ----------
    transitions, sweeps : int
    seconds : float
        Of the whole fit.
    sweep : float
        Median seconds of the last `LAST` sweeps.
    preparation : float
        Seconds that were no sweep's.
    peak : float
        Of the process, the log included, in GiB.
    value : float
        Discounted return of the greedy policy from a customer's first decision on; exact.
    """

    transitions: int
    sweeps: int
    seconds: float
    sweep: float
    preparation: float
    peak: float
    value: float

    def __str__(self) -> str:
        return (
            f"{self.transitions:,} transitions, {self.sweeps} sweeps of {self.sweep:.2f} s, "
            f"preparation {self.preparation:.1f} s, altogether {self.seconds:.1f} s, peak {self.peak:.2f} GiB"
        )


def log_of(transitions: int) -> Transitions:
    """Exactly so many transitions of customers who stay for at most `EPOCHS`."""
    rng = np.random.default_rng(0)
    log = RETAIL.simulate(LOGGING, transitions // 20, EPOCHS, rng)
    return widened(log.rows(np.arange(len(log)) < transitions), rng)


def greedy_value(q: QFunction) -> float:
    """The exact value of what `q` would do: noise columns choose among its actions as they are drawn."""
    states = np.repeat(np.arange(6), 5_000)
    rng = np.random.default_rng(1)
    columns = np.column_stack((states, rng.random((len(states), COLUMNS - 1)))).astype(np.float32)
    policy = np.eye(3)[q.values(columns).argmax(axis=1)].reshape(6, 5_000, 3).mean(axis=1)
    return RETAIL.window_value(policy, LOGGING, ENDLESS, DISCOUNT)


def fit(kind: Kind, transitions: int, max_sweeps: int) -> Fit:
    """Learn and time every sweep."""
    log, actions = log_of(transitions), tabular.catalogue(RETAIL)
    ends = [time.perf_counter()]

    def on_sweep(number: int, residual: float) -> None:
        ends.append(time.perf_counter())
        print(f"{kind}, sweep {number}: residual {residual:.2g}, {ends[-1] - ends[0]:.0f} s", flush=True)

    found: FittedQ[QFunction]
    if kind == "frozen":
        found = fit_q(log, actions, discount=DISCOUNT, trees=TREES, max_sweeps=max_sweeps, on_sweep=on_sweep)
    else:
        found = fit_q_by_refits(log, actions, discount=DISCOUNT, max_sweeps=max_sweeps, on_sweep=on_sweep)
    seconds = time.perf_counter() - ends[0]
    took = np.diff(ends)
    sweep = float(np.median(took[-LAST:]))
    return Fit(
        transitions=len(log),
        sweeps=len(found.residuals),
        seconds=seconds,
        sweep=sweep,
        preparation=seconds - float(np.minimum(took, sweep).sum()),
        peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        value=greedy_value(found.q),
    )


def alone(kind: Kind, transitions: int, max_sweeps: int) -> Fit:
    """`fit` in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(fit, kind, transitions, max_sweeps).result()
    print(f"{kind}: {found}", flush=True)
    return found


def main(
    transitions: Annotated[int, typer.Option(min=10_000)] = 5_000_000,
    value_transitions: Annotated[int, typer.Option(min=10_000)] = 500_000,
) -> None:
    """Time both; exits 1 where a target falls short."""
    print(f"{os.cpu_count()} cores, {COLUMNS} columns, {TREES} trees")
    frozen, refit = alone("frozen", transitions, 40), alone("refit", transitions, 3)
    print("the same learned to the end:")
    settled, trained = alone("frozen", value_transitions, 500), alone("refit", value_transitions, 30)
    best = RETAIL.window_value(RETAIL.best_policy(DISCOUNT), LOGGING, ENDLESS, DISCOUNT)
    for kind, one in (("frozen", settled), ("refit", trained)):
        print(
            f"{kind}: the learned policy earns {one.value:.4f}, {one.value / best:.2%} of the best policy's {best:.4f}"
        )
    print(f"a whole fit: {settled.seconds:.0f} s frozen, {trained.seconds:.0f} s with refits")
    conclude(
        [
            Target("learning_sweep_times_faster", refit.sweep / frozen.sweep, TIMES_FASTER),
            Target("learning_value_against_refit", settled.value / trained.value, VALUE_RATIO),
            Target("learning_peak_gibibytes", frozen.peak, GIBIBYTES, at_most=True),
        ]
    )


if __name__ == "__main__":
    typer.run(main)
