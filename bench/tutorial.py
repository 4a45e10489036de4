"""The tutorial [1]_ as published: its customers, its recipe with all its faults, and its own loops as a slow reference.

Three offers in a hundred days at jittered times; purchases are likelier once offer 1 has come before offer 3. A
customer's days are cut at the offers into four frames. The recipe pairs an action with the reward of the frame
*before* it, makes up an action behind the last frame and bootstraps past the end, starts its maximum at 0, and
estimates a policy on the customers that it was learned from.

References
----------
.. [1] Grid Dynamics: Building a next best action model using reinforcement learning. 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor

from nba_tasks.dataset import Catalogue, Transitions
from nba_tasks.simulators.choice import drawn
from nba_tasks.simulators.testbed import BOOSTED, LUCK, USUAL, VISIT

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Decide = Callable[[Floats], Floats]
"""From states (n, 5) to probabilities of offers 1, 2, 3, shape (n, 3)."""

DAYS, OFFERS, FRAMES = 100, 3, 4
JITTER = 5.0
SWEEPS = 6
MADE_UP = 1  # the action that the recipe invents behind the last frame


@dataclass(frozen=True)
class Profiles:
    """Played customers.

    Attributes
    ----------
    demographic : int array of shape (n,)
    time, offer : int arrays of shape (n, OFFERS)
        The days of the offers, and which they were (1, 2, 3).
    event : int array of shape (n, DAYS)
        0 nothing, 1 visit, 2 purchase.
    """

    demographic: Ints
    time: Ints
    offer: Ints
    event: Ints

    def counts(self, event: int, start: Ints, end: Ints) -> Ints:
        """Events of a kind in days start … end − 1 of each customer."""
        below = np.column_stack((np.zeros(len(start), np.int64), np.cumsum(self.event == event, axis=1)))
        rows = np.arange(len(start))
        return np.asarray(below[rows, end] - below[rows, start])

    def state(self, end: Ints, offers: int) -> Floats:
        """Age group, visits before day `end`, and the day of the first of each offer among the first `offers`."""
        first = np.full((len(end), OFFERS), DAYS)
        for earlier in reversed(range(offers)):
            for kind in range(OFFERS):
                given = self.offer[:, earlier] == kind + 1
                first[given, kind] = self.time[given, earlier]
        visits = self.counts(1, np.zeros_like(end), end)
        return np.column_stack((self.demographic, visits, first)).astype(np.float64)


def play(n: int, seed: int, decide: Decide | None = None, *, at_offer: bool = False) -> Profiles:
    """Customers under a policy (random by default).

    `decide` sees the state right behind the previous offer, as the recipe learns it, or with `at_offer` that of the
    offer's own day.
    """
    rng = np.random.default_rng([seed, 41])
    time = _offer_days(n, rng)
    demographic = rng.integers(0, 2, n)
    lucky, chance, choice = rng.random((n, DAYS)) < LUCK, rng.random((n, DAYS)), rng.random((n, OFFERS))
    # A visit is as likely whatever was offered, so that visits are known before the offers are.
    played = Profiles(demographic, time, np.zeros((n, OFFERS), np.int64), np.where(chance < VISIT, 1, 0))
    for k in range(OFFERS):
        seen = time[:, k] if at_offer else (time[:, k - 1] + 1 if k else np.zeros(n, np.int64))
        shares = decide(played.state(seen, k)) if decide else np.full((n, OFFERS), 1 / OFFERS)
        played.offer[:, k] = drawn(shares, choice[:, k]) + 1
    given = np.arange(DAYS) >= time[:, :, None]
    boost = np.zeros((n, DAYS), dtype=bool)
    for i in range(OFFERS):
        for j in range(i + 1, OFFERS):
            pair = (played.offer[:, i] == 1) & (played.offer[:, j] == 3)
            boost |= pair[:, None] & given[:, j]
    purchase = np.where(boost | lucky, BOOSTED, USUAL)
    played.event[(chance >= VISIT) & (chance < VISIT + purchase)] = 2
    return played


def _offer_days(n: int, rng: np.random.Generator) -> Ints:
    """Three days each, around the quarters; the few that coincide, cross or leave the hundred days are drawn anew."""
    days = np.zeros((n, OFFERS), np.int64)
    wrong = np.ones(n, dtype=bool)
    while wrong.any():
        centre = np.linspace(0, DAYS, OFFERS + 2)[1:-1]
        days[wrong] = np.rint(centre + JITTER * rng.standard_normal((int(wrong.sum()), OFFERS)))
        wrong = (np.diff(days, axis=1) <= 0).any(axis=1) | (days[:, 0] < 1) | (days[:, -1] >= DAYS)
    return days


def value(n: int, seed: int, decide: Decide | None, *, at_offer: bool = False) -> tuple[float, float]:
    """Purchases a customer under a policy, by playing it, and the standard error."""
    bought = (play(n, seed, decide, at_offer=at_offer).event == 2).sum(axis=1)
    return float(bought.mean()), float(bought.std() / np.sqrt(n))


@dataclass(frozen=True)
class Samples:
    """The recipe's samples: one row a frame, in the order of customer and frame."""

    state: Floats
    action: Ints
    reward: Floats
    following: Floats


def samples_of(played: Profiles) -> Samples:
    """Cut trajectories as the recipe does."""
    n = len(played.demographic)
    starts = np.column_stack((np.zeros(n, np.int64), played.time + 1))
    ends = np.column_stack((played.time, np.full(n, DAYS)))
    parts = []
    for frame in range(FRAMES):
        start, end = starts[:, frame], ends[:, frame]
        action = played.offer[:, frame] if frame < OFFERS else np.full(n, MADE_UP)
        following = played.state(np.minimum(end + 1, DAYS), min(frame + 1, OFFERS))
        parts.append((played.state(start, frame), action, played.counts(2, start, end).astype(float), following))
    state, action, reward, following = (np.stack(column, axis=1) for column in zip(*parts, strict=True))
    rows = n * FRAMES
    return Samples(state.reshape(rows, -1), action.ravel(), reward.ravel(), following.reshape(rows, -1))


def forest() -> Any:
    """The recipe's regressor."""
    return RandomForestRegressor(max_depth=4, random_state=0, n_estimators=10)


def recipe(samples: Samples, sweeps: int = SWEEPS) -> Any:
    """The recipe's regressor after its sweeps, states taken together (equal to `recipe_in_loops`)."""
    rows = np.column_stack((samples.state, samples.action))
    best, model = np.ones(len(rows)), None
    for _ in range(sweeps):
        if model is not None:
            best = np.maximum(0, scores(model, samples.following).max(axis=1))
        model = forest().fit(rows, samples.reward + best)
    return model


def scores(model: Any, state: Floats) -> Floats:
    """The model's value of each offer, shape (n, 3)."""
    return np.column_stack([model.predict(np.column_stack((state, np.full(len(state), a)))) for a in (1, 2, 3)])


def epsilon_greedy(score: Floats, epsilon: float) -> Floats:
    """1 − ε for the best offer, ε / 2 for each other."""
    shares = np.full(score.shape, epsilon / (OFFERS - 1))
    shares[np.arange(len(score)), score.argmax(axis=1)] = 1 - epsilon
    return shares


def recipe_in_loops(samples: Samples, sweeps: int = SWEEPS) -> Any:
    """The recipe as it was written: one prediction at a time."""
    model: Any = None
    for _ in range(sweeps):
        rows, targets = [], []
        for i in range(len(samples.state)):
            best = _best_in_loops(model, samples.following[i])[1] if model is not None else 1.0
            rows.append(np.append(samples.state[i], samples.action[i]))
            targets.append(samples.reward[i] + best)
        model = forest().fit(rows, np.ravel(targets))
    return model


def _best_in_loops(model: Any, state: Floats) -> tuple[int, float]:
    best, best_value = 0, 0.0
    for action in (1, 2, 3):
        found = model.predict([np.append(state, action)])[0]
        if found > best_value:
            best, best_value = action, found
    return best, best_value


def estimate_in_loops(samples: Samples, model: Any, epsilon: float) -> float:
    """The recipe's importance sampling estimate of its ε-greedy policy, one prediction at a time."""
    returns = []
    for first in range(0, len(samples.state), FRAMES):
        weight, total = 1.0, 0.0
        for i in range(first, first + FRAMES):
            best, _ = _best_in_loops(model, samples.state[i])
            chance = 1 - epsilon if samples.action[i] == best else epsilon / (OFFERS - 1)
            weight *= chance / (1 / OFFERS)
            total += samples.reward[i]
        returns.append(weight * total)
    return float(np.mean(returns))


def estimate(samples: Samples, score: Floats, epsilon: float) -> float:
    """The same estimate with all states at once, from the offers' scores (n, 3)."""
    chance = epsilon_greedy(score, epsilon)[np.arange(len(score)), samples.action - 1]
    weight = (chance * OFFERS).reshape(-1, FRAMES).prod(axis=1)
    return float((weight * samples.reward.reshape(-1, FRAMES).sum(axis=1)).mean())


FIRST_FRAME_ONLY_NOTHING = np.array([True, False, False, False])


def transitions_of(played: Profiles) -> tuple[Transitions, Catalogue]:
    """The same customers as this project cuts them: the state on the offer's day, the reward from it to the next.

    The first frame has no offer (`no_action`), the last one is `done`.
    """
    n = len(played.demographic)
    begins = np.column_stack((np.zeros(n, np.int64), played.time))
    ends = np.column_stack((played.time, np.full(n, DAYS)))
    state = np.stack([played.state(begins[:, f], max(f - 1, 0)) for f in range(FRAMES)], axis=1)
    reward = np.column_stack([played.counts(2, begins[:, f], ends[:, f]) for f in range(FRAMES)])
    frame = np.tile(np.arange(FRAMES), n)
    eligible = np.where((frame == 0)[:, None], FIRST_FRAME_ONLY_NOTHING, ~FIRST_FRAME_ONLY_NOTHING)
    done = frame == FRAMES - 1
    log = Transitions(
        customer=np.repeat(np.arange(n), FRAMES),
        epoch=frame,
        state=np.column_stack((state.reshape(n * FRAMES, -1), frame)).astype(np.float32),
        action=np.column_stack((np.zeros(n, np.int64), played.offer)).ravel(),
        reward=reward.ravel().astype(np.float64),
        outcomes=reward.reshape(-1, 1).astype(np.float64),
        eligible_logged=eligible,
        eligible_target=eligible,
        propensity=np.where(frame == 0, 1.0, 1 / OFFERS),
        done=done,
        lost=np.zeros(len(done), dtype=bool),
        outcome_names=("purchases",),
    )
    names = ("no_action", "offer_1", "offer_2", "offer_3")
    return log, Catalogue(names, (None, *["offer"] * OFFERS), np.zeros(4), np.eye(4, dtype=np.float32))
