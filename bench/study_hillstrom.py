"""Every estimator against a randomised truth, on real customers of a published e-mail test.

    python -m bench.study_hillstrom path/to/hillstrom.csv.xz [--quick] [--minutes 7]

64,000 customers got one of two e-mails or none, at random. Every split deals them anew: a fifth to learn from, two
fifths to judge on, and two fifths whose arms show the truth: there a policy's value is the mean of those who happened
to get what it would have done, weighted by 3 times its probability. The log to judge on is

- randomised: as it is;
- biased: customers are left out so that it looks as if a team had chosen by history and interest; its probabilities
  are known exactly;
- wrong: the same log, said to be randomised;
- estimated: the same log without probabilities, which the behaviour model learns from others like it.

An estimate covers if it lies within 1.96 standard errors of the truth, those of both parts joined. The splits share
customers, so that their coverages are not independent.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray

from bench.replicates import Kept, Point, Record, play_all
from bench.targets import Target, conclude
from nba_tasks.bounds import Estimate
from nba_tasks.dataset import Catalogue, FloatArray, Transitions
from nba_tasks.estimators import (
    Critic,
    direct_method,
    doubly_robust,
    importance_sampling,
    weighted_doubly_robust,
    weighted_importance_sampling,
)
from nba_tasks.gate import Placebo, Sample, judge
from nba_tasks.learners.behaviour import BehaviourModel
from nba_tasks.learners.forest_q import fit_q
from nba_tasks.learners.fqe import fit_fqe, forest_on_returns
from nba_tasks.programme import Gate
from nba_tasks.simulators import hillstrom
from nba_tasks.windows import cut_windows

Floats = NDArray[np.float64]

CODE = ("bench/study_hillstrom.py", "nba_tasks/bounds.py", "nba_tasks/estimators.py", "nba_tasks/gate/*.py",
        "nba_tasks/learners/*.py", "nba_tasks/simulators/hillstrom.py")  # fmt: skip
SPLITS, QUICK_SPLITS = 40, 8
OBJECTIVES = ("visit", "purchase")
LOGS = ("randomised", "biased", "wrong", "estimated")
POLICIES = ("always none", "always mens", "always womens", "by interest", "uniform", "learned", "learned, a quarter")
CATALOGUE = Catalogue(hillstrom.ACTIONS, (None, "email", "email"), np.zeros(3), np.eye(3, dtype=np.float32))

COVERED_SHARE, QUICK_COVERED_SHARE = 0.90, 0.75
"""A few splits, which share their customers, show no more than that nothing is badly wrong."""

FOUND_SHARE = 0.95


@cache
def customers(path: Path) -> Transitions:
    """The file as arrays: one decision a customer, with what followed it."""
    return to_transitions(hillstrom.read(path))


def to_transitions(data: pd.DataFrame) -> Transitions:
    """One row a customer; the reward is what was spent."""
    n = len(data)
    codes = [pd.Categorical(data[name], categories=list(known)).codes for name, known in
             (("zip_code", hillstrom.ZIP_CODES), ("channel", hillstrom.CHANNELS))]  # fmt: skip
    numbers = [data[name].to_numpy(np.float64) for name in ("recency", "history", "mens", "womens", "newbie")]
    action = pd.Categorical(data["segment"], categories=list(hillstrom.SEGMENTS)).codes.astype(np.int64)
    everything, ended = np.ones((n, 3), dtype=bool), np.zeros(n, dtype=bool)
    spend = data["spend"].to_numpy(np.float64)
    return Transitions(
        customer=np.arange(n),
        epoch=np.zeros(n, dtype=np.int64),
        state=np.column_stack((*numbers, *codes)).astype(np.float32),
        action=action,
        reward=spend,
        outcomes=np.column_stack((data["visit"].to_numpy(np.float64), spend)),
        eligible_logged=everything,
        eligible_target=everything,
        propensity=np.full(n, 1 / 3),
        done=~ended,
        lost=ended,
        outcome_names=OBJECTIVES,
    )


def biased(state: FloatArray) -> Floats:
    """A team's habit: more e-mails the more was spent, about what was bought; shape (n, 3)."""
    history, mens, womens = state[:, 1], state[:, 2], state[:, 3]
    score = np.column_stack((np.where(history < 150, 0.7, -0.3), 0.8 * mens - 0.2, 0.8 * womens - 0.4))
    weight = np.exp(score.astype(np.float64))
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))


def leave_out(log: Transitions, rng: np.random.Generator) -> Transitions:
    """A randomised log thinned so that, among those who are left, actions have the probabilities of `biased`.

    A customer stays with a probability in proportion to that of the action they got. Over the three actions, equally
    likely, this comes to the same for everybody: who the customers are does not change.
    """
    chance = biased(log.state)
    own = chance[np.arange(len(log)), log.action]
    kept = rng.random(len(log)) < own / chance.max()
    thinned = log.rows(kept)
    return replace(thinned, propensity=own[kept])


def policies_of(log: Transitions, learned: Floats) -> dict[str, Floats]:
    """Every policy's probabilities on a log's rows, given the learned policy's."""
    n, one = len(log), np.eye(3)
    interest = np.where(log.state[:, 2] > 0, 1, 2)
    found = (*(np.tile(one[a], (n, 1)) for a in range(3)), one[interest], np.full((n, 3), 1 / 3), learned)
    return dict(zip(POLICIES, (*found, 0.75 / 3 + 0.25 * learned), strict=True))


def estimates(log: Transitions, objective: str, policy: Floats, model: Floats) -> dict[str, Estimate]:
    """Every estimator's value of a policy for one objective; `model` is Q̂ of it, of shape (n, 3)."""
    sample = sample_of(log, objective, policy)
    weight, reward, alive = sample.weigh(policy), sample.rewards, sample.windows.alive
    critic = Critic.of(lambda _: model, policy, log.action, sample.windows)
    values = {
        "IS": importance_sampling(weight, reward, 1.0),
        "WIS": weighted_importance_sampling(weight, reward, 1.0),
        "DM": direct_method(critic),
        "DR": doubly_robust(weight, reward, 1.0, critic, alive),
        "WDR": weighted_doubly_robust(weight, reward, 1.0, critic, alive),
    }
    return {name: sample.clusters.mean(value) for name, value in values.items()}


def sample_of(log: Transitions, objective: str, incumbent: Floats, behaviour: Floats | None = None) -> Sample:
    """A log for the gate, with an objective as its reward."""
    paid = replace(log, reward=log.outcomes[:, OBJECTIVES.index(objective)])
    return Sample.of(
        paid, cut_windows(paid, 1), behaviour=incumbent if behaviour is None else behaviour, incumbent=incumbent,
        discount=1.0,
    )  # fmt: skip


def play_split(path: Path, trees: int, number: int) -> Record:
    """One split: errors and coverage of every estimator, and whether the gate refuses the wrong propensities."""
    rng, everyone = np.random.default_rng([number, 15]), customers(path)
    part = rng.choice(3, size=len(everyone), p=(0.2, 0.4, 0.4))
    learn, judged, shown = (everyone.rows(part == i) for i in range(3))
    q = fit_q(
        learn, CATALOGUE, discount=0.0, trees=trees, min_samples_leaf=200, refits=1, max_sweeps=5, tolerance=0.01,
        seed=number,
    ).q  # fmt: skip
    thinned, other = leave_out(judged, rng), leave_out(learn, rng)
    model = BehaviourModel.fit(replace(other, propensity=np.full(len(other), np.nan)), seed=number)
    habit = model.probabilities(thinned.state, thinned.eligible_logged)
    logs = {
        "randomised": judged,
        "biased": thinned,
        "wrong": replace(thinned, propensity=np.full(len(thinned), 1 / 3)),
        "estimated": replace(thinned, propensity=habit[np.arange(len(thinned)), thinned.action]),
    }
    record: dict[str, list[float]] = {}
    for objective in OBJECTIVES:
        paid = replace(learn, reward=learn.outcomes[:, OBJECTIVES.index(objective)])
        forest = forest_on_returns(paid, CATALOGUE, horizon=1, discount=1.0, trees=trees, min_samples_leaf=200)
        # With one decision to go every policy has the same action values.
        critic = fit_fqe(paid, CATALOGUE, np.full((len(paid), 3), 1 / 3), horizon=1, discount=1.0, forest=forest)
        truth = _truth(shown, objective, policies_of(shown, _greedy(q.values(shown.state))))
        for name, log in logs.items():
            values = critic.values(log.state, 1).astype(np.float64)
            for policy, probabilities in policies_of(log, _greedy(q.values(log.state))).items():
                true = truth[policy]
                for estimator, found in estimates(log, objective, probabilities, values).items():
                    error = found.value - true.value
                    joined = float(np.hypot(found.standard_error, true.standard_error))
                    record[f"{objective}|{name}|{policy}|{estimator}"] = [error, float(abs(error) <= 1.96 * joined)]
    return {"estimates": record, "refused": refused(logs["wrong"]), "accused": refused(logs["biased"])}


def _greedy(q: FloatArray) -> Floats:
    return np.asarray(np.eye(3)[q.argmax(axis=1)])


def _truth(shown: Transitions, objective: str, policies: Mapping[str, Floats]) -> dict[str, Estimate]:
    """What the randomised arms show of each policy."""
    found = {}
    for name, policy in policies.items():
        sample = sample_of(shown, objective, policy)
        found[name] = sample.clusters.mean(weighted_importance_sampling(sample.weigh(policy), sample.rewards, 1.0))
    return found


def refused(log: Transitions) -> bool:
    """Whether the gate's sanity rule rejects a log with these propensities."""
    uniform = np.full((len(log), 3), 1 / 3)
    sample = sample_of(log, "visit", uniform, uniform)
    candidate = 0.8 * uniform + 0.2 * np.array((0.0, 1.0, 0.0))
    verdict = judge(sample, candidate, Gate(horizon=1), placebo=Placebo(1.0, 0.0), bootstrap_replicates=0)
    return any(result.rule == "sanity" and result.status == "reject" for result in verdict.rules)


def table(records: Sequence[Record]) -> Iterator[str]:
    """Root mean square error, mean error and coverage over splits and policies, by objective, log and estimator."""
    yield "| objective | log | estimator | root mean square error | mean error | covered |"
    yield "|---|---|---|---|---|---|"
    for (objective, log, estimator), pairs in _grouped(records).items():
        error, covered = np.array(pairs).T
        figures = (f"{np.sqrt((error**2).mean()):.4f}", f"{error.mean():+.4f}", f"{covered.mean():.1%}")
        yield f"| {' | '.join((objective, log, estimator, *figures))} |"


def table_of_policies(records: Sequence[Record], estimator: str = "DR") -> Iterator[str]:
    """The same of one estimator by policy."""
    yield "| objective | policy | log | root mean square error | covered |"
    yield "|---|---|---|---|---|"
    for objective in OBJECTIVES:
        for policy in POLICIES:
            for log in LOGS:
                pairs = [r["estimates"][f"{objective}|{log}|{policy}|{estimator}"] for r in records]
                error, covered = np.array(pairs).T
                row = (objective, policy, log, f"{np.sqrt((error**2).mean()):.4f}", f"{covered.mean():.1%}")
                yield f"| {' | '.join(row)} |"


def _grouped(records: Sequence[Record]) -> dict[tuple[str, str, str], list[list[float]]]:
    groups: dict[tuple[str, str, str], list[list[float]]] = defaultdict(list)
    for record in records:
        for key, pair in record["estimates"].items():
            objective, log, _, estimator = key.split("|")
            groups[objective, log, estimator].append(pair)
    return groups


def targets(records: Sequence[Record], quick: bool = False) -> list[Target]:
    """Intervals hold where propensities are right, and wrong ones are refused."""
    right = [
        np.array(pairs)[:, 1].mean()
        for (_, log, estimator), pairs in _grouped(records).items()
        if log in {"randomised", "biased"} and estimator != "DM"
    ]
    return [
        Target("hillstrom_covered_least", float(min(right)), QUICK_COVERED_SHARE if quick else COVERED_SHARE),
        Target("hillstrom_wrong_refused", float(np.mean([r["refused"] for r in records])), FOUND_SHARE),
        Target(
            "hillstrom_right_accused", float(np.mean([r["accused"] for r in records])), 1 - FOUND_SHARE, at_most=True
        ),
    ]


def main(
    path: Annotated[Path, typer.Argument(help="the e-mail test's file", exists=True, dir_okay=False)],
    quick: Annotated[bool, typer.Option(help="a few splits")] = False,
    minutes: Annotated[float | None, typer.Option(help="stop then; a later run goes on")] = None,
) -> None:
    """Compare every estimator with the randomised arms; exits 1 where a target falls short."""
    contents = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    kept = Kept(f"hillstrom-{contents}", CODE)
    point = Point("splits", partial(play_split, path.resolve(), 40), QUICK_SPLITS if quick else SPLITS, batch=1)
    records = play_all([point], kept, minutes=minutes)["splits"]
    print(*table(records), "", *table_of_policies(records), "", sep="\n")
    conclude(targets(records, quick))


if __name__ == "__main__":
    typer.run(main)
