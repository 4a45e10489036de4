"""Fitted Q iteration against a literal reference, at its limits, and on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import FunctionTransformer

from nba_tasks.dataset import OPEN, Catalogue, DatasetError, Transitions
from nba_tasks.learners.artefacts import ArtefactError
from nba_tasks.learners.bellman import FittedQ, Problem
from nba_tasks.learners.encoding import encode
from nba_tasks.learners.forest_q import SAMPLED, ForestQ, fit_q

from .conftest import MakeLog, random_log


def small_fit(log: Transitions, catalogue: Catalogue, **changes: object) -> FittedQ[ForestQ]:
    settings_ = {
        "discount": 0.9,
        "trees": 5,
        "min_samples_leaf": 3,
        "refits": 2,
        "tolerance": 1e-10,
        "trace": 0.7,
        **changes,
    }
    return fit_q(log, catalogue, **settings_)  # type: ignore[arg-type]  # settings of several types in one dict


def literal_sweeps(
    log: Transitions, catalogue: Catalogue, q: ForestQ, allowed: NDArray[np.bool_], discount: float, trace: float
) -> list[list[float]]:
    """Fixed point of frozen FQI by loops over rows, trees and leaves, from Q = level, with the given structure."""
    n, n_actions = allowed.shape
    level = [float(v) for v in q.level.read(log.state.astype(np.float32), np.empty((1, 0), dtype=np.float32))[0]]
    states = np.repeat(np.asarray(log.state, dtype=np.float64), n_actions, axis=0)
    pairs = encode(states, catalogue.features, np.tile(np.arange(n_actions), n))
    nodes = q.effect.forest.forest.apply(pairs).reshape(n, n_actions, -1).tolist()
    learned = [
        i
        for i in range(n)
        if log.action[i] != OPEN and (log.done[i] or (i + 1 < n and log.customer[i + 1] == log.customer[i]))
    ]
    value = list(level)
    found: list[list[float]] = []
    for _ in range(250):
        returns: dict[int, float] = {}
        for i in reversed(learned):
            follows = 0.0
            if not log.done[i]:
                seen = returns.get(i + 1, value[i + 1])  # where the log ends there is nothing but the value
                follows = (1 - trace) * value[i + 1] + trace * seen
            returns[i] = float(log.reward[i]) + discount * follows
        targets = {i: returns[i] - level[i] for i in learned}
        average: list[dict[int, float]] = []
        for t in range(len(q.effect.forest.trees)):
            inside: dict[int, list[float]] = {}
            for i, y in targets.items():
                inside.setdefault(nodes[i][int(log.action[i])][t], []).append(y)
            average.append({node: sum(ys) / len(ys) for node, ys in inside.items()})
        found = [
            [level[i] + mean([average[t][node] for t, node in enumerate(nodes[i][a])]) for a in range(n_actions)]
            for i in range(n)
        ]
        value = [max((found[i][a] for a in range(n_actions) if allowed[i, a]), default=0.0) for i in range(n)]
    return found


def mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


@pytest.mark.parametrize(("seed", "trace"), [(0, 0.0), (1, 0.0), (2, 0.7), (3, 0.7), (4, 1.0)])
def test_equals_the_literal_reference(make_log: MakeLog, seed: int, trace: float) -> None:
    log, catalogue = make_log(seed, customers=12)
    supported = np.random.default_rng(seed).random(log.eligible_target.shape) < 0.8
    supported[:, 0] = True
    fitted = small_fit(log, catalogue, supported=supported, trace=trace)
    assert fitted.converged
    expected = literal_sweeps(log, catalogue, fitted.q, log.eligible_target & supported, 0.9, trace)
    np.testing.assert_allclose(fitted.q.values(log.state), expected, rtol=1e-6, atol=1e-6)


def test_the_residual_never_grows_while_the_structure_is_frozen(make_log: MakeLog) -> None:
    log, catalogue = make_log(5)
    fitted = small_fit(log, catalogue, refits=1)
    assert len(fitted.residuals) > 5
    assert (np.diff(fitted.residuals) <= 1e-12).all()
    assert fitted.residuals[-1] <= 1e-10 < fitted.residuals[-2]


def test_a_trace_settles_in_fewer_sweeps(make_log: MakeLog) -> None:
    log, catalogue = make_log(5)
    plain, traced = (small_fit(log, catalogue, refits=1, discount=0.95, trace=trace) for trace in (0.0, 0.7))
    # γ against γ (1 - λ) / (1 - γ λ): .95 against .85.
    assert len(traced.residuals) < 0.5 * len(plain.residuals)


def test_with_a_full_trace_nothing_is_bootstrapped_before_the_log_ends(make_log: MakeLog) -> None:
    """Targets are then the discounted returns of the log, and whatever Q says of the open state at its end."""
    log, catalogue = make_log(7, customers=30)
    problem = Problem.of(log, catalogue, 0.9, None)
    value = np.random.default_rng(0).random(len(log))
    expected: dict[int, float] = {}
    for row in reversed(problem.fitted.tolist()):
        follows = 0.0 if log.done[row] else expected.get(row + 1, value[row + 1])
        expected[row] = float(log.reward[row]) + 0.9 * follows
    np.testing.assert_allclose(problem.target(value, 1.0), [expected[row] for row in problem.fitted.tolist()])


def test_every_sweep_is_reported(make_log: MakeLog) -> None:
    log, catalogue = make_log(5)
    told: list[tuple[int, float]] = []
    fitted = small_fit(log, catalogue, refits=3, tolerance=1e-3, on_sweep=lambda *sweep: told.append(sweep))
    assert told == list(enumerate(fitted.residuals.tolist(), start=1))
    cut = small_fit(log, catalogue, refits=3, max_sweeps=4)
    assert len(cut.residuals) == 4
    assert not cut.converged


def test_discount_0_is_a_regression_of_the_reward(make_log: MakeLog) -> None:
    """Each (state, action) in leaves of its own kind: 4 states, 2 actions, rewards without noise."""
    log, catalogue = make_log(2, customers=400, n_actions=2, features=1)
    log = replace(log, reward=np.where(log.open, 0.0, log.state[:, 0] * (1 + log.action)))
    fitted = small_fit(log, catalogue, discount=0.0, min_samples_leaf=1, trees=20)
    assert fitted.converged
    assert len(fitted.residuals) == 1
    values = fitted.q.values(np.arange(4, dtype=np.float32)[:, None])
    np.testing.assert_allclose(values, np.arange(4)[:, None] * [1, 2], atol=0.15)
    np.testing.assert_array_equal(values.argmax(axis=1)[1:], 1)
    # The order of customers and what comes next are of no interest then: neither are ends.
    never_ends = replace(log, done=np.zeros(len(log), dtype=bool))
    again = small_fit(never_ends, catalogue, discount=0.0, min_samples_leaf=1, trees=20)
    np.testing.assert_array_equal(again.q.values(log.state), fitted.q.values(log.state))


def test_nothing_is_bootstrapped_past_a_terminal(make_log: MakeLog) -> None:
    log, catalogue = make_log(3, customers=12)
    ended = ~log.open
    every = replace(log.rows(ended), done=np.ones(ended.sum(), dtype=bool), customer=np.arange(ended.sum()))
    greedy_far = small_fit(every, catalogue, discount=0.99)
    assert greedy_far.converged
    low, high = every.reward.min(), every.reward.max()
    values = greedy_far.q.values(every.state)
    assert values.min() >= low - (high - low)
    assert values.max() <= high + (high - low)
    two_refits_change_nothing = literal_sweeps(every, catalogue, greedy_far.q, every.eligible_target, 0.99, 0.7)
    np.testing.assert_allclose(values, two_refits_change_nothing, rtol=1e-6, atol=1e-6)


def test_the_backup_sees_only_eligible_and_supported_actions() -> None:
    """One epoch pays nothing and leads to one where action 1 pays 10; forbidden there, the first is worth 0."""
    n = 200
    state = np.tile([[0.0], [1.0]], (n, 1))
    action = np.tile([0, 1, 0, 0], n // 2)
    log = Transitions(
        customer=np.repeat(np.arange(n), 2),
        epoch=np.tile([0, 1], n),
        state=state,
        action=action,
        reward=10.0 * (action == 1),
        outcomes=np.zeros((2 * n, 1)),
        eligible_logged=np.ones((2 * n, 2), dtype=bool),
        eligible_target=np.ones((2 * n, 2), dtype=bool),
        propensity=np.full(2 * n, 0.5),
        done=np.tile([False, True], n),
        lost=np.zeros(2 * n, dtype=bool),
        outcome_names=("reward",),
    )
    catalogue = Catalogue(("no_action", "email"), (None, "email"), np.zeros(2), np.eye(2, dtype=np.float32))
    only_first = np.tile([True, False], (2 * n, 1))
    first = np.array([[0.0]])

    def value(log: Transitions, supported: NDArray[np.bool_] | None = None) -> float:
        fitted = fit_q(log, catalogue, discount=1.0, min_samples_leaf=1, tolerance=1e-8, trace=0, supported=supported)
        assert fitted.converged
        return float(fitted.q.values(first)[0, 0])

    assert value(log) == pytest.approx(10, abs=1e-3)
    assert value(replace(log, eligible_target=only_first)) == pytest.approx(0, abs=1e-3)
    assert value(log, supported=only_first) == pytest.approx(0, abs=1e-3)
    with pytest.raises(DatasetError, match="customer 0, epoch 1: no action is both"):
        value(replace(log, eligible_target=only_first), supported=~only_first)


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 100), reward=st.floats(-5, 5))
def test_a_constant_reward_that_never_ends_is_worth_its_geometric_sum(seed: int, reward: float) -> None:
    log, catalogue = random_log(seed, customers=10)
    log = log.rows(np.isin(log.customer, log.customer[log.open]))
    if log.open.all() or not len(log):
        return
    log = replace(log, reward=np.where(log.open, 0.0, reward))
    values = small_fit(log, catalogue, discount=0.5, trees=3).q.values(log.state)
    np.testing.assert_allclose(values, reward / (1 - 0.5), atol=1e-5)


def test_one_customer_with_one_epoch(make_log: MakeLog) -> None:
    log, catalogue = make_log(0, customers=3)
    one = log.rows(np.flatnonzero(log.done)[:1])
    fitted = small_fit(one, catalogue)
    np.testing.assert_allclose(fitted.q.values(one.state), one.reward[0], rtol=1e-6)
    assert fitted.converged


def test_nothing_to_learn_is_said(make_log: MakeLog) -> None:
    log, catalogue = make_log(0)
    with pytest.raises(DatasetError, match="nothing to learn"):
        small_fit(log.rows(log.open), catalogue)


def test_an_end_without_successor_is_left_out(make_log: MakeLog) -> None:
    log, catalogue = make_log(0)
    cut = log.rows(~log.open)
    loose = ~cut.done & (cut.next_row < 0)
    assert loose.any()
    wild = replace(cut, reward=np.where(loose, 1e6, cut.reward))
    np.testing.assert_array_equal(
        small_fit(wild, catalogue).q.values(log.state), small_fit(cut, catalogue).q.values(log.state)
    )


def test_equal_seeds_give_equal_functions(make_log: MakeLog) -> None:
    log, catalogue = make_log(1)
    one, same, other = (small_fit(log, catalogue, seed=seed).q.values(log.state) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_a_sample_grows_the_structure_and_every_row_is_averaged(make_log: MakeLog) -> None:
    log, catalogue = make_log(1, customers=30)
    fitted = small_fit(log, catalogue, grow_rows=40)
    assert {tree.weighted_n_node_samples[0] for tree in fitted.q.effect.forest.trees} == {40}
    expected = literal_sweeps(log, catalogue, fitted.q, log.eligible_target, 0.9, 0.7)
    np.testing.assert_allclose(fitted.q.values(log.state), expected, rtol=1e-6, atol=1e-6)


def test_the_first_phase_among_some_customers_leaves_no_trace_in_the_averages(make_log: MakeLog) -> None:
    """Trees of 8 rows each, grown among a few of 60 customers: every row's target is averaged all the same."""
    log, catalogue = make_log(1, customers=60)
    assert len(log) > 2 * SAMPLED * 8
    fitted = small_fit(log, catalogue, grow_rows=8, supported=np.ones_like(log.eligible_target))
    assert fitted.converged
    assert {tree.weighted_n_node_samples[0] for tree in fitted.q.effect.forest.trees} == {8}
    expected = literal_sweeps(log, catalogue, fitted.q, log.eligible_target, 0.9, 0.7)
    np.testing.assert_allclose(fitted.q.values(log.state), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("changes", [{"discount": 0.0}, {"discount": 0.0, "refits": 1}])
def test_the_level_is_every_rows_average_where_it_is_averaged_once(
    make_log: MakeLog, changes: dict[str, object]
) -> None:
    log, catalogue = make_log(1, customers=60)
    level = small_fit(log, catalogue, grow_rows=8, **changes).q.level
    fitted = ~log.open
    leaves = level.forest.leaves(log.state[fitted].astype(np.float32), np.empty((1, 0), dtype=np.float32))[:, 0]
    for t, leaf in enumerate(leaves):
        values = level.leaf_values[level.forest.offset[t] : level.forest.offset[t + 1]]
        for number in np.unique(leaf):
            assert values[number] == pytest.approx(log.reward[fitted][leaf == number].mean())


def test_a_stored_function_is_the_same(make_log: MakeLog, tmp_path: Path) -> None:
    log, catalogue = make_log(1)
    q = small_fit(log, catalogue).q
    q.save(tmp_path)
    loaded = ForestQ.load(tmp_path)
    np.testing.assert_array_equal(loaded.values(log.state), q.values(log.state))
    assert loaded.catalogue.ids == catalogue.ids
    assert loaded.catalogue.channels == catalogue.channels
    with pytest.raises(DatasetError, match="knows"):
        loaded.values(log.state[:, :1])


def test_a_tampered_store_is_refused(make_log: MakeLog, tmp_path: Path) -> None:
    log, catalogue = make_log(1)
    small_fit(log, catalogue).q.save(tmp_path)
    kept = (tmp_path / "effect.skops").read_bytes()

    skops.io.dump(FunctionTransformer(func=Path.unlink), tmp_path / "effect.skops")
    with pytest.raises(ArtefactError, match="not trusted"):
        ForestQ.load(tmp_path)
    skops.io.dump(LinearRegression(), tmp_path / "effect.skops")
    with pytest.raises(ArtefactError, match="holds a LinearRegression"):
        ForestQ.load(tmp_path)
    (tmp_path / "effect.skops").write_bytes(b"not a model")
    with pytest.raises(ArtefactError, match="cannot be read"):
        ForestQ.load(tmp_path)
    (tmp_path / "effect.skops").write_bytes(kept)

    np.save(tmp_path / "effect.npy", np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(ArtefactError, match="cannot be read as an array"):
        ForestQ.load(tmp_path)
    np.save(tmp_path / "effect.npy", np.zeros(3))
    with pytest.raises(ArtefactError, match="each of the forest's leaves"):
        ForestQ.load(tmp_path)
