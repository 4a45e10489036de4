"""What d3rlpy is asked: to learn a policy from a log, and to evaluate one. Needs the environment of the peers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from nba_tasks.dataset import BoolArray, FloatArray, Transitions
from nba_tasks.policy import Floats


@dataclass(frozen=True)
class PeerQ:
    """d3rlpy's action values."""

    algorithm: Any
    n_actions: int

    def values(self, state: FloatArray) -> FloatArray:
        state = np.ascontiguousarray(state, dtype=np.float32)
        each = [
            self.algorithm.predict_value(state, np.full(len(state), action, dtype=np.int64))
            for action in range(self.n_actions)
        ]
        return np.column_stack(each).astype(np.float32)


def dataset_of(data: Transitions) -> Any:
    """The log as d3rlpy's episodes, one a customer; where a log goes on its open row is the state bootstrapped from."""
    from d3rlpy.dataset import MDPDataset

    last = np.append(data.customer[1:] != data.customer[:-1], True)
    alone = last & np.append(True, last[:-1]) & data.open
    kept = data.rows(~alone)
    last = np.append(kept.customer[1:] != kept.customer[:-1], True)
    return MDPDataset(
        observations=np.ascontiguousarray(kept.state, dtype=np.float32),
        actions=np.maximum(kept.action, 0).astype(np.int64)[:, None],
        rewards=kept.reward.astype(np.float32)[:, None],
        terminals=(last & kept.done).astype(np.float32),
        timeouts=(last & ~kept.done).astype(np.float32),
        action_size=data.n_actions,
    )


def fit_peer(name: str, learning_rate: float, learn: Transitions, discount: float, seconds: float, seed: int) -> PeerQ:
    """Train one of d3rlpy's algorithms until its time is over."""
    d3rlpy = _seeded(seed)
    algorithm = getattr(d3rlpy.algos, f"{name}Config")(
        learning_rate=learning_rate,
        batch_size=256,
        gamma=discount,
        target_update_interval=500,
        observation_scaler=d3rlpy.preprocessing.StandardObservationScaler(),
        reward_scaler=d3rlpy.preprocessing.StandardRewardScaler(),
    ).create(device=False)
    _train(algorithm, learn, seconds)
    return PeerQ(algorithm, learn.n_actions)


class Drawn:
    """A policy as what d3rlpy asks of an algorithm under evaluation: one next action a state, drawn anew each time."""

    def __init__(self, policy: Decide, rules: Rules, scale: Scale, seed: int) -> None:
        self.policy, self.rules, self.scale = policy, rules, scale
        self.rng = np.random.default_rng(seed)

    def predict_best_action(self, state: Any) -> Any:
        import torch

        columns = self.scale.back(state.numpy())
        shares = np.cumsum(self.policy(columns, self.rules(columns)), axis=1)
        return torch.from_numpy((self.rng.random((len(columns), 1)) > shares[:, :-1]).sum(axis=1))


Decide = Callable[[FloatArray, BoolArray], Floats]
"""A policy: from states (n, n_features) and eligible actions to probabilities (n, n_actions)."""

Rules = Callable[[FloatArray], BoolArray]
"""From states (n, n_features) to eligible actions (n, n_actions): d3rlpy's batches do not carry them."""


@dataclass(frozen=True)
class Scale:
    """States standardised for a network, and back."""

    mean: Floats
    deviation: Floats

    @classmethod
    def of(cls, state: FloatArray) -> Scale:
        deviation = state.std(axis=0, dtype=np.float64)
        return cls(state.mean(axis=0, dtype=np.float64), np.where(deviation > 0, deviation, 1.0))

    def there(self, state: FloatArray) -> FloatArray:
        return np.ascontiguousarray((state - self.mean) / self.deviation, dtype=np.float32)

    def back(self, scaled: FloatArray) -> FloatArray:
        """Whole numbers, as the testbed's columns are."""
        return np.rint(scaled * self.deviation + self.mean).astype(np.float32)


def evaluated(
    policy: Decide, rules: Rules, learn: Transitions, state: FloatArray, discount: float, seconds: float, seed: int
) -> Floats:
    """Action values (n, n_actions) of a policy on some states, by d3rlpy's fitted Q evaluation in so many seconds."""
    d3rlpy = _seeded(seed)
    scale = Scale.of(learn.state)
    config = d3rlpy.ope.FQEConfig(learning_rate=1e-3, batch_size=256, gamma=discount, target_update_interval=200)
    model = d3rlpy.ope.DiscreteFQE(SimpleNamespace(impl=Drawn(policy, rules, scale, seed)), config)
    _train(model, replace(learn, state=scale.there(learn.state)), seconds)
    return PeerQ(model, learn.n_actions).values(scale.there(state)).astype(np.float64)


def _seeded(seed: int) -> Any:
    """The library, quiet, on one thread."""
    import d3rlpy
    import structlog
    import torch

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    torch.set_num_threads(1)
    d3rlpy.seed(seed)
    return d3rlpy


def _train(algorithm: Any, learn: Transitions, seconds: float) -> None:
    """Fit to a log until so many CPU seconds are over."""
    import d3rlpy

    begun = time.process_time()
    training: Iterable[object] = algorithm.fitter(
        dataset_of(learn),
        n_steps=10**7,
        n_steps_per_epoch=100,
        logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
        show_progress=False,
    )
    for _ in training:
        if time.process_time() - begun > seconds:
            break
