"""h-step fitted Q evaluation against enumeration and limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from nba_tasks.dataset import OPEN, Catalogue, DatasetError, Transitions
from nba_tasks.learners.encoding import encode
from nba_tasks.learners.fqe import fit_fqe, fit_fqe_of_several, forest_on_returns, values_by_step
from nba_tasks.learners.frozen import FrozenForest, grow

from .conftest import MakeLog

Array = NDArray[np.float64]


def exact_forest(log: Transitions, catalogue: Catalogue) -> FrozenForest:
    """Trees deep enough to tell every (state, action) pair apart: averages over leaves are averages over pairs."""
    pairs, label = np.unique(
        encode(log.state[~log.open], catalogue.features, log.action[~log.open]), axis=0, return_inverse=True
    )
    # Labels in a scrambled order, so that no two pairs have the same target.
    target = np.random.default_rng(0).permutation(len(pairs)).astype(np.float64)
    rows = encode(log.state[~log.open], catalogue.features, log.action[~log.open])
    return FrozenForest(grow(rows, target[label.reshape(-1)], trees=3, min_samples_leaf=1, seed=0))


def tabular(customers: int, epochs: int, seed: int) -> tuple[Transitions, Catalogue, Array, Array, Array]:
    """A random MDP of 3 states and 2 actions (state 2 may end), played uniformly; one-hot states."""
    rng = np.random.default_rng(seed)
    move = rng.dirichlet(np.ones(3), size=(3, 2))  # next state
    gain = rng.normal(size=(3, 2))
    stop = np.array([[0.0, 0.1], [0.0, 0.0], [0.2, 0.4]])
    s, alive = rng.integers(0, 3, customers), np.ones(customers, dtype=bool)
    parts = []
    for k in range(epochs + 1):
        a = rng.integers(0, 2, customers)
        reward = gain[s, a] + rng.normal(scale=0.1, size=customers)
        ends = rng.random(customers) < stop[s, a]
        open_ = np.full(customers, k == epochs)
        parts.append((np.arange(customers), np.full(customers, k), s, a, reward, ends & ~open_, open_, alive.copy()))
        alive &= ~ends
        s = (rng.random(customers)[:, None] > move[s, a].cumsum(axis=1)[:, :-1]).sum(axis=1)
    customer, epoch, state, action, reward, done, open_, there = (
        np.stack(p, axis=1).ravel() for p in zip(*parts, strict=True)
    )
    log = Transitions(
        customer=customer[there],
        epoch=epoch[there],
        state=np.eye(3, dtype=np.float32)[state[there]],
        action=np.where(open_, OPEN, action)[there],
        reward=np.where(open_, 0.0, reward)[there],
        outcomes=reward[there][:, None],
        eligible_logged=np.ones((there.sum(), 2), dtype=bool),
        eligible_target=np.ones((there.sum(), 2), dtype=bool),
        propensity=np.full(there.sum(), np.nan),
        done=done[there],
        lost=done[there],
        outcome_names=("reward",),
    )
    log.check()
    catalogue = Catalogue(("no_action", "email"), (None, "email"), np.zeros(2), np.eye(2, dtype=np.float32))
    return log, catalogue, move * (1 - stop)[:, :, None], gain, stop


def test_equals_enumeration_on_a_tabular_decision_process() -> None:
    """200,000 transitions; every Q within 6 standard errors of a cell mean (~ .02): false alarms < 1e-6, seed fixed."""
    log, catalogue, move, gain, stop = tabular(40_000, 5, seed=3)
    policy = np.array([[0.2, 0.8], [1.0, 0.0], [0.5, 0.5]])
    charge, discount, horizon = 2.0, 0.9, 4
    truth, value = [], np.zeros(3)
    for _ in range(horizon):
        q = gain - charge * stop + discount * move @ value
        truth.append(q)
        value = (policy * q).sum(axis=1)
    model = fit_fqe(
        log,
        catalogue,
        policy[log.state.argmax(axis=1)],
        horizon=horizon,
        discount=discount,
        forest=exact_forest(log, catalogue),
        terminal_charge=np.full(len(log), charge),
    )
    for k in range(horizon):
        np.testing.assert_allclose(model.values(np.eye(3), k + 1), truth[k], atol=0.06)
    assert not model.values(np.eye(3), 0).any()


def literal_fqe(
    log: Transitions, catalogue: Catalogue, policy: Array, horizon: int, discount: float, forest: FrozenForest
) -> list[dict[tuple[int, int], float]]:
    """Leaf averages, one row and one tree at a time. Returns per step the Q of (row, action)."""
    n, n_actions = policy.shape
    states = np.repeat(np.asarray(log.state, dtype=np.float64), n_actions, axis=0)
    pairs = encode(states, catalogue.features, np.tile(np.arange(n_actions), n))
    nodes = forest.forest.apply(pairs).reshape(n, n_actions, -1).tolist()
    leaf = {(i, a): nodes[i][a] for i in range(n) for a in range(n_actions)}
    steps: list[dict[tuple[int, int], float]] = []
    value = [0.0] * n
    for _ in range(horizon):
        targets = {}
        for i in range(n):
            if log.action[i] == OPEN:
                continue
            if log.done[i]:
                targets[i] = float(log.reward[i])
            elif i + 1 < n and log.customer[i + 1] == log.customer[i]:
                targets[i] = float(log.reward[i]) + discount * value[i + 1]
        q = {}
        for (i, a), node in leaf.items():
            means = []
            for t, one in enumerate(node):
                inside = [y for j, y in targets.items() if leaf[j, int(log.action[j])][t] == one]
                means.append(sum(inside) / len(inside))
            q[i, a] = sum(means) / len(means)
        value = [sum(policy[i, a] * q[i, a] for a in range(n_actions)) for i in range(n)]
        steps.append(q)
    return steps


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_literal_reference(make_log: MakeLog, seed: int) -> None:
    log, catalogue = make_log(seed, customers=15)
    policy = np.random.default_rng(seed).dirichlet(np.ones(3), len(log))
    forest = forest_on_returns(log, catalogue, horizon=3, discount=0.9, trees=4, min_samples_leaf=3, seed=seed)
    model = fit_fqe(log, catalogue, policy, horizon=3, discount=0.9, forest=forest)
    for k, q in enumerate(literal_fqe(log, catalogue, policy, 3, 0.9, forest)):
        expected = np.array([[q[i, a] for a in range(3)] for i in range(len(log))])
        np.testing.assert_allclose(model.values(log.state, k + 1), expected, atol=1e-6)


def test_several_policies_at_once_equal_each_alone(make_log: MakeLog) -> None:
    log, catalogue = make_log(1)
    forest = forest_on_returns(log, catalogue, horizon=2, discount=1.0, trees=5, min_samples_leaf=4)
    policies = [np.eye(3)[np.full(len(log), a)] for a in range(3)]
    models = fit_fqe_of_several(log, catalogue, policies, horizon=2, discount=1.0, forest=forest)
    known = forest.leaves(log.state, catalogue.features)
    again = fit_fqe_of_several(log, catalogue, policies, horizon=2, discount=1.0, forest=forest, leaves=known)
    for model, same in zip(models, again, strict=True):
        np.testing.assert_array_equal(model.leaf_values, same.leaf_values)
    other, _ = make_log(2)
    fast = values_by_step(models, other.state)
    for m, policy in enumerate(policies):
        alone = fit_fqe(log, catalogue, policy, horizon=2, discount=1.0, forest=forest)
        for k in (1, 2):
            np.testing.assert_array_equal(fast[m, k - 1], alone.values(other.state, k))


def test_a_foreign_structure_with_empty_leaves_still_has_finite_values(make_log: MakeLog) -> None:
    log, catalogue = make_log(1)
    forest = forest_on_returns(log, catalogue, horizon=2, discount=1.0, trees=10, min_samples_leaf=1)
    few, _ = make_log(9, customers=2)
    model = fit_fqe(few, catalogue, np.eye(3)[np.zeros(len(few), int)], horizon=2, discount=1.0, forest=forest)
    values = model.values(log.state, 1)
    assert np.isfinite(values).all()
    kept = ~few.open
    assert values.min() >= few.reward[kept].min() - 1e-6
    assert values.max() <= few.reward[kept].max() + 1e-6


def test_another_objective_and_one_step_are_plain_averages(make_log: MakeLog) -> None:
    log, catalogue = make_log(4)
    forest = forest_on_returns(log, catalogue, horizon=1, discount=1.0, trees=5, min_samples_leaf=4)
    policy = np.eye(3)[np.zeros(len(log), int)]
    ones = fit_fqe(log, catalogue, policy, horizon=3, discount=0.5, forest=forest, reward=np.ones(len(log)))
    np.testing.assert_allclose(ones.values(log.state, 1), 1.0, rtol=1e-6)


def test_bad_arguments_are_named(make_log: MakeLog) -> None:
    log, catalogue = make_log(4)
    forest = forest_on_returns(log, catalogue, horizon=1, discount=1.0, trees=2, min_samples_leaf=4)
    with pytest.raises(DatasetError, match="sum to 1"):
        fit_fqe(log, catalogue, np.zeros((len(log), 3)), horizon=1, discount=1.0, forest=forest)
    model = fit_fqe(log, catalogue, np.eye(3)[np.zeros(len(log), int)], horizon=1, discount=1.0, forest=forest)
    with pytest.raises(DatasetError, match="0 to 1"):
        model.values(log.state, 2)
    nothing = replace(log, action=np.full(len(log), OPEN), done=np.zeros(len(log), bool))
    with pytest.raises(DatasetError, match="nothing to learn"):
        fit_fqe(nothing, catalogue, np.eye(3)[np.zeros(len(log), int)], horizon=1, discount=1.0, forest=forest)
