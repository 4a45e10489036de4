"""One season: 26 weeks of lists, answers, training and gates, beside other ways to choose, under the same luck."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.replicates import Record
from bench.season_setting import TURNED, WEEKS, Setting, date_of, programme_for
from bench.season_world import Decisions, Due, Life, grid_of, in_order, transitions
from bench.study_loop import catalogue_of
from nba_tasks import realised
from nba_tasks.arms import BUSINESS_AS_USUAL, SERVED
from nba_tasks.bounds import Clusters
from nba_tasks.candidate import Trial
from nba_tasks.dataset import BoolArray, Catalogue, FloatArray, Transitions
from nba_tasks.gate import BeforeContact
from nba_tasks.hashing import uniforms
from nba_tasks.learners.behaviour import BehaviourModel
from nba_tasks.learners.look_alikes import NAMES, LookAlikes
from nba_tasks.loading import Split
from nba_tasks.policy import Floats, ServedPolicy, carve_out, greedy, supported
from nba_tasks.programme import Programme
from nba_tasks.realised import Decided
from nba_tasks.simulators import sales_channels
from nba_tasks.simulators.channels_world import MAIL, UNSUBSCRIBE, logging_policy
from nba_tasks.simulators.choice import published
from nba_tasks.simulators.market import DEFAULT
from nba_tasks.train import fit_values
from nba_tasks.trial import Side
from nba_tasks.windows import cut_windows

SPLITS: tuple[Split, ...] = ("learn", "select", "gate")

SEED = 0
"""Of learning, as the training DAG has it."""

CONTACTED = 9.5 / 24
"""When contacts are made, in days after the epoch's start; events come later in the day."""


@dataclass(frozen=True)
class Layer:
    """A promoted policy, and what it may not choose: it was too new when the policy was learned."""

    policy: ServedPolicy
    unknown: frozenset[int] = frozenset()


@dataclass
class Champion:
    """A policy in use: the layers over business as usual, and since when."""

    layers: tuple[Layer, ...] = ()
    since: int = 0
    attempts: int = 0
    before: Champion | None = None

    def wishes(self, usual: Floats, state: FloatArray, eligible: BoolArray) -> Floats:
        """Probabilities of shape (n, n_actions), from business as usual's."""
        found = usual
        for layer in self.layers:
            policy, known = layer.policy, without(eligible, layer.unknown)
            support = policy.behaviour.probabilities(state, known)
            found = policy.serve(policy.q.values(state), support, found, known)
        return found


def without(eligible: BoolArray, actions: Collection[int]) -> BoolArray:
    """Eligible actions of shape (n, n_actions), but for some."""
    found = eligible.copy()
    found[:, sorted(actions)] = False
    return found


@dataclass
class Season:
    """The state of a season; `usual` holds business as usual's probabilities in every row of our log."""

    setting: Setting
    seed: int
    programme: Programme
    catalogue: Catalogue
    lives: dict[str, Life]
    arm: NDArray[np.str_]
    part: NDArray[np.int64]
    behaviour: BehaviourModel
    usual: list[Floats] = field(default_factory=list)
    champion: Champion = field(default_factory=Champion)
    events: list[dict[str, Any]] = field(default_factory=list)
    myopic: LookAlikes | None = None

    @property
    def ours(self) -> Life:
        return self.lives["ours"]

    def drawn_by(self, epoch: int, future: str = "") -> Floats:
        """The number that decides each customer's draw in an epoch: the one that publishing takes."""
        programme, grid = self.programme, self.ours.grid
        salt = f"{programme.salt}|{date_of(programme, epoch)}{future}"
        return uniforms(programme.programme, "draw", salt, grid.customer.tolist())

    # The week ------------------------------------------------------------------------------------------------------

    def week(self, number: int, first: int) -> None:
        """One week: catalogue and market move; a training and its gate; a look at what was earned; the lists."""
        setting, epoch = self.setting, first + number
        for life in self.lives.values():
            if number == setting.turns:
                life.market = TURNED
            if number == setting.retires:
                life.retired.add(MAIL)
            if number == setting.adds and life is not self.lives[OTHERS[0]]:
                life.retired.discard(MAIL)
        if number == setting.retires:
            self.usual = [self.as_usual(made) for made in self.ours.log]
        if number % setting.every == 0:
            self.train(number)
        self.look(number, epoch)
        drawn_by = self.drawn_by(epoch)
        for name, life in self.lives.items():
            due = life.due(epoch)
            life.answer(due, self.chosen(name, due), drawn_by)

    @property
    def unknown(self) -> frozenset[int]:
        """What the policy in use may not choose: too new, it gets its carve-out."""
        if self.setting.adds is None:
            return frozenset()
        return self.champion.layers[-1].unknown if self.champion.layers else frozenset({MAIL})

    def as_usual(self, made: Decisions | Due) -> Floats:
        """Business as usual's probabilities under tonight's rules."""
        unused = self.ours.retired if self.setting.adds is None else {MAIL}
        return self.behaviour.probabilities(made.state, without(made.eligible, unused))

    def chosen(self, name: str, due: Due) -> Floats:
        """What a way of choosing gives each customer."""
        if name == "business as usual":
            return np.asarray(logging_policy(DEFAULT)(due.state, due.eligible))
        if name == "everyone":
            contacts = due.eligible.copy()
            contacts[:, 0] = ~contacts[:, 1:].any(axis=1)
            return np.asarray(contacts / contacts.sum(axis=1, keepdims=True))
        usual = self.as_usual(due)
        if name == "myopic":
            assert self.myopic is not None, "the first training makes it"
            allowed = supported(usual, due.eligible, self.programme.layers.support)
            return greedy(self.myopic.values(due.state)[NAMES[0]], allowed)
        self.usual.append(usual)
        served = self.champion.wishes(usual, due.state, due.eligible)
        new = due.eligible & ~without(due.eligible, self.unknown)
        served = carve_out(served, new, self.programme.layers.carve_out)
        return np.where((self.arm[due.rows] == BUSINESS_AS_USUAL)[:, None], usual, served)

    # Training and gate -----------------------------------------------------------------------------------------------

    def train(self, number: int) -> None:
        """Learn from the log, choose the mix, hold the gate, and promote what passes."""
        programme, log = self.programme, self.ours.log
        data = transitions(log, self.ours.retired)
        usual = np.concatenate(self.usual)[in_order(log)]
        split = self.part[data.customer]
        unknown, behaviour, likely = self._what_the_log_knows(data, split == 0)
        data = data.without(np.isin(np.arange(data.n_actions), sorted(unknown)))
        learn = data.rows(split == 0)
        fitted = fit_values(programme, learn, self.catalogue, likely[split == 0], SEED)
        if self.myopic is None:
            self.myopic = LookAlikes.fit(fitted.q, learn, programme.learning.discount)
        layers = programme.layers
        served = ServedPolicy(
            self.behaviour, fitted.q, behaviour, support=layers.support, mix=1.0, epsilon=layers.epsilon
        )
        incumbent = self.champion.wishes(usual, data.state, data.eligible_target)
        q = np.asarray(fitted.q.values(data.state), dtype=np.float64)
        sides = {name: self._side(data, split == i, likely, incumbent, q) for i, name in enumerate(SPLITS)}
        trial = Trial(programme, self.catalogue, served, sides, self.champion.attempts + 1)
        if trial.choice.mix is None:
            return
        self.champion.attempts += 1
        verdict = trial.verdict
        deciding = verdict.deciding
        assert deciding is not None, "every propensity is known or estimated"
        event = {
            "week": number,
            "verdict": verdict.verdict,
            "mix": trial.mix,
            "promised": [deciding.estimate, deciding.lower, deciding.upper],
        }
        if verdict.verdict == "PROMOTE":
            layer = Layer(served.with_mix(trial.mix), unknown)
            promoted = Champion((*self.champion.layers, layer), number, 0, self.champion)
            event["true"] = list(self.truth(promoted, number))
            self.champion = promoted
        self.events.append(event)

    def _what_the_log_knows(self, data: Transitions, learn: BoolArray) -> tuple[frozenset[int], BehaviourModel, Floats]:
        """Actions that are too new, the model of what the log would have done, and its probabilities in every row."""
        taught = data.rows(learn)
        added = self.setting.adds is not None
        too_new = added and taught.decisions_for()[MAIL] < self.programme.layers.new_until
        unknown = frozenset({MAIL} if too_new else ())
        behaviour = BehaviourModel.fit(taught, SEED)
        return unknown, behaviour, behaviour.probabilities(data.state, without(data.eligible_target, unknown))

    def _side(self, data: Transitions, chosen: BoolArray, likely: Floats, incumbent: Floats, q: Floats) -> Side:
        rows = data.rows(chosen)
        last = int(data.epoch.max()) - 1
        return Side(
            data=rows,
            windows=cut_windows(rows, self.programme.gate.horizon, last),
            q=q[chosen],
            behaviour_target=likely[chosen],
            behaviour_logged=likely[chosen],
            incumbent=incumbent[chosen],
            incumbent_wished=incumbent[chosen],
            incumbent_value=np.full(incumbent[chosen].shape, np.nan),
            before_contact=self._before_contact(rows) if self.setting.unlogged else None,
        )

    def _before_contact(self, rows: Transitions) -> BeforeContact:
        """Nobody answers a contact before it was made, at half past nine on the epoch's first day."""
        undecided = np.isnan(rows.propensity) & ~rows.open
        return BeforeContact(
            starts_on=self.ours.grid.offset[rows.customer] + rows.epoch * self.programme.grid.interval_days,
            moment=np.where(undecided, CONTACTED, np.nan),
            happened=np.zeros((len(rows), 2)),
        )

    def truth(self, candidate: Champion, number: int) -> tuple[float, float]:
        """What a candidate really gains over the policy in use in a window from now on, and its standard error.

        Both are played by everybody who is there now, in futures of the same luck.
        """
        horizon, discount = self.programme.gate.horizon, self.programme.learning.discount
        differences, customers = [], []
        for future in range(self.setting.luck):
            returns = []
            for policy in (candidate, self.champion):
                life = self.ours.branch()
                life.seed = 1_000_000 + 100 * self.seed + future
                total = np.zeros(len(life.world.alive))
                there = life.world.alive.copy()
                first = int(self.ours.log[-1].epoch[0]) + 1
                for step in range(horizon):
                    due = life.due(first + step)
                    usual = self.as_usual(due)
                    drawn_by = self.drawn_by(first + step, f"|{future}")
                    made = life.answer(due, policy.wishes(usual, due.state, due.eligible), drawn_by)
                    total[due.rows] += discount**step * self.worth(made)
                returns.append(total)
            rows = np.flatnonzero(there)
            differences.append((returns[0] - returns[1])[rows])
            customers.append(rows)
        found = Clusters(np.concatenate(customers)).mean(np.concatenate(differences))
        return found.value, found.standard_error

    def worth(self, made: Decisions) -> Floats:
        """Reward less the charge for lost customers, of each decision."""
        charge = self.programme.reward.lost_customer_value
        assert charge is not None, "the demo's file charges a loss where it happens"
        return np.asarray(made.reward - charge * made.outcomes[:, UNSUBSCRIBE])

    # Outcomes --------------------------------------------------------------------------------------------------------

    def look(self, number: int, epoch: int) -> None:
        """The weekly look at what the policy in use earned; a proposal to take it out of use is followed."""
        programme, champion = self.programme, self.champion
        horizon = programme.gate.horizon
        # A window and the week in which it settles.
        look = number - champion.since - horizon
        if champion.before is None or look < 1:
            return
        start = epoch - (number - champion.since)
        log = [made for made in self.ours.log if made.epoch[0] >= start]
        data = transitions(log, self.ours.retired)
        usual = np.concatenate(self.usual[-len(log) :])[in_order(log)][~data.open]
        data = data.rows(~data.open)
        charge = programme.reward.lost_customer_value or 0.0
        n = len(data)
        decided = Decided(
            data, self.arm[data.customer], np.full(n, epoch - 2), np.zeros(n, dtype=bool), np.full(n, charge)
        )
        discount = programme.learning.discount
        before = champion.before.wishes(usual, data.state, data.eligible_target)
        found = realised.earned(decided, horizon, discount, ())
        gain = realised.incumbents_gain(decided, before, horizon, discount, programme.gate.min_effective_size)
        if why := realised.demotion(found, gain, look, programme.gate.alpha):
            self.events.append({"week": number, "verdict": "DEMOTE", "why": why})
            self.champion = replace(champion.before, since=number)


def play_season(setting: Setting, number: int) -> Record:
    """Play a season.

    Returns
    -------
    dict
        `weeks`, by way of choosing: value, contacts by channel, cost, unsubscribes, decisions of each week; `events`:
        gates that were opened, promotions with their promise and truth, demotions.
    """
    season, first = begin(setting, number)
    for week in range(WEEKS):
        season.week(week, first)
    weeks = {name: [_figures(season, made) for made in life.log[-WEEKS:]] for name, life in season.lives.items()}
    return {"weeks": weeks, "events": season.events}


OTHERS = ("business as usual", "myopic", "everyone")


def begin(setting: Setting, number: int) -> tuple[Season, int]:
    """A season behind its first half-year, which the CRM team decided; and the epoch in which it begins."""
    number += setting.first
    seed, programme = 7_000 + number, programme_for(setting, number)
    catalogue = catalogue_of(programme, sales_channels.catalogue(), sales_channels.AS_OF)
    ours = Life.of(grid_of(setting.customers, seed, DEFAULT, programme), seed, DEFAULT)
    if setting.adds is not None:
        ours.retired.add(MAIL)
    first = int(ours.grid.first.min()) + WEEKS
    usual = logging_policy(DEFAULT)
    for epoch in range(first - WEEKS, first):
        due = ours.due(epoch)
        ours.answer(due, published(usual(due.state, due.eligible), due.eligible))
    if setting.unlogged:
        ours.log = [replace(made, propensity=np.full(len(made.action), np.nan)) for made in ours.log]
    customers, splits = ours.grid.customer.tolist(), programme.splits
    split, arm = (uniforms(programme.programme, purpose, programme.salt, customers) for purpose in ("split", "arm"))
    part = np.searchsorted([splits.learn, splits.learn + splits.select], split, side="right")
    arms = np.where(arm < programme.arms.business_as_usual, BUSINESS_AS_USUAL, SERVED)
    history = transitions(ours.log, set())
    behaviour = BehaviourModel.fit(history.rows(part[history.customer] == 0), SEED)
    lives = {"ours": ours} | {name: ours.branch() for name in OTHERS}
    season = Season(setting, seed, programme, catalogue, lives, arms, part, behaviour)
    season.usual = [season.as_usual(made) for made in ours.log]
    return season, first


def _figures(season: Season, made: Decisions) -> dict[str, float]:
    counts = np.bincount(made.action, minlength=len(season.catalogue))
    found = {
        "value": float(season.worth(made).sum()),
        "reward": float(made.reward.sum()),
        "cost": float(made.outcomes[:, -1].sum()),
        "unsubscribes": float(made.outcomes[:, UNSUBSCRIBE].sum()),
        "decisions": float(len(made.action)),
    } | {name: float(count) for name, count in zip(season.catalogue.ids, counts, strict=True)}
    assert all(math.isfinite(value) for value in found.values())
    return found
