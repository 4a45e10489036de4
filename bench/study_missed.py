"""How often the whole procedure misses a gain that is there: from the choice of λ to the verdict, on sales channels.

    python -m bench.study_missed [--quick] [--minutes 7] [--processes 2]

A candidate that, unmixed, truly gains 20% of what business as usual earns in a window of four weeks is judged by 50,000
gate customers at a first look, with logged propensities: the procedure must promote a step towards it in 80% of the
replicates, and what it promotes must truly gain 3% on average.

Held fixed, so that hundreds of replicates are affordable: the learn log and all that was learned from it (policy,
behaviour model, version 0, critics at four λ, the opinion of the tail), and a pool of fresh customers with one window
each, chosen by hash. A replicate draws its select and gate customers from the pool, without replacement, and runs the
product's own choice of λ and verdict on them. The rate is therefore one for a given learned policy; two replicates
share some of their customers.

The candidate is the learned policy for customers of low online affinity, and what the log most likely does for the
others; affinity never changes, so that the threshold at which the gain is 20% follows from playing both once. True
gains of λ are played by fresh customers under common luck at five λ, and read off between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from scipy.stats import beta

from bench.replicates import Kept, Point, Record, play_all
from bench.study_missed_pool import PLAYED, QUICK, Pool, Size, build, nearest, programme_at, window_ends
from bench.targets import Target, conclude
from nba_tasks.dataset import Transitions
from nba_tasks.estimators import Critic
from nba_tasks.gate import Sample, choose_mix, judge
from nba_tasks.policy import Floats, explore, mix
from nba_tasks.programme import Programme
from nba_tasks.simulators import sales_channels
from nba_tasks.windows import Windows, cut_windows

CODE = (
    "bench/study_missed*.py",
    "dags/programmes/sales_channels.yaml",
    *(f"nba_tasks/{name}.py" for name in ("bounds", "critics", "dataset", "estimators", "policy", "train", "windows")),
    "nba_tasks/gate/*.py",
    "nba_tasks/learners/*.py",
    "nba_tasks/simulators/*.py",
)
"""What the figures depend on."""

PROMOTED, GAINED = 0.80, 0.03
"""The share of promotions, and the mean true gain of what is promoted, that are owed."""


@dataclass(frozen=True)
class Drawn:
    """Some of the pool's customers, as a gate looks at them."""

    pool: Pool
    rows: NDArray[np.int64]
    sample: Sample
    epsilon: float

    @classmethod
    def of(cls, pool: Pool, customers: NDArray[np.int64], programme: Programme) -> Drawn:
        """The windows of these customers."""
        rows = np.flatnonzero(np.isin(pool.customer, customers))
        n, charge = len(rows), programme.reward.lost_customer_value
        data = Transitions(
            customer=pool.customer[rows],
            epoch=pool.epoch[rows],
            state=np.zeros((n, 1), dtype=np.float32),
            action=pool.action[rows],
            reward=pool.reward[rows],
            outcomes=pool.outcomes[rows],
            eligible_logged=pool.eligible[rows],
            eligible_target=pool.eligible[rows],
            propensity=pool.propensity[rows],
            done=pool.done[rows],
            lost=pool.done[rows],
            outcome_names=sales_channels.OUTCOMES,
        )
        sample = Sample.of(
            data,
            cut_windows(data, programme.gate.horizon, window_ends(data.epoch, programme.gate.horizon)),
            behaviour=pool.behaviour[rows],
            incumbent=pool.incumbent[rows],
            discount=programme.learning.discount,
            harms=programme.harms,
            lost_charge=charge or 0.0,
        )
        return cls(pool, rows, sample, programme.layers.epsilon)

    @property
    def windows(self) -> Windows:
        return self.sample.windows

    def candidate(self, share: float) -> Floats:
        """What would be published at λ."""
        at = self.rows
        return explore(mix(self.pool.incumbent[at], self.pool.new[at], share), self.pool.allowed[at], self.epsilon)

    def critics(self, share: float) -> tuple[Critic, Critic]:
        """The candidate's critic at the nearest λ that has one, and the incumbent's."""
        return self._critic(nearest(share), self.candidate(share)), self._critic(-1, self.pool.incumbent[self.rows])

    def _critic(self, model: int, probabilities: Floats) -> Critic:
        values = self.pool.values[model]
        return Critic.of(lambda k: values[k - 1, self.rows], probabilities, self.sample.action, self.windows)


@cache
def the_pool(path: Path) -> Pool:
    """Read once a process."""
    return Pool.load(path)


def play(path: Path, size: Size, number: int) -> Record:
    """One replicate: draw customers, choose λ, judge."""
    pool, programme = the_pool(path), programme_at(size)
    customers = np.random.default_rng([7, number]).permutation(np.unique(pool.customer))
    choosing = Drawn.of(pool, customers[: size.select], programme)
    choice = choose_mix(
        choosing.sample, choosing.candidate, programme.gate, gate_customers=size.gate, critics_at=choosing.critics
    )
    if choice.mix is None:
        return {"promoted": False, "mix": 0.0, "reasons": list(choice.reasons)}
    judging = Drawn.of(pool, customers[size.select : size.select + size.gate], programme)
    verdict = judge(
        judging.sample,
        judging.candidate(choice.mix),
        programme.gate,
        critics=judging.critics(choice.mix),
        tail_gain=float(pool.tail[nearest(choice.mix)]),
        bootstrap_replicates=0,
    )
    return {"promoted": verdict.verdict == "PROMOTE", "mix": choice.mix, "reasons": list(verdict.reasons)}


def found_targets(found: list[Record], truth: Floats, quick: bool) -> list[Target]:
    """The promises; a quick run is too small to promise the first."""
    gains = [float(np.interp(r["mix"], PLAYED, truth)) for r in found if r["promoted"]]
    share = Target("missed_promoted_share", len(gains) / len(found), PROMOTED)
    gained = Target("missed_promoted_gain", float(np.mean(gains)) if gains else float("nan"), GAINED)
    return [gained] if quick and gains else [] if quick else [share, gained]


def told(found: list[Record], pool: Pool) -> list[str]:
    """The figures in words."""
    n, promoted = len(found), sum(r["promoted"] for r in found)
    low, high = (
        float(np.nan_to_num(beta.ppf(p, promoted + up, n - promoted + 1 - up), nan=1.0 - (up == 0)))
        for p, up in ((0.025, 0), (0.975, 1))
    )
    mixes = np.array([r["mix"] for r in found if r["promoted"]])
    lines = [f"unmixed the candidate truly gains {pool.truth[-1]:.1%} (standard error {pool.truth_error:.1%})"]
    lines += [f"λ = {share:g}: {gain:+.2%}" for share, gain in zip(PLAYED, pool.truth, strict=True)]
    lines.append(f"promoted in {promoted} of {n} replicates: {promoted / n:.1%} ({low:.1%} … {high:.1%})")
    if len(mixes):
        lines.append(f"λ of the promoted: median {np.median(mixes):.2f}, from {mixes.min():.2f} to {mixes.max():.2f}")
    reasons = [reason for r in found if not r["promoted"] for reason in r["reasons"]]
    return lines + [f"not promoted: {reason}" for reason in reasons[:5]]


def main(
    quick: Annotated[bool, typer.Option(help="a few small replicates")] = False,
    minutes: Annotated[float | None, typer.Option(help="stop then; a later run goes on")] = None,
    processes: Annotated[int, typer.Option(min=1, help="how many play side by side")] = 2,
    replicates: Annotated[int | None, typer.Option(min=1, help="fewer than the study's, to look at it early")] = None,
) -> None:
    """Count missed promotions; exits 1 where a target falls short."""
    size, kept = QUICK if quick else Size(), Kept("missed", CODE)
    path = kept.folder / f"pool-{size.pool}.npz"
    if not path.exists():
        build(size).save(path)
    point = Point(f"missed_{size.gate}", partial(play, path, size), replicates or size.replicates, batch=2)
    found = play_all([point], kept, processes=processes, minutes=minutes)[point.name]
    print(*told(found, the_pool(path)), sep="\n")
    conclude(found_targets(found, the_pool(path).truth, quick))


if __name__ == "__main__":
    typer.run(main)
