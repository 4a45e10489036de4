"""How long the gate takes on 400,000 windows, given Q̂ and π, beside bare prediction of the same values.

    python -m bench.gate_speed [--windows 400000]

The floor is prediction by itself: the action values of candidate and incumbent, by steps to go, in every row that the
windows hold. Any estimator with a model needs them. The gate is the whole verdict: all estimators, all rules, figures
and the bootstrap's interval. Prediction and gate together may take three times the floor.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Annotated

import numpy as np
import typer

from bench.targets import Target, conclude
from nba_tasks.dataset import Transitions
from nba_tasks.estimators import Critic
from nba_tasks.gate import Sample, judge
from nba_tasks.learners.fqe import fit_fqe_of_several, forest_on_returns, values_by_step
from nba_tasks.programme import Gate
from nba_tasks.simulators import tabular
from nba_tasks.simulators.tabular import HARMS, LOGGING, RETAIL, VERSION_0
from nba_tasks.windows import cut_windows

SECONDS, TIMES_PREDICTION = 30.0, 3.0
HORIZON, DISCOUNT, TREES = 4, 0.95, 60
COLUMNS = 14
"""Of the state, as in the demo: one tells, the others are noise, which trees split on too."""


def widened(log: Transitions, rng: np.random.Generator) -> Transitions:
    """The same with more columns."""
    noise = rng.random((len(log), COLUMNS - 1), dtype=np.float32)
    return replace(log, state=np.concatenate([log.state, noise], axis=1, dtype=np.float32))


def main(windows: Annotated[int, typer.Option(min=1_000)] = 400_000) -> None:
    """Time the gate; exits 1 where a target falls short."""
    rng = np.random.default_rng(0)
    # Some of them leave before their second window begins.
    log = widened(RETAIL.simulate(LOGGING, int(0.53 * windows), 2 * HORIZON, rng), rng)
    learn = widened(RETAIL.simulate(LOGGING, 10_000, HORIZON, rng), rng)
    candidate = 0.8 * VERSION_0 + 0.2 * RETAIL.best_policy(DISCOUNT)
    forest = forest_on_returns(
        learn, tabular.catalogue(RETAIL), horizon=HORIZON, discount=DISCOUNT, trees=TREES, min_samples_leaf=50
    )
    models = fit_fqe_of_several(
        learn,
        tabular.catalogue(RETAIL),
        [tabular.by_row(policy, learn) for policy in (candidate, VERSION_0)],
        horizon=HORIZON,
        discount=DISCOUNT,
        forest=forest,
    )
    cut = cut_windows(log, HORIZON, 2 * HORIZON - 1)
    if len(cut) > windows:
        cut = cut.take(np.arange(windows))
    begun = time.perf_counter()
    values = values_by_step(models, log.state)
    predicted = time.perf_counter() - begun
    probabilities = [tabular.by_row(policy, log) for policy in (candidate, VERSION_0)]
    begun, busy = time.perf_counter(), time.process_time()
    sample = Sample.of(
        log,
        cut,
        behaviour=tabular.by_row(LOGGING, log),
        incumbent=probabilities[1],
        discount=DISCOUNT,
        harms=HARMS,
        lost_charge=RETAIL.lost_customer_value,
    )
    mine = Critic.of(lambda k: values[0, k - 1], probabilities[0], log.action, cut)
    theirs = Critic.of(lambda k: values[1, k - 1], probabilities[1], log.action, cut)
    verdict = judge(sample, probabilities[0], Gate(horizon=HORIZON), critics=(mine, theirs))
    judged, computed = time.perf_counter() - begun, time.process_time() - busy
    print(f"{len(cut):,} windows, {len(log):,} rows, {log.n_actions} actions: verdict {verdict.verdict}")
    print(
        f"prediction of two policies by {TREES} trees {predicted:.1f} s, gate {judged:.1f} s, "
        f"of which {computed:.1f} s of computing: on a busy machine the rest is waiting"
    )
    conclude(
        [
            Target("gate_seconds", judged, SECONDS, at_most=True),
            Target("gate_times_prediction", (predicted + judged) / predicted, TIMES_PREDICTION, at_most=True),
        ]
    )


if __name__ == "__main__":
    typer.run(main)
