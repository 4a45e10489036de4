"""What learning finds: the testbed from a hundred customers, and sales channels in many markets beside every baseline.

    python -m bench.study_learning [--quick] [--minutes 7] [--processes 2]

Testbed: 100 customers, 20 seeds; the true value of the learned greedy policy is exact, and the worst seed must reach
98% of the optimum.

Sales channels: the default market, two special ones and 20 drawn at random. Learned policy and baselines share the log,
the trees and the rules. Each is played for a half-year by the same fresh customers under the same luck, so that their
differences are paired. The learned policy may not fall surely below the best baseline in any market where contacts do
something (three standard errors), and over the drawn markets its gain over each baseline must lie above 0 (Wilcoxon's
signed ranks at 5%). Where the interval of a difference holds 0 the table says "no gain".

Where contacts do nothing, nothing tells a harmless contact from none, and what matters is that a user is told: ten logs
of that market are taken through the gate, and at most one report may claim a gain over "no contact".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
import typer
from scipy.stats import wilcoxon

from bench.replicates import Kept, Point, Record, play_all
from bench.report_pictures import report_of
from bench.study_loop import catalogue_of, programme_of
from bench.targets import Target, conclude
from nba_tasks.dataset import BoolArray, Catalogue, FloatArray, Transitions
from nba_tasks.learners.baselines import BehaviourCloning, Greedy, best_single_action, no_contact
from nba_tasks.learners.fqe import forest_on_returns
from nba_tasks.learners.look_alikes import NAMES, LookAlikes
from nba_tasks.policy import Floats, Policy, QFunction, ServedPolicy
from nba_tasks.programme import Programme
from nba_tasks.simulators import sales_channels, testbed
from nba_tasks.simulators.market import MARKETS, Market, draw_market
from nba_tasks.train import fit

CODE = (
    "bench/study_learning.py",
    "dags/programmes/sales_channels.yaml",
    "tests/programmes/testbed.yaml",
    "nba_tasks/policy.py",
    "nba_tasks/train.py",
    "nba_tasks/trial.py",
    "nba_tasks/exhibition.py",
    "nba_tasks/gate/exhibits/values.py",
    "nba_tasks/programme/sections.py",
    "nba_tasks/learners/*.py",
    "nba_tasks/simulators/*.py",
)
"""What the figures depend on."""

OPTIMUM_SHARE = 0.98
TESTBED_CUSTOMERS, TESTBED_SEEDS = 100, 20
NOTHING = "contact_does_nothing"
SPECIAL = ("default", "myopic_is_optimal", NOTHING)
REPORTS, CLAIMED = 10, 1
"""Logs of a market where contacts do nothing, and reports that may claim a gain: at 2.5% each, two or more would come
about once in forty studies by chance."""

DRAWN = 20
WEEKS = 26
TRUTH_SEED = 4_000_000
LEARNED = "learned policy"
SURE = 3.0
"""Standard errors; with some two dozen markets, one in eighteen studies would see a false alarm at 3."""


@dataclass(frozen=True)
class Size:
    """Customers who teach, and who play the truth; trees; drawn markets; customers and number of the reports."""

    learn: int = 10_000
    truth: int = 4_000
    trees: int | None = None
    drawn: int = DRAWN
    special: tuple[str, ...] = SPECIAL
    gate: int = 20_000
    reports: int = REPORTS


QUICK = Size(1_500, 500, 8, 1, ("default",), 2_000, 1)


def play_testbed(seed: int) -> Record:
    """The learned policy's share of the optimum, from a hundred customers."""
    programme = programme_of("testbed")
    data = testbed.to_transitions(testbed.simulate(TESTBED_CUSTOMERS, seed + 1))
    _, fitted = fit(programme, data, catalogue_of(programme, testbed.catalogue(), testbed.AS_OF), seed)
    return {"share": testbed.policy_value(Greedy(fitted.q).probabilities) / testbed.optimal_value()}


@dataclass(frozen=True)
class LookAlike:
    """One of the two look-alikes as a Q-function."""

    both: LookAlikes
    name: str

    def values(self, state: FloatArray) -> FloatArray:
        return self.both.values(state)[self.name]


@dataclass(frozen=True)
class Ruled:
    """A baseline of the learners as a policy of the product."""

    policy: Policy

    def probabilities(self, state: FloatArray, eligible: BoolArray) -> Floats:
        return np.asarray(self.policy.probabilities(state, eligible), dtype=np.float64)


def policies_of(programme: Programme, data: Transitions, catalogue: Catalogue, seed: int) -> dict[str, Policy]:
    """The learned policy and all baselines, unmixed and without exploration."""
    behaviour, fitted = fit(programme, data, catalogue, seed)
    settings = programme.learning
    both = LookAlikes.fit(fitted.q, data, settings.discount)
    forest = forest_on_returns(
        data,
        catalogue,
        horizon=programme.gate.horizon,
        discount=settings.discount,
        trees=settings.trees,
        min_samples_leaf=settings.min_samples_leaf,
        grow_rows=settings.grow_rows,
        terminal_charge=_charge(programme, data),
    )
    single = best_single_action(
        data, catalogue, horizon=programme.gate.horizon, discount=settings.discount, forest=forest
    )
    plans: dict[str, QFunction] = {LEARNED: fitted.q, **{name: LookAlike(both, name) for name in NAMES}}
    served: dict[str, Policy] = {
        name: ServedPolicy(behaviour, q, behaviour, support=programme.layers.support, mix=1.0, epsilon=0.0)
        for name, q in plans.items()
    }
    return served | {
        "behaviour cloning": Ruled(BehaviourCloning(behaviour)),
        "business as usual": behaviour,
        "best single action": Ruled(single),
        "no contact": Ruled(no_contact()),
    }


def _charge(programme: Programme, data: Transitions) -> Floats:
    charge = programme.reward.lost_customer_value
    assert charge is not None, "the simulator charges a loss where it happens, as only a configured value is"
    return np.full(len(data), charge)


def play_market(size: Size, name: str, number: int) -> Record:
    """One market: each policy's mean value of a half-year, and how the learned one differs, with standard errors."""
    programme = programme_of("sales_channels")
    if size.trees is not None:
        learning = programme.learning.model_copy(update={"trees": size.trees})
        programme = programme.model_copy(update={"learning": learning})
    market = market_of(name, number)
    data = sales_channels.to_transitions(sales_channels.simulate(size.learn, number + 1, market))
    catalogue = catalogue_of(programme, sales_channels.catalogue(market), sales_channels.AS_OF)
    returns = {
        policy: sales_channels.career_value(
            found.probabilities,
            WEEKS,
            programme.learning.discount,
            size.truth,
            TRUTH_SEED + number,
            market,
            programme.reward.lost_customer_value or 0.0,
        ).returns
        for policy, found in policies_of(programme, data, catalogue, number).items()
    }
    gains = {policy: returns[LEARNED] - other for policy, other in returns.items() if policy != LEARNED}
    return {
        "value": {policy: float(one.mean()) for policy, one in returns.items()},
        "gain": {policy: [float(one.mean()), float(one.std() / np.sqrt(len(one)))] for policy, one in gains.items()},
    }


def play_report(size: Size, number: int) -> Record:
    """What a gate's report says of the learned policy beside no contact, where contacts do nothing."""
    report = report_of(size.gate, 500 + number, MARKETS[NOTHING])
    (found,) = (row for row in report["learned_gains"] if row["over"] == "no contact")
    return {figure: found[figure] for figure in ("value", "lower", "upper")}


def market_of(name: str, number: int) -> Market:
    """A named market, or the `number`-th drawn one."""
    return draw_market(number) if name == "drawn" else MARKETS[name]


def shown(title: str, record: Record) -> list[str]:
    """One market in words: the learned policy's value, and its paired gain over each baseline."""
    value: Mapping[str, float] = record["value"]
    lines = [f"{title}: the learned policy earns {value[LEARNED]:.3f} a customer in half a year"]
    for policy, (gain, error) in record["gain"].items():
        sure = "gain" if gain > 1.96 * error else "LOSS" if gain < -1.96 * error else "no gain"
        lines.append(f"  over {policy:28} {gain:+.3f} ± {1.96 * error:.3f}  {sure}")
    return lines


def below_best(record: Record) -> bool:
    """Whether the learned policy is surely worse than the best baseline of its market."""
    best = max((policy for policy in record["value"] if policy != LEARNED), key=lambda one: record["value"][one])
    gain, error = record["gain"][best]
    return bool(gain < -SURE * error)


def market_targets(special: Mapping[str, Record], drawn: Sequence[Record], quick: bool) -> list[Target]:
    """The promises; few markets promise only that nothing is refuted."""
    working = [record for name, record in special.items() if name != NOTHING]
    worse = sum(below_best(record) for record in (*working, *drawn))
    targets = [Target("learning_markets_surely_below_best_baseline", worse, 0, at_most=True)]
    if quick:
        return targets
    for policy in drawn[0]["gain"]:
        name = policy.replace(" ", "_").replace("-", "_")
        targets.append(Target(f"learning_over_{name}_p_value", p_value_of_gain(drawn, policy), 0.05, at_most=True))
    return targets


def told_nothing(reports: Sequence[Record]) -> Target:
    """Print what the reports say where contacts do nothing; few may claim a gain."""
    print(f"{NOTHING}: what reports say the learned policy earns more than no contact, per customer and window")
    for report in reports:
        word = "gain" if report["lower"] > 0 else "LOSS" if report["upper"] < 0 else "no gain"
        print(f"  {report['value']:+.3f} ({report['lower']:+.3f} to {report['upper']:+.3f})  {word}")
    claimed = sum(report["lower"] > 0 for report in reports)
    return Target("learning_gains_claimed_where_contacts_do_nothing", claimed, CLAIMED, at_most=True)


def p_value_of_gain(markets: Sequence[Record], over: str) -> float:
    """Wilcoxon's signed ranks over markets: how likely such gains over a policy are where there is none."""
    gains = np.array([record["gain"][over][0] for record in markets])
    return float(wilcoxon(gains, alternative="greater").pvalue) if gains.any() else 1.0


def main(
    quick: Annotated[bool, typer.Option(help="the testbed, and two small markets")] = False,
    minutes: Annotated[float | None, typer.Option(help="stop then; a later run goes on")] = None,
    processes: Annotated[int, typer.Option(min=1, help="how many play side by side")] = 2,
    testbed_only: Annotated[bool, typer.Option(help="leave the markets out")] = False,
) -> None:
    """Measure what learning finds; exits 1 where a target falls short."""
    size, kept = QUICK if quick else Size(), Kept("learning-quick" if quick else "learning", CODE)
    points = [Point("testbed", play_testbed, TESTBED_SEEDS, batch=5)]
    if not testbed_only:
        points += [Point(name, partial(play_market, size, name), 1, batch=1) for name in size.special]
        points.append(Point("drawn", partial(play_market, size, "drawn"), size.drawn, batch=1))
        points.append(Point("reports", partial(play_report, size), size.reports, batch=1))
    found = play_all(points, kept, processes=processes, minutes=minutes)
    shares = np.array([record["share"] for record in found["testbed"]])
    print(
        f"testbed, {TESTBED_CUSTOMERS} customers: {shares.mean():.1%} of the optimum, the worst seed {shares.min():.1%}"
    )
    targets = [Target("learning_testbed_worst_share", float(shares.min()), OPTIMUM_SHARE)]
    if not testbed_only:
        special = {name: found[name][0] for name in size.special}
        titled = {**special, **{f"drawn {number}": record for number, record in enumerate(found["drawn"])}}
        print(*(line for title, record in titled.items() for line in shown(title, record)), sep="\n")
        targets += market_targets(special, found["drawn"], quick)
        targets.append(told_nothing(found["reports"]))
    conclude(targets)


if __name__ == "__main__":
    typer.run(main)
