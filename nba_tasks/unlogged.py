"""What the gate asks where decisions were not logged: was anything triggered, and how much may something hidden matter?

Both questions are put to models of the learn split, and answered on the gate's customers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from nba_tasks.dataset import FloatArray, IntArray, Transitions
from nba_tasks.gate import BeforeContact, Placebo, Sample, Yardstick
from nba_tasks.gate.placebo import placebo
from nba_tasks.gate.sensitivity import odds_ratio
from nba_tasks.learners.behaviour import BehaviourModel
from nba_tasks.policy import Floats, Policy

if TYPE_CHECKING:
    from nba_tasks.trial import Side

MAX_ROWS = 200_000
"""Enough for what is expected before a contact."""

RANKED_ROWS = 20_000
"""Enough to rank features by."""


def placebo_of(learn: Side, judging: Side, sample: Sample) -> Placebo | None:
    """Rule 3's figures; None where every decision was logged, or where the times of contacts were not loaded."""
    before, taught = judging.before_contact, learn.before_contact
    if sample.logged_share == 1 or before is None or taught is None:
        return None
    names = judging.data.outcome_names
    contacts = judging.data.outcomes[:, names.index("contacts")] if "contacts" in names else None
    return placebo(sample, before, expected_before(learn.data, taught, judging.data, before), contacts)


def expected_before(
    learn: Transitions, taught: BeforeContact, data: Transitions, before: BeforeContact, seed: int = 0
) -> Floats:
    """What happens up to a moment of the epoch on average, given the state: of shape (n, 2), for the rows of `data`.

    Parameters
    ----------
    learn, data : Transitions
        Whose customers teach, and whose are asked about.
    taught, before : BeforeContact
        Of the rows of each.
    seed : int
    """
    expected = np.zeros((len(data), 2))
    known, asked = np.flatnonzero(taught.known), np.flatnonzero(before.known)
    if not len(known) or not len(asked):
        return expected
    if len(known) > MAX_ROWS:
        known = np.sort(np.random.default_rng(seed).choice(known, MAX_ROWS, replace=False))
    shown, questions = _inputs(learn, taught, known), _inputs(data, before, asked)
    for measure in range(2):
        target = taught.happened[known, measure]
        model = HistGradientBoostingRegressor(
            max_iter=100, max_leaf_nodes=15, min_samples_leaf=50, early_stopping=len(known) >= 1000, random_state=seed
        )
        expected[asked, measure] = model.fit(shown, target).predict(questions) if np.ptp(target) > 0 else target[0]
    return expected


def _inputs(data: Transitions, before: BeforeContact, rows: IntArray) -> NDArray[np.float32]:
    parts = [data.state[rows], data.eligible_logged[rows], before.moment[rows, None]]
    return np.concatenate(parts, axis=1, dtype=np.float32)


def yardstick_of(
    behaviour: Policy, learn: Transitions, judging: Side, sample: Sample, names: tuple[str, ...], seed: int = 0
) -> Yardstick | None:
    """How far hiding the strongest observed feature moves the odds of the logged actions.

    The strongest feature is the one whose shuffling costs the behaviour model most log loss on the gate's customers.
    The model is fitted anew with that feature blank; Γ is the odds ratio between both models that 95% of the decisions
    with a choice stay within. Something hidden and as telling would move them as far.

    Returns
    -------
    Yardstick or None
        None where every decision was logged, or no unlogged one was a choice.
    """
    data = judging.data
    rows = sample.rows[~sample.logged[sample.rows]]
    rows = rows[data.eligible_logged[rows].sum(axis=1) > 1]
    if not len(rows):
        return None
    feature = _strongest(behaviour, data, rows, seed)
    hidden = BehaviourModel.fit(replace(learn, state=_blank(learn.state, feature)), seed)
    less = hidden.probabilities(_blank(data.state[rows], feature), data.eligible_logged[rows])
    gamma = odds_ratio(sample.propensity[rows], less[np.arange(len(rows)), data.action[rows]])
    return Yardstick(names[feature], gamma)


def _strongest(behaviour: Policy, data: Transitions, rows: IntArray, seed: int) -> int:
    """The feature whose shuffling makes the logged actions least likely."""
    rng = np.random.default_rng(seed)
    if len(rows) > RANKED_ROWS:
        rows = np.sort(rng.choice(rows, RANKED_ROWS, replace=False))
    state, eligible, action = data.state[rows], data.eligible_logged[rows], data.action[rows]
    order = rng.permutation(len(rows))

    def log_likelihood(feature: int) -> float:
        shuffled = state.copy()
        shuffled[:, feature] = state[order, feature]
        found = behaviour.probabilities(shuffled, eligible)[np.arange(len(rows)), action]
        return float(np.log(np.maximum(found, 1e-12)).mean())

    return int(np.argmin([log_likelihood(feature) for feature in range(state.shape[1])]))


def _blank(state: FloatArray, feature: int) -> FloatArray:
    changed = state.copy()
    changed[:, feature] = 0
    return changed
