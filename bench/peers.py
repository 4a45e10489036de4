"""Policies that d3rlpy learns beside this project's, on the same logs: what they truly earn, in what time and memory.

    make bench-peers [QUICK=1] [MINUTES=7]

d3rlpy and PyTorch have an environment of their own (`bench/peers-requirements.txt`) and are no dependency. What is the
same for everybody: the log, the state's columns, the reward, γ, and at every decision the rules and the support that
the log gives an action. Every learner has two trials, of which the one that is worth more by fitted Q evaluation on
customers of the select split is taken. A peer's trial gets as many CPU seconds as this project's slowest fit in that
market, and 30 at least; the processor's clock does not mind what else the machine does.

What is not the same: d3rlpy knows no rules in its backups, where the maximum runs over all actions (DiscreteBCQ's over
those that its imitator holds for likely), and reads its states standardised.

Testbed: 100 customers, their policies' exact value. Markets: those of the study of learning, played for half a year by
the same fresh customers under the same luck, so that differences are paired.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
import typer

from bench import peers_estimates
from bench.peers_d3rlpy import fit_peer
from bench.replicates import Kept, Point, Record, play_all
from bench.study_learning import CODE, TRUTH_SEED, WEEKS, market_of, p_value_of_gain
from bench.study_loop import catalogue_of, programme_of
from bench.targets import Target, conclude
from nba_tasks.dataset import Catalogue, Transitions
from nba_tasks.learners.behaviour import BehaviourModel
from nba_tasks.learners.fqe import fit_fqe_of_several, forest_on_returns, values_by_step
from nba_tasks.policy import Floats, Policy, QFunction, ServedPolicy
from nba_tasks.programme import Programme
from nba_tasks.simulators import sales_channels, testbed
from nba_tasks.train import fit_values

OURS = "this project"
PEERS = ("DQN", "DiscreteCQL", "DiscreteBCQ")
LEARNING_RATES = (1e-3, 1e-4)
"""Of a peer's two trials."""

LEAVES = (1, 4)
"""Of this project's two trials: times the programme's `min_samples_leaf`."""

TESTBED_CUSTOMERS = 100


@dataclass(frozen=True)
class Size:
    """Customers who teach, who help to choose, and who play the truth; logs; the least CPU seconds of a peer's trial.

    On the testbed, with its four hundred decisions, half of these seconds. Then logs on which estimates are compared,
    and customers whom each of them judges.
    """

    learn: int = 10_000
    select: int = 5_000
    truth: int = 4_000
    markets: int = 20
    testbeds: int = 10
    seconds: float = 30.0
    estimates: int = 40
    judged: int = 500


QUICK = Size(1_000, 500, 300, 1, 1, 5.0, 3)


@dataclass(frozen=True)
class Log:
    """What a learner is given, and the customers on whom its trials are compared."""

    programme: Programme
    learn: Transitions
    select: Transitions
    catalogue: Catalogue
    horizon: int

    @property
    def discount(self) -> float:
        return self.programme.learning.discount


def policies_of(log: Log, seconds: float, seed: int) -> tuple[dict[str, ServedPolicy], dict[str, float]]:
    """The better of each learner's two trials, greedy under rules and support; and the CPU seconds of both trials."""
    settings, layers = log.programme.learning, log.programme.layers
    behaviour = BehaviourModel.fit(log.learn, seed=seed)
    likely = behaviour.probabilities(log.learn.state, log.learn.eligible_target)
    trials: dict[str, list[QFunction]] = {}
    took: dict[str, list[float]] = {}

    def tried(name: str, work: Callable[[], QFunction]) -> None:
        begun = time.process_time()
        trials.setdefault(name, []).append(work())
        took.setdefault(name, []).append(time.process_time() - begun)

    for times in LEAVES:
        learning = settings.model_copy(update={"min_samples_leaf": times * settings.min_samples_leaf})
        programme = log.programme.model_copy(update={"learning": learning})
        tried(OURS, lambda p=programme: fit_values(p, log.learn, log.catalogue, likely, seed).q)  # type: ignore[misc]
    budget = max(seconds, *took[OURS])
    for name in PEERS:
        for rate in LEARNING_RATES:
            tried(name, partial(fit_peer, name, rate, log.learn, log.discount, budget, seed))
    served = {
        name: [ServedPolicy(behaviour, q, behaviour, support=layers.support, mix=1.0, epsilon=0.0) for q in found]
        for name, found in trials.items()
    }
    worth = worth_of(log, [policy for found in served.values() for policy in found])
    best = {name: found[int(np.argmax(worth[2 * i : 2 * i + 2]))] for i, (name, found) in enumerate(served.items())}
    return best, {name: sum(each) for name, each in took.items()}


def worth_of(log: Log, policies: Sequence[ServedPolicy]) -> Floats:
    """Fitted Q evaluation of each policy on the select split: the mean value of a window at every customer's start."""
    data, settings = log.select, log.programme.learning
    charge = np.full(len(data), log.programme.reward.lost_customer_value or 0.0)
    forest = forest_on_returns(
        data,
        log.catalogue,
        horizon=log.horizon,
        discount=log.discount,
        trees=settings.trees,
        min_samples_leaf=settings.min_samples_leaf,
        grow_rows=settings.grow_rows,
        terminal_charge=charge,
    )
    shares = [np.asarray(p.probabilities(data.state, data.eligible_target), dtype=np.float64) for p in policies]
    models = fit_fqe_of_several(
        data,
        log.catalogue,
        shares,
        horizon=log.horizon,
        discount=log.discount,
        forest=forest,
        terminal_charge=charge,
    )
    first = np.append(True, data.customer[1:] != data.customer[:-1])
    values = values_by_step(models, data.state[first])[:, -1]
    return np.array([float((share[first] * q).sum(axis=1).mean()) for share, q in zip(shares, values, strict=True)])


def log_of_market(size: Size, number: int) -> Log:
    """A drawn market's log, as the study of learning plays it."""
    programme, market = programme_of("sales_channels"), market_of("drawn", number)
    learn, select = (
        sales_channels.to_transitions(sales_channels.simulate(n, seed, market))
        for n, seed in ((size.learn, number + 1), (size.select, 9_000 + number))
    )
    catalogue = catalogue_of(programme, sales_channels.catalogue(market), sales_channels.AS_OF)
    return Log(programme, learn, select, catalogue, programme.gate.horizon)


def play_market(size: Size, number: int) -> Record:
    """One market: true values, and what this project's policy earns more than each peer's."""
    log, market = log_of_market(size, number), market_of("drawn", number)
    policies, seconds = policies_of(log, size.seconds, number)

    def played(policy: Policy) -> Floats:
        charge = log.programme.reward.lost_customer_value or 0.0
        return sales_channels.career_value(
            policy.probabilities, WEEKS, log.discount, size.truth, TRUTH_SEED + number, market, charge
        ).returns

    returns = {name: played(policy) for name, policy in policies.items()}
    gains = {name: returns[OURS] - returns[name] for name in PEERS}
    return {
        "value": {name: float(one.mean()) for name, one in returns.items()},
        "gain": {name: [float(one.mean()), float(one.std() / np.sqrt(len(one)))] for name, one in gains.items()},
        "seconds": seconds,
    }


def log_of_testbed(number: int) -> Log:
    """A hundred customers who teach, and a hundred who help to choose."""
    programme = programme_of("testbed")
    learn, select = (
        testbed.to_transitions(testbed.simulate(TESTBED_CUSTOMERS, seed)) for seed in (number + 1, 9_000 + number)
    )
    catalogue = catalogue_of(programme, testbed.catalogue(), testbed.AS_OF)
    return Log(programme, learn, select, catalogue, testbed.EPOCHS)


def play_testbed(size: Size, number: int) -> Record:
    """One hundred customers: every learner's exact share of the optimum."""
    policies, seconds = policies_of(log_of_testbed(number), size.seconds / 2, number)
    best = testbed.optimal_value()
    return {
        "share": {name: testbed.policy_value(policy.probabilities) / best for name, policy in policies.items()},
        "seconds": seconds,
    }


def peak_of(size: Size, name: str) -> float:
    """Peak memory of one fit on a market's log, in GiB, the log and the libraries included."""
    log = log_of_market(size, 0)
    if name == OURS:
        behaviour = BehaviourModel.fit(log.learn, seed=0)
        likely = behaviour.probabilities(log.learn.state, log.learn.eligible_target)
        fit_values(log.programme, log.learn, log.catalogue, likely, 0)
    else:
        fit_peer(name, LEARNING_RATES[0], log.learn, log.discount, size.seconds, 0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def peaks(size: Size) -> dict[str, float]:
    """Of every learner, each in a process of its own."""
    found = {}
    for name in (OURS, *PEERS):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            found[name] = pool.submit(peak_of, size, name).result()
    return found


def told(testbeds: Sequence[Record], markets: Sequence[Record], memory: Mapping[str, float]) -> list[str]:
    """The table, losses included."""
    columns = (
        "learner", "testbed: share of the optimum, worst … best", "markets: median value", "we earn more, median",
        "surely more / less", "CPU seconds of two trials", "GiB",
    )  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name in (OURS, *PEERS):
        shares = [record["share"][name] for record in testbeds]
        value = np.median([record["value"][name] for record in markets])
        seconds = np.median([record["seconds"][name] for record in markets])
        gain, sure = "", ""
        if name != OURS:
            gains = np.array([record["gain"][name] for record in markets])
            gain, reach = f"{np.median(gains[:, 0]):+.3f}", 1.96 * gains[:, 1]
            sure = f"{int((gains[:, 0] > reach).sum())} / {int((gains[:, 0] < -reach).sum())} of {len(markets)}"
        row = (name, f"{min(shares):.1%} … {max(shares):.1%}", f"{value:.3f}", gain, sure, f"{seconds:.0f}")
        lines.append(f"| {' | '.join(row)} | {memory[name]:.2f} |")
    return lines


def targets_of(testbeds: Sequence[Record], markets: Sequence[Record], quick: bool) -> list[Target]:
    """Above every peer in median, by Wilcoxon's signed ranks over the markets; no worse than any on the testbed."""
    worst = min(record["share"][OURS] - max(record["share"][name] for name in PEERS) for record in testbeds)
    targets = [Target("peers_testbed_worst_difference", worst, -0.02)]
    for name in () if quick else PEERS:
        gains = np.array([record["gain"][name][0] for record in markets])
        targets.append(Target(f"peers_median_gain_over_{name}", float(np.median(gains)), 0.0, strict=True))
        targets.append(Target(f"peers_p_value_over_{name}", p_value_of_gain(markets, name), 0.05, at_most=True))
    return targets


def main(
    quick: Annotated[bool, typer.Option(help="one small log of each")] = False,
    minutes: Annotated[float | None, typer.Option(help="stop then; a later run goes on")] = None,
    processes: Annotated[int, typer.Option(min=1, help="how many play side by side")] = 2,
) -> None:
    """Compare; exits 1 where a target falls short."""
    size = QUICK if quick else Size()
    kept = Kept("peers-quick" if quick else "peers", ("bench/peers*.py", "nba_tasks/estimators.py", *CODE))
    points = [
        Point("testbed", partial(play_testbed, size), size.testbeds, batch=1),
        Point("markets", partial(play_market, size), size.markets, batch=1),
        Point(
            "estimates", partial(peers_estimates.play_estimates, size.judged, size.seconds / 4), size.estimates, batch=1
        ),
    ]
    found = play_all(points, kept, processes=processes, minutes=minutes)
    print(*told(found["testbed"], found["markets"], peaks(size)), "", sep="\n")
    print(*peers_estimates.told(found["estimates"]), sep="\n")
    conclude(targets_of(found["testbed"], found["markets"], quick) + peers_estimates.targets_of(found["estimates"]))


if __name__ == "__main__":
    typer.run(main)
