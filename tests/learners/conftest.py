"""Small random logs for the learners' tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no type hints

from nba_tasks.dataset import OPEN, Catalogue, Transitions

MakeLog = Callable[..., tuple[Transitions, Catalogue]]


def random_log(
    seed: int, customers: int = 30, n_actions: int = 3, longest: int = 6, features: int = 3, coarse: bool = True
) -> tuple[Transitions, Catalogue]:
    """Trajectories of random length: some end in a terminal, the others in an open row. Action 0 is always eligible."""
    rng = np.random.default_rng(seed)
    length = rng.integers(1, longest + 1, customers)
    ends = rng.random(customers) < 0.5
    rows = length + ~ends
    n = int(rows.sum())
    customer = np.repeat(np.arange(customers), rows)
    last = np.cumsum(rows) - 1
    epoch = np.arange(n) - np.repeat(last - rows + 1, rows)
    eligible = rng.random((n, n_actions)) < 0.7
    eligible[:, 0] = True
    score = np.where(eligible, rng.random((n, n_actions)), -1)
    action = score.argmax(axis=1)
    state = rng.integers(0, 4, (n, features)).astype(np.float32) if coarse else rng.random((n, features))
    reward = rng.normal(size=n) + action * (state[:, 0] > 1)
    done = np.zeros(n, dtype=bool)
    done[last[ends]] = True
    action[last[~ends]] = OPEN
    reward[last[~ends]] = 0
    log = Transitions(
        customer=customer,
        epoch=epoch,
        state=state,
        action=action,
        reward=reward,
        outcomes=reward[:, None],
        eligible_logged=eligible,
        eligible_target=eligible,
        propensity=np.where(action == OPEN, np.nan, 1 / np.maximum(eligible.sum(axis=1), 1)),
        done=done,
        lost=done,
        outcome_names=("reward",),
    )
    log.check()
    features_of_actions = np.column_stack([np.eye(n_actions), np.arange(n_actions)]).astype(np.float32)
    ids = ("no_action", *(f"action_{i}" for i in range(1, n_actions)))
    channels = (None, *("email" for _ in range(1, n_actions)))
    return log, Catalogue(ids, channels, np.arange(n_actions, dtype=np.float64), features_of_actions)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Fits this small lose more to waiting threads than they gain, above all on a busy machine."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def make_log() -> MakeLog:
    """`random_log`."""
    return random_log
