"""What the study of missed gains holds fixed: a learned candidate of known gain, and the customers who may judge it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.study_loop import catalogue_of, programme_of
from nba_tasks.critics import Critics, Loss
from nba_tasks.dataset import BoolArray, Catalogue, FloatArray, Transitions
from nba_tasks.gate import MIXES
from nba_tasks.loading import Loaded
from nba_tasks.policy import Floats, Policy, QFunction, ServedPolicy, apply_rules, greedy, supported
from nba_tasks.programme import Programme
from nba_tasks.simulators import sales_channels
from nba_tasks.simulators.channels_world import FEATURES
from nba_tasks.train import fit
from nba_tasks.trial import Side
from nba_tasks.windows import cut_windows

WANTED = 0.20
"""The candidate's true gain, unmixed."""

LEARN_SEED, POOL_SEED, TRUTH_SEED = 1, 2_000_000, 3_000_000
SHARD = 20_000
"""Customers that are simulated at a time."""

AFFINITY_STEP = 0.01
"""Affinities are whole hundredths: a threshold lies between two."""

PLAYED = (0.0, 0.25, 0.5, 0.75, 1.0)
"""λ whose true gain is played."""


@dataclass(frozen=True)
class Size:
    """How much is played."""

    learn: int = 20_000
    pool: int = 120_000
    select: int = 33_333
    gate: int = 50_000
    truth: int = 6_000
    trees: int = 40
    replicates: int = 500


QUICK = Size(3_000, 14_000, 4_000, 6_000, 500, 5, 4)


@dataclass(frozen=True)
class Stepped:
    """The learned Q below a threshold of online affinity; above it, what the log most likely does scores highest."""

    q: QFunction
    behaviour: Policy
    threshold: float
    n_actions: int = 4

    def values(self, state: FloatArray) -> FloatArray:
        likely = self.behaviour.probabilities(state, np.ones((len(state), self.n_actions), dtype=np.bool_))
        learned = np.asarray(self.q.values(state), dtype=np.float64)
        return np.where((affinity(state) < self.threshold)[:, None], learned, likely)


def affinity(state: FloatArray) -> FloatArray:
    """Online affinity, which never changes."""
    return state[:, FEATURES.index("online_affinity")]


@dataclass(frozen=True)
class Pool:
    """Fresh customers with one window each, and all that judging them takes; rows are ordered by customer.

    Attributes
    ----------
    customer, epoch, action, reward, outcomes, propensity, done : arrays of shape (n, …)
        As in `Transitions`.
    eligible, allowed : bool arrays of shape (n, n_actions)
        By the rules, and of those with support.
    behaviour, incumbent, new : arrays of shape (n, n_actions)
        Probabilities of the behaviour model, of version 0, and of the candidate unmixed.
    values : array of shape (5, horizon, n, n_actions)
        Critics at `Critics.COARSE` and of the incumbent.
    tail : array of shape (4,)
        What the models expect of the candidate beyond the window, at those λ.
    truth : array of shape (5,)
        True gain at `PLAYED`, as a share of the incumbent's value.
    truth_error : float
        Standard error of the last.
    """

    customer: NDArray[np.int64]
    epoch: NDArray[np.int64]
    action: NDArray[np.int64]
    reward: Floats
    outcomes: Floats
    propensity: Floats
    done: BoolArray
    eligible: BoolArray
    allowed: BoolArray
    behaviour: Floats
    incumbent: Floats
    new: Floats
    values: NDArray[np.float32]
    tail: Floats
    truth: Floats
    truth_error: float

    def save(self, path: Path) -> None:
        """Write all arrays; a file that is there is whole."""
        part = path.with_suffix(".part.npz")
        np.savez(part, **{field.name: getattr(self, field.name) for field in fields(self)})
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Pool:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            found: dict[str, Any] = {field.name: file[field.name] for field in fields(cls)}
        return cls(**found | {"truth_error": float(found["truth_error"])})


def programme_at(size: Size) -> Programme:
    """The demo's programme."""
    found = programme_of("sales_channels")
    return found.model_copy(update={"learning": found.learning.model_copy(update={"trees": size.trees})})


def served_by(programme: Programme, q: QFunction, behaviour: Policy, share: float = 1.0) -> ServedPolicy:
    """A candidate behind the programme's layers; version 0 is the behaviour model."""
    layers = programme.layers
    return ServedPolicy(behaviour, q, behaviour, support=layers.support, mix=share, epsilon=layers.epsilon)


def build(size: Size) -> Pool:
    """Learn, set the candidate's gain, and play the pool and the true gains."""
    programme = programme_at(size)
    catalogue = catalogue_of(programme, sales_channels.catalogue(), sales_channels.AS_OF)
    _say("learning")
    simulation = sales_channels.simulate(size.learn, LEARN_SEED)
    log = Loaded(sales_channels.to_transitions(simulation), last_epochs(simulation))
    behaviour, fitted = fit(programme, log.transitions, catalogue, LEARN_SEED)
    _say("setting the candidate's gain")
    q = Stepped(fitted.q, behaviour, threshold_of(programme, fitted.q, behaviour, size))
    served = served_by(programme, q, behaviour)
    _say(f"playing the true gains, below affinity {q.threshold:.3f}")
    truth, error = true_gains(programme, served, size)
    _say(f"unmixed it gains {truth[-1]:.1%} ± {error:.1%}; playing the pool")
    data = pool_of(size, programme.gate.horizon)
    _say("critics")
    return _valued(programme, catalogue, served, log, data, truth, error)


def _valued(
    programme: Programme,
    catalogue: Catalogue,
    served: ServedPolicy,
    log: Loaded,
    data: Transitions,
    truth: Floats,
    error: float,
) -> Pool:
    """Every policy's probabilities and the critics' values on the pool."""
    horizon = programme.gate.horizon
    learn = Side.of(log, horizon, served)
    pool = Side.of(Loaded(data, window_ends(data.epoch, horizon)), horizon, served)
    critics = Critics(programme, catalogue, served, learn, Loss.of(programme, log.transitions))
    values = critics.near(MIXES, pool).values
    allowed = supported(pool.behaviour_target, data.eligible_target, served.support)
    return Pool(
        customer=data.customer.astype(np.int64),
        epoch=data.epoch.astype(np.int64),
        action=data.action.astype(np.int64),
        reward=data.reward.astype(np.float64),
        outcomes=data.outcomes.astype(np.float64),
        propensity=data.propensity.astype(np.float64),
        done=data.done,
        eligible=data.eligible_target,
        allowed=allowed,
        behaviour=pool.behaviour_logged,
        incumbent=apply_rules(pool.incumbent, data.eligible_target),
        new=greedy(pool.q, allowed),
        values=np.asarray(values, dtype=np.float32),
        tail=np.array([critics.tail_gain(share, pool) for share in Critics.COARSE]),
        truth=truth,
        truth_error=error,
    )


def threshold_of(programme: Programme, q: QFunction, behaviour: Policy, size: Size) -> float:
    """The affinity below which the learned policy must decide for the whole to gain `WANTED`.

    Raises
    ------
    ValueError
        Even everywhere it gains less.
    """
    everyone, nobody = (
        _returns(programme, served_by(programme, Stepped(q, behaviour, at), behaviour), size)
        for at in (np.inf, -np.inf)
    )
    usual = _returns(programme, behaviour, size)
    population = sales_channels.simulate(size.truth, TRUTH_SEED).start.online_affinity
    known = np.flatnonzero(~np.isnan(usual))
    order = known[np.argsort(population[known])]
    base = usual[order].mean()
    gains = (np.cumsum(everyone[order] - nobody[order]) + nobody[order].sum()) / len(order) / base - 1
    reached = np.flatnonzero(gains >= WANTED)
    if not len(reached):
        raise ValueError(f"the learned policy gains {gains[-1]:.1%}; {WANTED:.0%} are asked for: choose another market")
    return float(population[order[reached[0]]]) + AFFINITY_STEP / 2


def true_gains(programme: Programme, served: ServedPolicy, size: Size) -> tuple[Floats, float]:
    """True gain at each λ of `PLAYED` as a share of the incumbent's value, and the last one's standard error."""
    usual = _returns(programme, served.incumbent, size)
    found = [_returns(programme, served.with_mix(share), size) - usual for share in PLAYED]
    base, n = np.nanmean(usual), np.count_nonzero(~np.isnan(usual))
    return np.array([np.nanmean(one) for one in found]) / base, float(np.nanstd(found[-1]) / np.sqrt(n) / base)


def _returns(programme: Programme, policy: Policy, size: Size) -> Floats:
    """Each customer's mean return over all windows that they may be judged by; NaN for who has none."""
    charge = programme.reward.lost_customer_value
    assert charge is not None, "the simulator charges a loss where it happens, as only a configured value is"
    value = sales_channels.window_value(
        policy.probabilities,
        programme.gate.horizon,
        programme.learning.discount,
        size.truth,
        TRUTH_SEED,
        lost_customer_value=charge,
    )
    count = np.bincount(value.customer, minlength=size.truth)
    total = np.bincount(value.customer, weights=value.returns, minlength=size.truth)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def last_epochs(simulation: sales_channels.Simulation) -> NDArray[np.int64]:
    """The last settled epoch of each row's customer."""
    grid, rows = simulation.grid, sales_channels.to_transitions(simulation).customer
    settled = np.sum([grid.settled(epoch) for epoch in grid.epochs], axis=0)
    ends = grid.epochs.start + settled - 1
    return np.asarray(ends[np.searchsorted(grid.customer, rows)])


def pool_of(size: Size, horizon: int) -> Transitions:
    """The rows of one window of each customer, chosen by hash: here by chance, which the windows do not know."""
    parts, customers = list[Transitions](), 0
    while customers < size.pool:
        first = 1 + SHARD * len(parts)
        simulation = sales_channels.simulate(SHARD, POOL_SEED + first, first_customer=first)
        data = sales_channels.to_transitions(simulation)
        windows = cut_windows(data, horizon, last_epochs(simulation))
        chosen = windows.one_each(np.random.default_rng(first).permutation(len(windows)))
        parts.append(data.rows(np.sort(chosen.rows[chosen.alive])))
        customers += len(chosen)
    names = [field.name for field in fields(Transitions) if field.name != "outcome_names"]
    joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return Transitions(**joined, outcome_names=parts[0].outcome_names)


def window_ends(epoch: FloatArray | NDArray[np.integer], horizon: int) -> NDArray[np.int64]:
    """The last epoch of the window that holds an epoch."""
    return np.asarray(epoch // horizon * horizon + horizon - 1, dtype=np.int64)


def nearest(share: float) -> int:
    """The position of the nearest of the λ whose policies were evaluated."""
    return int(np.argmin([abs(share - known) for known in Critics.COARSE]))


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
