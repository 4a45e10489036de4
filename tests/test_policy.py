from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nba_tasks.dataset import BoolArray, FloatArray
from nba_tasks.policy import (
    PolicyError,
    ServedPolicy,
    apply_rules,
    carve_out,
    deviate_where_it_pays,
    explore,
    greedy,
    mix,
    supported,
)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """A policy and a Q-function at once: looks its rows up by the state's number."""

    table: Floats

    def probabilities(self, state: FloatArray, eligible: BoolArray) -> Floats:
        return apply_rules(self.table[state[:, 0].astype(int)], eligible)

    def values(self, state: FloatArray) -> Floats:
        return np.asarray(self.table[state[:, 0].astype(int)])


def test_a_new_action_gets_its_share_and_the_others_keep_their_proportions() -> None:
    """5% each for new ones that are allowed: of (.6, .4) one leaves (.57, .38), two leave (.54, .36), none (.6, .4)."""
    new = np.array([[0, 0, 1, 0], [0, 0, 1, 1], [0, 0, 0, 0]], dtype=bool)
    found = carve_out(np.array([[0.6, 0.4, 0, 0]] * 3), new, 0.05)
    np.testing.assert_allclose(found, [[0.57, 0.38, 0.05, 0], [0.54, 0.36, 0.05, 0.05], [0.6, 0.4, 0, 0]])


@given(st.integers(0, 5), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_a_carve_out_leaves_a_policy_and_most_of_it(n_new: int, share: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    before = np.pad(random.dirichlet(np.ones(3), 4), ((0, 0), (0, n_new)))
    new = np.zeros(before.shape, dtype=bool)
    new[:, 3:] = random.random((4, n_new)) < 0.5
    found = carve_out(before, new, share)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (found >= 0).all()
    assert (found[:, :3] >= 0.8 * before[:, :3] - 1e-12).all()
    assert (found[:, 3:][~new[:, 3:]] == 0).all()


def test_rules_mask_and_renormalise() -> None:
    """Row 0: (.5, .3, .2) without the middle action is (.5, 0, .2)/.7. Row 1 chose nothing that is allowed: uniform."""
    found = apply_rules(np.array([[0.5, 0.3, 0.2], [0.0, 1.0, 0.0]]), np.array([[True, False, True]] * 2))
    np.testing.assert_allclose(found, [[5 / 7, 0, 2 / 7], [0.5, 0, 0.5]])


def test_no_eligible_action_is_named() -> None:
    with pytest.raises(PolicyError, match="the first is row 1, have no eligible action"):
        apply_rules(np.ones((2, 2)), np.array([[True, False], [False, False]]))


@pytest.mark.parametrize("bad", [np.nan, -0.1])
def test_rules_refuse_what_is_no_probability(bad: float) -> None:
    with pytest.raises(PolicyError, match="finite and not negative"):
        apply_rules(np.array([[bad, 1.0]]), np.ones((1, 2), dtype=bool))


def test_support_is_relative_to_the_likeliest_eligible_action() -> None:
    """τ = .1: of (.9, .08, .02) only .9 has support (.08 < .09); once it is forbidden, .02 ≥ .1 · .08 has it too."""
    behaviour = np.array([[0.9, 0.08, 0.02]] * 2)
    eligible = np.array([[True, True, True], [False, True, True]])
    assert supported(behaviour, eligible, 0.1).tolist() == [[True, False, False], [False, True, True]]


def test_what_the_log_never_did_has_no_support() -> None:
    assert supported(np.array([[1.0, 0.0]]), np.ones((1, 2), dtype=bool), 0.0).tolist() == [[True, False]]
    with pytest.raises(PolicyError, match="row 0"):
        supported(np.array([[1.0, 0.0]]), np.array([[False, True]]), 0.0)


def test_greedy_takes_the_lowest_index_of_equals_and_only_allowed_actions() -> None:
    q = np.array([[1.0, 3.0, 3.0], [9.0, -2.0, -2.0]])
    allowed = np.array([[True, True, True], [False, True, True]])
    assert greedy(q, allowed).tolist() == [[0, 1, 0], [0, 1, 0]]


def test_greedy_refuses_a_missing_value_of_an_allowed_action() -> None:
    with pytest.raises(PolicyError, match="not finite"):
        greedy(np.array([[np.nan, 1.0]]), np.ones((1, 2), dtype=bool))


def test_three_layers_by_hand() -> None:
    """λ = .5 and ε = .1 over two allowed actions: (.6, .4, 0) and greedy on action 1 mix to (.3, .7, 0);
    exploration gives (.27 + .05, .63 + .05, 0)."""
    mixed = mix(np.array([[0.6, 0.4, 0.0]]), np.array([[0.0, 1.0, 0.0]]), 0.5)
    np.testing.assert_allclose(mixed, [[0.3, 0.7, 0.0]])
    np.testing.assert_allclose(explore(mixed, np.array([[True, True, False]]), 0.1), [[0.32, 0.68, 0.0]])


def test_deviates_only_where_it_pays() -> None:
    """Row 0: the new policy gains .5 · (2 − 0) = 1, not above 1: kept. Row 1 gains .5 · 2.2 = 1.1: taken."""
    incumbent, new = np.full((2, 2), 0.5), np.array([[0.0, 1.0], [0.0, 1.0]])
    q = np.array([[0.0, 2.0], [0.0, 2.2]])
    assert deviate_where_it_pays(incumbent, new, q, 1.0).tolist() == [[0.5, 0.5], [0.0, 1.0]]


@st.composite
def served(draw: st.DrawFn) -> tuple[ServedPolicy, Floats, BoolArray]:
    n, n_actions = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    tables = [rng.dirichlet(np.full(n_actions, 0.5), size=n) + 1e-6 for _ in range(2)]
    eligible = rng.random((n, n_actions)) < 0.6
    eligible[np.arange(n), rng.integers(0, n_actions, n)] = True
    share = st.floats(0, 1)
    policy = ServedPolicy(
        incumbent=Table(tables[0]),
        q=Table(rng.normal(size=(n, n_actions))),
        behaviour=Table(tables[1]),
        support=draw(share),
        mix=draw(share),
        epsilon=draw(share),
        min_advantage=draw(st.none() | st.floats(-1, 1)),
    )
    return policy, np.arange(n, dtype=float)[:, None], eligible


@given(case=served())
@settings(max_examples=200, deadline=None)
def test_served_probabilities_are_a_policy_on_eligible_actions(case: tuple[ServedPolicy, Floats, BoolArray]) -> None:
    policy, state, eligible = case
    found = policy.probabilities(state, eligible)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    assert (found >= 0).all()
    assert (found[~eligible] == 0).all()
    behaviour = policy.behaviour.probabilities(state, eligible)
    allowed = supported(behaviour, eligible, policy.support)
    assert (found[allowed] >= policy.epsilon / eligible.shape[1] - 1e-12).all()
    assert (found[~allowed] <= policy.incumbent.probabilities(state, eligible)[~allowed] + 1e-12).all()


@given(case=served(), share=st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_mixtures_agree_with_the_policy(case: tuple[ServedPolicy, Floats, BoolArray], share: float) -> None:
    policy, state, eligible = case
    at = policy.mixtures(
        policy.q.values(state),
        policy.behaviour.probabilities(state, eligible),
        policy.incumbent.probabilities(state, eligible),
        eligible,
    )
    np.testing.assert_array_equal(at(share), policy.with_mix(share).probabilities(state, eligible))


def test_no_mix_and_no_exploration_is_the_incumbent() -> None:
    table = np.array([[0.2, 0.8]])
    policy = ServedPolicy(Table(table), Table(np.array([[5.0, 1.0]])), Table(table), support=0.0, mix=0.0, epsilon=0.0)
    np.testing.assert_allclose(policy.probabilities(np.zeros((1, 1)), np.ones((1, 2), dtype=bool)), table)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_shares_outside_zero_and_one_are_refused(share: float) -> None:
    with pytest.raises(PolicyError, match="share between 0 and 1"):
        mix(np.ones((1, 1)), np.ones((1, 1)), share)
