"""What the study of the gate plays: markets of known truth, candidates with an exact gain, and the size of the log."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nba_tasks.dataset import IntArray, Transitions
from nba_tasks.estimators import Critic, charged
from nba_tasks.gate import Sample
from nba_tasks.learners.behaviour import BehaviourModel
from nba_tasks.learners.fqe import fit_fqe_of_several, forest_on_returns, values_by_step
from nba_tasks.programme import Gate
from nba_tasks.simulators import tabular
from nba_tasks.simulators.tabular import HARM_HEAVY, HARMS, LOGGING, RETAIL, VERSION_0, Comparison, TabularMarket
from nba_tasks.windows import Windows, cut_windows

Floats = NDArray[np.float64]

DISCOUNT = 0.95
LEARN_CUSTOMERS = 4_000
"""Customers of another log, from whom the critics (and estimated propensities) are learned."""

MODELS = 12
"""Learn logs from which behaviour models are fitted: replicates take them in turn."""

Market = Literal["retail", "harm_heavy"]
MARKETS: dict[Market, TabularMarket] = {"retail": RETAIL, "harm_heavy": HARM_HEAVY}
STATES = np.arange(6)

NOTHING, EMAIL = (np.eye(3)[np.full(6, action)] for action in (0, 1))

ANOTHER = 0.8 * VERSION_0 + 0.2 * RETAIL.best_policy(DISCOUNT)
"""An incumbent that was promoted before, on a log that still is business as usual's."""


@dataclass(frozen=True)
class Setting:
    """One kind of log and candidate.

    Attributes
    ----------
    name : str
    horizon : int
    customers : int
    mix : float
        λ of the candidate; as large as rule 1 lets pass, so that weights are heavy.
    gain : float
        True Δ, as a share of the incumbent's value (of its size, should it be negative).
    market : {"retail", "harm_heavy"}
    windows : int
        Per customer.
    incumbent : {"version_0", "another"}
        "another": a third policy logged.
    logged : bool
        Whether propensities are logged; else a behaviour model, fitted on other customers, gives them and is version 0.
    staggered : bool
        Customers join at different epochs, and their logs end at two neighbouring ones.
    """

    name: str
    horizon: int
    customers: int
    mix: float
    gain: float = 0.0
    market: Market = "retail"
    windows: int = 2
    incumbent: Literal["version_0", "another"] = "version_0"
    logged: bool = True
    staggered: bool = False

    @property
    def epochs(self) -> int:
        """Settled epochs of a customer's log."""
        return self.windows * self.horizon

    @property
    def ages(self) -> tuple[int, ...]:
        """See `TabularMarket.window_starts`."""
        if not self.staggered:
            return tuple(range(0, self.epochs, self.horizon))
        joined, ends = range(self.horizon), (self.epochs - 1, self.epochs)
        starts = range(0, self.epochs + 1, self.horizon)
        return tuple(s - j for j in joined for end in ends for s in starts if s >= j and s + self.horizon <= end)

    @property
    def pair(self) -> tuple[Floats, Floats]:
        """A worse and a better policy to blend the candidate from; see `Comparison.candidate`."""
        best = MARKETS[self.market].best_policy(DISCOUNT)
        # Where harm is heavy the blend contacts more than the incumbent in some states: its losses are the rarer and
        # larger ones.
        return (NOTHING if self.market == "retail" else EMAIL), best

    @property
    def logged_incumbent(self) -> Floats:
        """The incumbent, where it is not fitted in every replicate."""
        return np.asarray(VERSION_0 if self.incumbent == "version_0" else ANOTHER)

    def compare(self, incumbent: Floats) -> Comparison:
        """The question with its true answer."""
        return Comparison(MARKETS[self.market], LOGGING, incumbent, self.horizon, DISCOUNT, self.ages)

    def candidate(self, incumbent: Floats, gain: float) -> Floats:
        """The candidate whose true Δ is a share `gain` of the incumbent's value."""
        asked = self.compare(incumbent)
        return asked.candidate(self.pair, self.mix, gain * abs(asked.value(incumbent)))


@dataclass(frozen=True)
class Question:
    """A candidate, the incumbent, and critics of both as tables.

    Attributes
    ----------
    candidate, incumbent, behaviour : arrays of shape (n_states, n_actions)
        `behaviour` is what the gate believes of the log.
    critics : lists of tables by decisions to go, of the candidate and of the incumbent
    """

    candidate: Floats
    incumbent: Floats
    behaviour: Floats
    critics: tuple[list[Floats], list[Floats]]


def seeded(name: str, number: int) -> np.random.Generator:
    """Random numbers of one replicate of one setting."""
    return np.random.default_rng([zlib.crc32(name.encode()), number])


@cache
def critics_of(setting: Setting) -> tuple[list[Floats], list[Floats]]:
    """The product's h-step FQE of a candidate and an incumbent, as tables by decisions to go.

    Learned once on other customers and held fixed, also for candidates with another gain: whatever action values a
    critic has, DR is unbiased as long as its state values are their means under the judged policy.
    """
    market, rng = MARKETS[setting.market], seeded(f"learn {setting.market}", setting.horizon)
    log = market.simulate(LOGGING, LEARN_CUSTOMERS, 2 * setting.horizon, rng)
    actions, charge = tabular.catalogue(market), np.full(len(log), market.lost_customer_value)
    forest = forest_on_returns(
        log, actions, horizon=setting.horizon, discount=DISCOUNT, trees=10, terminal_charge=charge
    )
    incumbent = setting.logged_incumbent
    models = fit_fqe_of_several(
        log,
        actions,
        [tabular.by_row(policy, log) for policy in (setting.candidate(incumbent, setting.gain), incumbent)],
        horizon=setting.horizon,
        discount=DISCOUNT,
        forest=forest,
        terminal_charge=charge,
    )
    found = values_by_step(models, STATES[:, None].astype(np.float32)).astype(np.float64)
    mine, theirs = ([np.zeros((6, 3)), *by_step] for by_step in found)
    return mine, theirs


@cache
def learned_rewards(market: Market) -> tuple[float, float]:
    """The range of a decision's reward on a learn log."""
    log = MARKETS[market].simulate(LOGGING, LEARN_CUSTOMERS, 8, seeded(f"rewards {market}", 0))
    reward = charged(log.reward, log.lost, MARKETS[market].lost_customer_value)
    return float(reward.min()), float(reward.max())


@cache
def fitted_behaviour(setting: Setting, number: int) -> Floats:
    """The product's behaviour model on one of `MODELS` learn logs without propensities, as a table."""
    rng = seeded(f"behaviour {setting.market}", number)
    log = MARKETS[setting.market].simulate(LOGGING, LEARN_CUSTOMERS, 8, rng, logged=False)
    model = BehaviourModel.fit(log, seed=0)
    return model.probabilities(STATES[:, None].astype(np.float32), np.ones((6, 3), dtype=bool))


@cache
def logged_question(setting: Setting, gain: float) -> Question:
    """The candidate that gains so much, where propensities are logged."""
    incumbent = setting.logged_incumbent
    return Question(setting.candidate(incumbent, gain), incumbent, LOGGING, critics_of(setting))


def question(setting: Setting, gain: float, behaviour: Floats | None) -> Question:
    """The candidate that gains so much over version 0: as it is, or as the `behaviour` that was fitted."""
    if behaviour is None:
        return logged_question(setting, gain)
    return Question(setting.candidate(behaviour, gain), behaviour, behaviour, critics_of(setting))


@dataclass(frozen=True)
class Played:
    """One log, as a gate looks at it."""

    log: Transitions
    windows: Windows
    setting: Setting

    @classmethod
    def of(cls, setting: Setting, rng: np.random.Generator) -> Played:
        """Play the setting's log."""
        market = MARKETS[setting.market]
        log = market.simulate(LOGGING, setting.customers, setting.epochs, rng, logged=setting.logged)
        last: IntArray | int = setting.epochs - 1
        if setting.staggered:
            log, last = stagger(log, setting, rng)
        return cls(log, cut_windows(log, setting.horizon, last), setting)

    def sample(self, asked: Question) -> Sample:
        """What the gate is given."""
        return Sample.of(
            self.log,
            self.windows,
            behaviour=tabular.by_row(asked.behaviour, self.log),
            incumbent=tabular.by_row(asked.incumbent, self.log),
            discount=DISCOUNT,
            harms=HARMS,
            lost_charge=MARKETS[self.setting.market].lost_customer_value,
        )

    def critics(self, asked: Question) -> tuple[Critic, Critic]:
        """The critics on this log's windows."""
        mine, theirs = asked.critics
        return (
            tabular.critic(mine, asked.candidate, self.log, self.windows),
            tabular.critic(theirs, asked.incumbent, self.log, self.windows),
        )

    def probabilities(self, policy: Floats) -> Floats:
        """A policy for the log's rows."""
        return tabular.by_row(policy, self.log)


def gate_of(setting: Setting) -> Gate:
    """The gate's default thresholds."""
    return Gate(horizon=setting.horizon)


def stagger(log: Transitions, setting: Setting, rng: np.random.Generator) -> tuple[Transitions, IntArray]:
    """Let customers join at one of `horizon` epochs, and half of the logs end an epoch earlier; see `Setting.ages`."""
    joined = rng.integers(0, setting.horizon, setting.customers)[log.customer]
    end = rng.integers(setting.epochs - 1, setting.epochs + 1, setting.customers)[log.customer]
    epoch = log.epoch + joined
    kept = epoch < end
    parts = Transitions(**{**vars(log), "epoch": epoch})
    return parts.rows(kept), (end - 1)[kept]
