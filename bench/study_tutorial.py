"""The tutorial side by side with this project: what the policies earn, what the estimators say, and how long it takes.

    python -m bench.study_tutorial [--quick]

Both learn from the same 1,000 customers of the tutorial's own simulator. The tutorial estimates its policy on those
customers, as it does in print; this project estimates both ε-greedy policies (ε = 0.1) on 1,000 others, by per-decision
importance sampling with an interval. The truth is played by 200,000 fresh customers.

Speed: the tutorial's loops (one prediction at a time) against the product's functions on the same forest, the same
number of transitions and sweeps; and its sweep over ten values of ε against one array operation each. With `--quick`
the loops are timed on a twentieth of the rows and scaled up, which their time per row being constant allows.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import typer

from bench import tutorial
from bench.replicates import Kept, Point, Record, play_all
from bench.targets import Target, conclude
from nba_tasks.bounds import clustered_mean
from nba_tasks.estimators import cumulative_weights, logged_action_probability, on_windows, per_decision
from nba_tasks.learners.forest_q import fit_q
from nba_tasks.learners.refit_q import fit_q_by_refits, random_forest
from nba_tasks.policy import explore, greedy
from nba_tasks.windows import cut_windows

CUSTOMERS = 1_000
TRUTH = 200_000
EPSILON = 0.1
SEEDS = 20
CODE = ("bench/tutorial.py", "bench/study_tutorial.py", "nba_tasks/learners/*.py", "nba_tasks/estimators.py")
FIGURE = Path("docs/studies/tutorial.png")

tutorial_forest = partial(random_forest, trees=10, max_depth=4, min_samples_leaf=1)


def ours(log_of: tutorial.Profiles, seed: int) -> Callable[[tutorial.Floats], tutorial.Floats]:
    """Learn as the product does: probabilities of ε-greedy offers from states on the offer's day."""
    log, catalogue = tutorial.transitions_of(log_of)
    q = fit_q(log, catalogue, discount=1.0, min_samples_leaf=25, seed=seed).q

    def decide(state: tutorial.Floats) -> tutorial.Floats:
        given = (state[:, 2:] < tutorial.DAYS).sum(axis=1)
        scores = q.values(np.column_stack((state, given + 1)))[:, 1:]
        return tutorial.epsilon_greedy(np.asarray(scores, dtype=np.float64), EPSILON)

    return decide


def estimated(played: tutorial.Profiles, shares: tutorial.Floats) -> tuple[float, float, float]:
    """Per-decision importance sampling on customers nobody learned from: estimate and 95% interval.

    `shares` (n, OFFERS, 3) are the policy's probabilities at each of their decisions.
    """
    log, _ = tutorial.transitions_of(played)
    probabilities = np.zeros((len(log), 4))
    probabilities[log.epoch == 0, 0] = 1.0
    probabilities[log.epoch > 0, 1:] = shares.reshape(-1, tutorial.OFFERS)
    windows = cut_windows(log, tutorial.FRAMES, tutorial.FRAMES - 1)
    target = logged_action_probability(probabilities, log.action, windows)
    weight = cumulative_weights(target, log.propensity, windows)
    influence = per_decision(weight, on_windows(log.reward, windows), 1.0)
    found = clustered_mean(influence, log.customer[windows.rows[:, 0]])
    lower, upper = found.interval(0.05)
    return found.value, lower, upper


def play_seed(number: int, truth: int = TRUTH) -> Record:
    """One history: both policies' truth and estimates."""
    seed = 100 + number
    learned_from, judged_on = (tutorial.play(CUSTOMERS, 1000 * seed + i) for i in (0, 1))
    samples = tutorial.samples_of(learned_from)
    model = tutorial.recipe(samples)

    def theirs(state: tutorial.Floats) -> tutorial.Floats:
        return tutorial.epsilon_greedy(tutorial.scores(model, state), EPSILON)

    our = ours(learned_from, seed)
    n = len(judged_on.demographic)
    behind = [np.zeros(n, np.int64), *(judged_on.time[:, :-1] + 1).T]
    shares_theirs = np.stack([theirs(judged_on.state(behind[k], k)) for k in range(tutorial.OFFERS)], axis=1)
    shares_ours = np.stack([our(judged_on.state(judged_on.time[:, k], k)) for k in range(tutorial.OFFERS)], axis=1)
    return {
        "theirs": tutorial.value(truth, seed, theirs)[0],
        "theirs_by_their_estimator": tutorial.estimate(samples, tutorial.scores(model, samples.state), EPSILON),
        "theirs_by_ours": estimated(judged_on, shares_theirs),
        "ours": tutorial.value(truth, seed, our, at_offer=True)[0],
        "ours_by_ours": estimated(judged_on, shares_ours),
    }


def timed(work: Callable[[], Any], repeats: int = 1) -> float:
    """The median of some runs' seconds."""
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def speed(quick: bool) -> dict[str, float]:
    """Seconds of the tutorial's loops and of the product's functions for the same jobs."""
    played = tutorial.play(CUSTOMERS, 7)
    samples = tutorial.samples_of(played)
    share = 20 if quick else 1
    rows = slice(0, len(samples.state) // share)
    part = tutorial.Samples(samples.state[rows], samples.action[rows], samples.reward[rows], samples.following[rows])
    print("timing the tutorial's loops …", flush=True)
    # The forests' own training does not grow with the share: it is small against the predictions, and counted once.
    loops = share * timed(lambda: tutorial.recipe_in_loops(part))
    model = tutorial.recipe(samples)
    epsilons = np.linspace(0, 2 / 3, 10)
    swept = epsilons[:1] if quick else epsilons
    loops_sweep = (
        share * len(epsilons) / len(swept) * timed(lambda: [tutorial.estimate_in_loops(part, model, e) for e in swept])
    )
    log, catalogue = tutorial.transitions_of(played)
    job = timed(
        lambda: fit_q_by_refits(
            log, catalogue, discount=1.0, regressor=tutorial_forest, max_sweeps=tutorial.SWEEPS, tolerance=0
        ),
        5,
    )
    q = fit_q_by_refits(log, catalogue, discount=1.0, regressor=tutorial_forest, max_sweeps=tutorial.SWEEPS).q

    def sweep() -> None:
        windows = cut_windows(log, tutorial.FRAMES, tutorial.FRAMES - 1)
        best = greedy(q.values(log.state), log.eligible_target)
        reward = on_windows(log.reward, windows)
        for epsilon in epsilons:
            shares = explore(best, log.eligible_target, min(1.0, epsilon * tutorial.OFFERS / (tutorial.OFFERS - 1)))
            weight = cumulative_weights(logged_action_probability(shares, log.action, windows), log.propensity, windows)
            per_decision(weight, reward, 1.0)

    return {"loops": loops, "ours": job, "loops_sweep": loops_sweep, "ours_sweep": timed(sweep, 5)}


def draw(records: list[Record], path: Path) -> None:
    """Estimates against the truth, a point each history."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    truths = [r["theirs"] for r in records]
    claimed = [r["theirs_by_their_estimator"] for r in records]
    axes.scatter(truths, claimed, color="#d55e00", marker="x", label="tutorial's policy, its estimator")
    for policy, label, colour, mark in (
        ("theirs", "tutorial's policy, here", "#0072b2", "o"),
        ("ours", "this project's policy, here", "#009e73", "s"),
    ):
        found = np.array([r[f"{policy}_by_ours"] for r in records])
        axes.errorbar(
            [r[policy] for r in records],
            found[:, 0],
            yerr=np.abs(found[:, 1:].T - found[:, 0]),
            fmt=mark,
            color=colour,
            markersize=4,
            capsize=2,
            label=label,
        )
    low, high = min(truths) - 0.5, max(r["ours"] for r in records) + 0.5
    axes.plot([low, high], [low, high], color="grey", linewidth=1, label="estimate = truth")
    axes.set(xlabel="true purchases a customer", ylabel="estimate", title="ε = 0.1, twenty histories")
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main(quick: bool = False) -> None:
    """Play, time, draw; exits 1 where a target falls short."""
    seeds = 4 if quick else SEEDS
    point = Point("seeds", play_seed, seeds, batch=1)
    records = play_all([point], Kept("tutorial", CODE))["seeds"]
    print("history  tutorial: true  its estimate  estimate here (95%)      | here: true  estimate (95%)")
    for number, r in enumerate(records, start=1):
        a, b = r["theirs_by_ours"], r["ours_by_ours"]
        print(
            f"{number:7}  {r['theirs']:14.2f}  {r['theirs_by_their_estimator']:12.2f}  "
            f"{a[0]:6.2f} ({a[1]:5.2f} to {a[2]:5.2f})  | {r['ours']:10.2f}  {b[0]:6.2f} ({b[1]:5.2f} to {b[2]:5.2f})"
        )
    seconds = speed(quick)
    print("seconds: " + ", ".join(f"{name} {value:.3f}" for name, value in seconds.items()))
    if not quick:
        draw(records, FIGURE)
    covered = [r[f"{p}_by_ours"][1] <= r[p] <= r[f"{p}_by_ours"][2] for r in records for p in ("theirs", "ours")]
    conclude(
        [
            Target("tutorial_policy_gain_worst", min(r["ours"] - r["theirs"] for r in records), -0.05),
            Target("tutorial_interval_covers_share", float(np.mean(covered)), 0.85),
            Target("tutorial_job_speedup", seconds["loops"] / seconds["ours"], 200),
            Target("tutorial_epsilon_sweep_speedup", seconds["loops_sweep"] / seconds["ours_sweep"], 1000),
        ]
    )


if __name__ == "__main__":
    typer.run(main)
