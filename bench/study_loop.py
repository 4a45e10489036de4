"""The loop on customers whose truth is known: learn, choose the mix, gate, and what the published mixture really earns.

    python -m bench.study_loop [testbed|sales_channels] [--seeds 20]

Every seed plays a new history and takes it through the product's own functions, from the split by hash to the verdict.
Only the way through Postgres is left out: the tests of the transitions show that SQL builds the same arrays.

Testbed: true values are exact, by enumeration. The learned greedy policy must reach 95% of the optimum in every seed;
the mixture that a promotion would publish must be worth more than version 0; and the gate's 95% interval must hold that
mixture's true value in 17 of 20 seeds, which an honest interval misses with a probability of 1.6%.

Sales channels: what `make demo` plays. The gate must promote in 19 of 20 seeds, always with a true gain: the mixture's
and version 0's windows are played by the same fresh customers under the same luck, and the mean difference must lie two
standard errors above 0.

What was played is kept under the state folder: a run that was cut off goes on where it stopped.
"""

from __future__ import annotations

import datetime as dt
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, Literal, get_args

import numpy as np
import typer

from bench.replicates import Kept, Point, Record, play_all
from bench.targets import Target, conclude
from nba_tasks.bounds import Clusters
from nba_tasks.dataset import Catalogue, IntArray, Transitions
from nba_tasks.gate.figures import Figure
from nba_tasks.hashing import uniforms
from nba_tasks.loading import Loaded, Split
from nba_tasks.policy import ServedPolicy
from nba_tasks.programme import Programme, read_programme
from nba_tasks.settings import REPOSITORY
from nba_tasks.shape import CatalogueAction, Shape
from nba_tasks.simulators import sales_channels, testbed
from nba_tasks.train import fit
from nba_tasks.trial import Held, judge_candidate, sides_of

Study = Literal["testbed", "sales_channels"]

CUSTOMERS = 20_000
"""As many as `make demo` makes."""

TRUTH_CUSTOMERS = 6_000
"""Fresh customers who play the true gain: its standard error is an eighth of it, at the smallest λ a fifth."""

TRUTH_SEED = 1_000_000
"""Added to a history's seed: nobody who plays the truth was seen by the gate."""

GREEDY_SHARE = 0.95
COVERED_SHARE = 17 / 20
PROMOTED_SHARE = 19 / 20

CODE = (
    "bench/study_loop.py",
    "dags/programmes/sales_channels.yaml",
    "tests/programmes/testbed.yaml",
    "nba_tasks/programme/sections.py",
    *(f"nba_tasks/{name}.py" for name in ("bounds", "critics", "dataset", "estimators", "policy", "train", "trial")),
    *(f"nba_tasks/{folder}/*.py" for folder in ("gate", "learners", "simulators")),
)
"""What the figures depend on."""


@dataclass(frozen=True)
class Trained:
    """One history, learned from and judged.

    Attributes
    ----------
    served : ServedPolicy
        The learned policy behind the programme's layers, unmixed; its incumbent is version 0.
    held : Held
    """

    served: ServedPolicy
    held: Held

    @property
    def decided(self) -> Figure:
        """The deciding estimator's value of the candidate, with its two-sided interval."""
        deciding = self.held.verdict.deciding
        assert deciding is not None, "every propensity was logged"
        found = (f for f in self.held.verdict.estimates if f.estimator == deciding.estimator)
        return next(f for f in found if f.policy == "candidate")


@dataclass(frozen=True)
class TestbedSeed:
    """What one seed of the testbed showed: exact values, and the gate's interval of the mixture's."""

    __test__ = False  # to pytest: not a test

    promoted: bool
    mix: float
    greedy: float
    version_0: float
    mixture: float
    lower: float
    upper: float

    @property
    def covered(self) -> bool:
        return self.lower <= self.mixture <= self.upper


@dataclass(frozen=True)
class ChannelsSeed:
    """What one seed of the sales channels showed: the gate's verdict, and the mixture's true gain a window."""

    promoted: bool
    mix: float
    estimate: float
    lower: float
    gain: float
    standard_error: float
    reasons: tuple[str, ...]  # why it was not promoted

    @property
    def sure_gain(self) -> float:
        """Two standard errors below the measured gain."""
        return self.gain - 2 * self.standard_error


def programme_of(study: Study) -> Programme:
    """The programme file that a study plays."""
    folder = {"testbed": "tests", "sales_channels": "dags"}[study]
    return read_programme(REPOSITORY / folder / "programmes" / f"{study}.yaml")


def catalogue_of(programme: Programme, known: Catalogue, as_of: dt.date) -> Catalogue:
    """The simulator's actions with the features that learning is given of them in production."""
    actions = zip(known.ids, known.channels, known.cost.tolist(), strict=True)
    rows = (CatalogueAction(i, *action, None, None, ()) for i, action in enumerate(actions))
    return Shape(programme, as_of, tuple(rows)).catalogue()


def split_customers(programme: Programme, played: Transitions, last_epoch: IntArray) -> dict[Split, Loaded]:
    """Deal customers to the splits by hash, as the history does.

    Parameters
    ----------
    played : Transitions
    last_epoch : int array of shape (n,)
        See `Loaded`.
    """
    customers, position = np.unique(played.customer, return_inverse=True)
    draw = uniforms(programme.programme, "split", programme.salt, customers.tolist())
    shares = programme.splits
    part = np.searchsorted([shares.learn, shares.learn + shares.select], draw, side="right")[position]
    return {split: Loaded(played.rows(part == i), last_epoch[part == i]) for i, split in enumerate(get_args(Split))}


def train(programme: Programme, splits: dict[Split, Loaded], catalogue: Catalogue, seed: int) -> Trained:
    """What the training DAG does with a first history: version 0 is both the behaviour model and the incumbent."""
    behaviour, fitted = fit(programme, splits["learn"].transitions, catalogue, seed)
    layers = programme.layers
    served = ServedPolicy(behaviour, fitted.q, behaviour, support=layers.support, mix=1.0, epsilon=layers.epsilon)
    sides = sides_of(programme, splits, served)
    return Trained(served, judge_candidate(programme, catalogue, served, sides))


def play_testbed(programme: Programme, seed: int, customers: int = CUSTOMERS) -> TestbedSeed:
    """One history of the testbed. The window is the whole trajectory, so what is gated is the value itself."""
    played = testbed.to_transitions(testbed.simulate(customers, seed))
    splits = split_customers(programme, played, np.full(len(played), testbed.EPOCHS - 1))
    trained = train(programme, splits, catalogue_of(programme, testbed.catalogue(), testbed.AS_OF), seed)
    return TestbedSeed(
        promoted=trained.held.outcome == "PROMOTE",
        mix=trained.held.policy.mix,
        greedy=testbed.policy_value(trained.served.probabilities),
        version_0=testbed.policy_value(trained.served.incumbent.probabilities),
        mixture=testbed.policy_value(trained.held.policy.probabilities),
        lower=trained.decided.lower,
        upper=trained.decided.upper,
    )


def play_sales_channels(
    programme: Programme, seed: int, customers: int = CUSTOMERS, truth_customers: int = TRUTH_CUSTOMERS
) -> ChannelsSeed:
    """One history of the sales channels, and the true gain of its mixture."""
    simulation = sales_channels.simulate(customers, seed)
    grid, played = simulation.grid, sales_channels.to_transitions(simulation)
    settled = np.sum([grid.settled(epoch) for epoch in grid.epochs], axis=0)
    last_epoch = grid.epochs.start + settled - 1
    splits = split_customers(programme, played, last_epoch[np.searchsorted(grid.customer, played.customer)])
    trained = train(programme, splits, catalogue_of(programme, sales_channels.catalogue(), grid.as_of), seed)
    held, deciding = trained.held, trained.held.verdict.deciding
    assert deciding is not None, "every propensity was logged"
    charge = programme.reward.lost_customer_value
    assert charge is not None, "the simulator charges a loss where it happens, as only a configured value is"
    mixture, version_0 = (
        sales_channels.window_value(
            policy.probabilities,
            programme.gate.horizon,
            programme.learning.discount,
            truth_customers,
            TRUTH_SEED + seed,
            lost_customer_value=charge,
        )
        for policy in (held.policy, trained.served.incumbent)
    )
    gain = Clusters(mixture.customer).mean(mixture.returns - version_0.returns)
    return ChannelsSeed(
        promoted=held.outcome == "PROMOTE",
        mix=held.policy.mix,
        estimate=deciding.estimate,
        lower=deciding.lower,
        gain=gain.value,
        standard_error=gain.standard_error,
        reasons=held.reasons,
    )


def testbed_targets(seeds: Sequence[TestbedSeed]) -> list[Target]:
    """The testbed's promises; a gain is only owed, and shown, where something was promoted."""
    gains = [seed.mixture - seed.version_0 for seed in seeds if seed.promoted]
    return [
        Target("testbed_greedy_share", min(s.greedy for s in seeds) / testbed.optimal_value(), GREEDY_SHARE),
        Target("testbed_promoted_gain", min(gains, default=math.nan), 0, strict=True),
        Target("testbed_interval_covers", sum(s.covered for s in seeds), math.ceil(COVERED_SHARE * len(seeds))),
    ]


def sales_channels_targets(seeds: Sequence[ChannelsSeed]) -> list[Target]:
    """The demo's promises."""
    gains = [seed.sure_gain for seed in seeds if seed.promoted]
    return [
        Target("sales_channels_promoted", len(gains), math.ceil(PROMOTED_SHARE * len(seeds))),
        Target("sales_channels_sure_gain", min(gains, default=math.nan), 0, strict=True),
    ]


PLAYS: dict[Study, Callable[[Programme, int], TestbedSeed | ChannelsSeed]] = {
    "testbed": play_testbed,
    "sales_channels": play_sales_channels,
}


def _play(study: Study, number: int) -> Record:
    """One seed's record; seeds count from 1."""
    begun = time.monotonic()
    found = PLAYS[study](programme_of(study), number + 1)
    return {"found": asdict(found), "seconds": time.monotonic() - begun}


def _records(study: Study, seeds: int) -> list[Record]:
    """Seeds 1 … `seeds`: played now, or kept from before."""
    point = Point(study, partial(_play, study), seeds, batch=1)
    return play_all([point], Kept("loop", CODE))[study]


def study_testbed(seeds: int) -> list[Target]:
    """Play the testbed's seeds, and print a line each."""
    records = _records("testbed", seeds)
    found = [TestbedSeed(**record["found"]) for record in records]
    print(f"testbed: {CUSTOMERS:,} customers a seed; the optimum is {testbed.optimal_value():.3f} purchases a customer")
    print("seed  verdict   mix  greedy  version 0  mixture  its 95% interval  held  seconds")
    for number, (seed, record) in enumerate(zip(found, records, strict=True), 1):
        print(
            f"{number:4}  {_verdict(seed.promoted)}  {seed.mix:.2f}  {seed.greedy:6.3f}  {seed.version_0:9.3f}  "
            f"{seed.mixture:7.3f}  {seed.lower:6.3f} to {seed.upper:6.3f}  {'yes' if seed.covered else 'no':>4}  "
            f"{record['seconds']:7.1f}"
        )
    return testbed_targets(found)


def study_sales_channels(seeds: int) -> list[Target]:
    """Play the sales channels' seeds, and print a line each, and why a seed was not promoted."""
    records = _records("sales_channels", seeds)
    found = [ChannelsSeed(**record["found"]) for record in records]
    horizon = programme_of("sales_channels").gate.horizon
    print(f"sales channels: {CUSTOMERS:,} customers a seed; gains in euros a window of {horizon} weeks")
    print("seed  verdict   mix  estimate  lower bound  true gain (s. e.)  seconds")
    for number, (seed, record) in enumerate(zip(found, records, strict=True), 1):
        print(
            f"{number:4}  {_verdict(seed.promoted)}  {seed.mix:.2f}  {seed.estimate:+8.4f}  {seed.lower:+11.4f}  "
            f"{seed.gain:+8.4f} ({seed.standard_error:.4f})  {record['seconds']:7.1f}",
            *(() if seed.promoted else seed.reasons),
            sep="\n      ",
        )
    return sales_channels_targets(found)


def _verdict(promoted: bool) -> str:
    return "PROMOTE" if promoted else "no     "


STUDIES: dict[Study, Callable[[int], list[Target]]] = {
    "testbed": study_testbed,
    "sales_channels": study_sales_channels,
}


def main(
    study: Annotated[Study | None, typer.Argument(help="one of them; both if left out")] = None,
    seeds: Annotated[int, typer.Option(min=1)] = 20,
) -> None:
    """Play the loop on customers whose truth is known; exits 1 where a target falls short."""
    chosen = (study,) if study else get_args(Study)
    conclude([target for name in chosen for target in STUDIES[name](seeds)])


if __name__ == "__main__":
    typer.run(main)
