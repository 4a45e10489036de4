"""h-step fitted Q evaluation: what a policy earns in its next h decisions, by steps to go.

    Q_k(s, a) = average over leaves of ( r + γ · V_{k-1}(s') ),   V_k(s) = Σ_a π(a|s) Q_k(s, a),   V_0 = 0

Nothing is earned after a terminal. There is no bootstrapped end, so the only bias is that of the averages (H. Le,
C. Voloshin, Y. Yue, "Batch policy learning under constraints", ICML 2019). Where the log breaks off, the open row's
state stands for the steps that remain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nba_tasks.dataset import Catalogue, DatasetError, FloatArray, IntArray, Transitions
from nba_tasks.learners.encoding import encode
from nba_tasks.learners.frozen import FrozenForest, LeafArray, LeafAverages, Values, grow, in_chunks, of_actions


@dataclass(frozen=True)
class StepwiseQ:
    """Q of one policy, by steps to go.

    Parameters
    ----------
    forest : FrozenForest
    leaf_values : array of shape (horizon, forest.n_leaves)
        Row k - 1 holds the values with k steps to go.
    catalogue : Catalogue
    """

    forest: FrozenForest
    leaf_values: Values
    catalogue: Catalogue

    @property
    def horizon(self) -> int:
        return len(self.leaf_values)

    def values(self, state: FloatArray, steps_to_go: int) -> NDArray[np.float32]:
        """Q of every action with some steps to go, the present one included.

        Parameters
        ----------
        state : array of shape (n, n_features)
        steps_to_go : int in 0..horizon
            0: nothing is earned any more.

        Returns
        -------
        float32 array of shape (n, n_actions), in reward units
        """
        if not 0 <= steps_to_go <= self.horizon:
            raise DatasetError(f"steps_to_go is {steps_to_go}; this Q-function knows 0 to {self.horizon}")
        if steps_to_go == 0:
            return np.zeros((len(state), len(self.catalogue)), dtype=np.float32)
        one = StepwiseQ(self.forest, self.leaf_values[steps_to_go - 1 : steps_to_go], self.catalogue)
        found: NDArray[np.float32] = values_by_step([one], state)[0, 0]
        return found


def values_by_step(models: Sequence[StepwiseQ], state: FloatArray) -> NDArray[np.float32]:
    """Q of several policies on the same states, for all steps at once: the leaves are looked up only once.

    Parameters
    ----------
    models : sequence of StepwiseQ, length n_models
        Of one `fit_fqe_of_several`: they share their forest and horizon.
    state : array of shape (n, n_features)

    Returns
    -------
    float32 array of shape (n_models, horizon, n, n_actions)
        `[m, k - 1]` is model m with k steps to go.
    """
    forest, catalogue, horizon = models[0].forest, models[0].catalogue, models[0].horizon
    if any(model.forest is not forest or model.horizon != horizon for model in models):
        raise DatasetError("models evaluated together must share their forest and horizon; fit them together")
    found = np.empty((len(models), horizon, len(state), len(catalogue)), dtype=np.float32)

    def work(start: int, stop: int) -> None:
        leaves = forest.leaves_of_chunk(state[start:stop], catalogue.features)
        for m, model in enumerate(models):
            for k in range(horizon):
                found[m, k, start:stop] = forest.read(model.leaf_values[k], leaves).T

    in_chunks(len(state), work)
    return found


def fit_fqe(
    transitions: Transitions,
    catalogue: Catalogue,
    probabilities: FloatArray,
    *,
    horizon: int,
    discount: float,
    forest: FrozenForest,
    terminal_charge: FloatArray | None = None,
    reward: FloatArray | None = None,
) -> StepwiseQ:
    """Evaluate one policy; see `fit_fqe_of_several`."""
    return fit_fqe_of_several(
        transitions,
        catalogue,
        [probabilities],
        horizon=horizon,
        discount=discount,
        forest=forest,
        terminal_charge=terminal_charge,
        reward=reward,
    )[0]


def fit_fqe_of_several(
    transitions: Transitions,
    catalogue: Catalogue,
    policies: Sequence[FloatArray],
    *,
    horizon: int,
    discount: float,
    forest: FrozenForest,
    terminal_charge: FloatArray | None = None,
    reward: FloatArray | None = None,
    leaves: LeafArray | None = None,
) -> list[StepwiseQ]:
    """Evaluate policies on the same log, with leaves looked up once.

    Parameters
    ----------
    transitions : Transitions
        Rows without a successor that are not `done` are left out.
    catalogue : Catalogue
    policies : sequence of arrays of shape (n, n_actions)
        Each policy's probabilities in every row's state, open rows included.
    horizon : int ≥ 1
    discount : float in [0, 1]
    forest : FrozenForest
        Whose structure is used: of a fitted Q-function, or `forest_on_returns`.
    terminal_charge : array of shape (n,), optional
        Subtracted from the reward where a customer was lost.
    reward : array of shape (n,), optional
        Evaluate this objective instead of the reward.
    leaves : array of shape (n_trees, n_actions, n), optional
        `forest.leaves` of every row's state, where they were looked up before.

    Raises
    ------
    DatasetError
        No row has a target, or probabilities are not finite or do not sum to 1.
    """
    for policy in policies:
        if policy.shape != (len(transitions), len(catalogue)) or not np.allclose(policy.sum(axis=1), 1, atol=1e-4):
            raise DatasetError("a policy must give every row (open ones too) probabilities that sum to 1")
    fitted, successor = fitted_rows(transitions)
    earned = _earned(transitions, terminal_charge, reward)[fitted]
    if leaves is None:
        leaves = forest.leaves(transitions.state, catalogue.features)
    averages = LeafAverages(forest, of_actions(leaves, transitions.action[fitted], fitted))
    models = []
    for policy in policies:
        value = np.zeros(len(transitions))
        leaf_values = np.empty((horizon, forest.n_leaves))
        for k in range(horizon):
            target = earned + discount * np.where(successor >= 0, value[successor], 0.0)
            leaf_values[k] = averages(target)
            if k + 1 < horizon:
                _expect(forest, leaves, leaf_values[k], policy, value)
        models.append(StepwiseQ(forest, leaf_values, catalogue))
    return models


def forest_on_returns(
    transitions: Transitions,
    catalogue: Catalogue,
    *,
    horizon: int,
    discount: float,
    trees: int = 60,
    min_samples_leaf: int = 50,
    seed: int = 0,
    grow_rows: int | None = 200_000,
    terminal_charge: FloatArray | None = None,
) -> FrozenForest:
    """A structure for evaluation, grown on the log's own h-step returns (shorter where the log ends)."""
    earned = _earned(transitions, terminal_charge, None)
    successor = transitions.next_row
    returns = np.zeros(len(transitions))
    for _ in range(horizon):
        returns = earned + discount * np.where(successor >= 0, returns[successor], 0.0)
    fitted, _ = fitted_rows(transitions)
    rows = encode(transitions.state[fitted], catalogue.features, transitions.action[fitted])
    grown = grow(rows, returns[fitted], trees=trees, min_samples_leaf=min_samples_leaf, seed=seed, grow_rows=grow_rows)
    return FrozenForest(grown)


def fitted_rows(transitions: Transitions) -> tuple[IntArray, IntArray]:
    """Rows that have a target, and for each the row of its next state (-1 behind a terminal).

    Raises
    ------
    DatasetError
        There are none.
    """
    successor = transitions.next_row
    fitted = np.flatnonzero(~transitions.open & (transitions.done | (successor >= 0)))
    if len(fitted) == 0:
        raise DatasetError("no epoch has both an action and an end (a next state or `done`): there is nothing to learn")
    return fitted, successor[fitted]


def _earned(
    transitions: Transitions, terminal_charge: FloatArray | None, reward: FloatArray | None
) -> NDArray[np.float64]:
    earned = np.array(transitions.reward if reward is None else reward, dtype=np.float64)
    if terminal_charge is not None:
        earned[transitions.lost] -= terminal_charge[transitions.lost]
    return earned


def _expect(
    forest: FrozenForest, leaves: LeafArray, leaf_values: Values, policy: FloatArray, value: NDArray[np.float64]
) -> None:
    """Overwrite the value of every row's state by the policy's mean of Q."""

    def work(start: int, stop: int) -> None:
        q = forest.read(leaf_values, leaves[:, :, start:stop])
        np.einsum("an,na->n", q, policy[start:stop], out=value[start:stop])

    in_chunks(len(value), work)
