"""The behaviour policy as a model: the probability of each eligible action, given the state.

Frozen and registered it is version 0, business as usual; cross-fitted by customer it gives the propensities of epochs
that have no logged decision.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from nba_tasks.dataset import BoolArray, DatasetError, FloatArray, IntArray, Transitions
from nba_tasks.learners.artefacts import ArtefactError, load_estimator, load_json, save_estimator, save_json

FLOOR = 1e-4
"""Smallest probability of an eligible action; well below the gate's own limit, so that it hides nothing there."""

MAX_ROWS = 1_000_000
"""A multinomial model learns nothing more from further rows that would be worth the time."""


@dataclass(frozen=True)
class BehaviourModel:
    """Gradient boosted multinomial model of the logged action, restricted to eligible actions.

    What is eligible enters as input, beside the state: a model that did not know it would blame the state for choices
    that the rules made.

    Parameters
    ----------
    classifier : fitted HistGradientBoostingClassifier or None
        None where the log shows less than two actions that were a choice.
    n_actions : int
    only_action : int or None
        The action that every choice in the log fell on, if there is just one.
    """

    classifier: HistGradientBoostingClassifier | None
    n_actions: int
    only_action: int | None = None

    @classmethod
    def fit(cls, transitions: Transitions, seed: int) -> BehaviourModel:
        """Fit to all epochs with an action and more than one eligible action.

        A logged action counts as eligible, whatever the rules say of it. An action that was chosen only once keeps the
        floor: it cannot be both learned from and validated on.
        """
        eligible = _eligible(transitions)
        rows = np.flatnonzero(~transitions.open & (eligible.sum(axis=1) > 1))
        n_actions = transitions.n_actions
        if len(rows) > MAX_ROWS:
            rows = np.sort(np.random.default_rng(seed).choice(rows, MAX_ROWS, replace=False))
        seen, often = np.unique(transitions.action[rows], return_counts=True)
        if len(seen) > 1 and (often == 1).any():
            seen = seen[often > 1]
            rows = rows[np.isin(transitions.action[rows], seen)]
        if len(seen) < 2:
            return cls(None, n_actions, int(seen[0]) if len(seen) else None)
        classifier = HistGradientBoostingClassifier(
            # On the sales-channels simulator: the log loss of rate 0.1 in half the rounds, and a lower one than that of
            # 15 leaves or a linear model.
            learning_rate=0.2,
            max_leaf_nodes=7,
            max_iter=200,
            min_samples_leaf=50,
            l2_regularization=1.0,
            early_stopping=len(rows) >= 1000,
            validation_fraction=0.1,
            n_iter_no_change=5,
            random_state=seed,
        )
        classifier.fit(_inputs(transitions.state[rows], eligible[rows]), transitions.action[rows])
        return cls(classifier, n_actions)

    def probabilities(self, state: FloatArray, eligible: BoolArray) -> NDArray[np.float64]:
        """Probability of each action.

        Parameters
        ----------
        state : array of shape (n, n_features)
        eligible : bool array of shape (n, n_actions)

        Returns
        -------
        array of shape (n, n_actions)
            Rows sum to 1; 0 for an action that is not eligible, at least `FLOOR` for one that is.

        Raises
        ------
        DatasetError
            A row has no eligible action.
        """
        count = eligible.sum(axis=1, keepdims=True)
        if (count == 0).any():
            raise DatasetError(f"row {int(np.argmin(count))} has no eligible action")
        share = np.zeros(eligible.shape)
        if self.classifier is not None and len(state):
            share[:, self.classifier.classes_] = self.classifier.predict_proba(_inputs(state, eligible))
        elif self.only_action is not None:
            share[:, self.only_action] = 1.0
        share *= eligible
        total = share.sum(axis=1, keepdims=True)
        share = np.where(total > 0, share / np.where(total > 0, total, 1.0), eligible / count)
        return np.where(eligible, FLOOR + (1 - FLOOR * count) * share, 0.0)

    def save(self, folder: Path) -> None:
        """Write the model into a folder (skops and JSON)."""
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "n_actions": self.n_actions,
            "only_action": self.only_action,
            "classifier": self.classifier is not None,
        }
        save_json(content, folder / "behaviour.json")
        if self.classifier is not None:
            save_estimator(self.classifier, folder / "behaviour.skops")

    @classmethod
    def load(cls, folder: Path) -> BehaviourModel:
        """Read what `save` wrote.

        Raises
        ------
        ArtefactError
            A file is missing or damaged, or names a type that is not trusted.
        """
        content = load_json(folder / "behaviour.json")
        try:
            n_actions, only, has_classifier = content["n_actions"], content["only_action"], content["classifier"]
        except KeyError as error:
            raise ArtefactError(f"{folder / 'behaviour.json'}: {error} is missing") from error
        classifier = None
        if has_classifier:
            classifier = load_estimator(folder / "behaviour.skops", HistGradientBoostingClassifier)
        return cls(classifier, int(n_actions), None if only is None else int(only))


def cross_fitted_propensities(transitions: Transitions, folds: int = 2, seed: int = 0) -> NDArray[np.float64]:
    """Estimated probability of each logged action, by a model that never saw the customer.

    Parameters
    ----------
    transitions : Transitions
    folds : int ≥ 2
        Customers are dealt into this many groups; each group's model is fitted on the others.
    seed : int

    Returns
    -------
    array of shape (n,)
        NaN in open rows.

    Raises
    ------
    DatasetError
        There are fewer customers than folds.
    """
    customers, position = np.unique(transitions.customer, return_inverse=True)
    if not 2 <= folds <= len(customers):
        raise DatasetError(f"{folds} folds need at least 2 folds and as many customers; there are {len(customers)}")
    fold = (np.random.default_rng(seed).permutation(len(customers)) % folds)[position]
    eligible = _eligible(transitions)
    propensity = np.full(len(transitions), np.nan)
    for k in range(folds):
        model = BehaviourModel.fit(transitions.rows(fold != k), seed + k)
        rows = np.flatnonzero((fold == k) & ~transitions.open)
        found = model.probabilities(transitions.state[rows], eligible[rows])
        propensity[rows] = found[np.arange(len(rows)), transitions.action[rows]]
    return propensity


@dataclass(frozen=True)
class Reliability:
    """How often an action was taken where the model gave it some probability.

    Attributes
    ----------
    count, predicted, observed : arrays of shape (n_actions, n_bins)
        Rows in the bin, their mean probability and the share of them that took the action; NaN in an empty bin.
    error : array of shape (n_actions,)
        Expected calibration error per action: Σ_bins share of rows · |predicted - observed|; NaN where never eligible.
    expected_calibration_error : float
        The mean of `error`, each action weighted by the rows in which it was eligible.
    """

    count: IntArray
    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    error: NDArray[np.float64]
    expected_calibration_error: float


def reliability(probabilities: FloatArray, action: IntArray, eligible: BoolArray, bins: int = 10) -> Reliability:
    """Calibration of each action's probability, over rows in which it was a choice.

    Parameters
    ----------
    probabilities : array of shape (n, n_actions)
        Of a model that did not see these rows.
    action : int array of shape (n,)
        Logged actions; open rows (negative) are left out.
    eligible : bool array of shape (n, n_actions)
    bins : int
        Of equal numbers of rows.
    """
    chosen = (action >= 0) & (eligible.sum(axis=1) > 1)
    probabilities, action, eligible = probabilities[chosen], action[chosen], eligible[chosen]
    n_actions = eligible.shape[1]
    count = np.zeros((n_actions, bins), dtype=np.int64)
    predicted, observed = np.zeros((n_actions, bins)), np.zeros((n_actions, bins))
    for a in range(n_actions):
        p = probabilities[eligible[:, a], a]
        taken = action[eligible[:, a]] == a
        edges = np.quantile(p, np.arange(1, bins) / bins) if len(p) else np.zeros(bins - 1)
        bin_ = np.searchsorted(edges, p, side="right")
        count[a] = np.bincount(bin_, minlength=bins)
        predicted[a] = np.bincount(bin_, weights=p, minlength=bins)
        observed[a] = np.bincount(bin_, weights=taken, minlength=bins)
    gap = np.abs(predicted - observed).sum(axis=1)
    rows = count.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return Reliability(
            count=count,
            predicted=predicted / count,
            observed=observed / count,
            error=gap / rows,
            expected_calibration_error=float(gap.sum() / max(rows.sum(), 1)),
        )


def _eligible(transitions: Transitions) -> BoolArray:
    """Eligible actions by the rules of the day, the logged one always among them; shape (n, n_actions)."""
    eligible = transitions.eligible_logged.copy()
    rows = np.flatnonzero(~transitions.open)
    eligible[rows, transitions.action[rows]] = True
    return eligible


def _inputs(state: FloatArray, eligible: BoolArray) -> NDArray[np.float32]:
    """What the classifier sees, float32 array of shape (n, n_features + n_actions)."""
    return np.concatenate([state, eligible], axis=1, dtype=np.float32)
