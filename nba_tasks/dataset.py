"""The arrays that learning and the gate work on. Nothing here knows Postgres or Airflow."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32] | NDArray[np.float64]
IntArray = NDArray[np.integer]
BoolArray = NDArray[np.bool_]

OPEN = -1
"""Action of an open epoch: the one after a customer's last settled epoch, of which only the state is known."""


class DatasetError(ValueError):
    """Arrays that cannot be learned from or judged on; the message says which rule they break."""


@dataclass(frozen=True)
class Catalogue:
    """The actions in index order, and what learning may know of each.

    Parameters
    ----------
    ids : tuple of str, length n_actions
        Action ids; position is the action index used everywhere.
    channels : tuple of str or None, length n_actions
        The channel of each action; None for `no_action`.
    cost : array of shape (n_actions,)
        Cost of one contact, in reward units.
    features : array of shape (n_actions, n_action_features)
        What a Q-function sees of an action (one-hot, channel, cost, catalogue columns).
    """

    ids: tuple[str, ...]
    channels: tuple[str | None, ...]
    cost: FloatArray
    features: FloatArray

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Transitions:
    """One row per customer and epoch, in the order of `customer`, then `epoch`.

    The next state of a row is the next row of the same customer; there is none behind a `done` row. A customer whose
    log goes on closes with one open row (`action == OPEN`): a state to bootstrap from, with nothing to learn.

    Attributes
    ----------
    customer : int array of shape (n,)
    epoch : int array of shape (n,)
        Number of the epoch on the customer's grid; consecutive within a customer.
    state : float array of shape (n, n_features)
        Known strictly before the epoch's start.
    action : int array of shape (n,)
        Index of the logged action, `OPEN` in an open row.
    reward : float array of shape (n,)
        Weighted outcomes minus costs until the next epoch; 0 in an open row.
    outcomes : float array of shape (n, n_outcomes)
        Each objective by itself, in the order of `outcome_names`.
    eligible_logged, eligible_target : bool arrays of shape (n, n_actions)
        Actions allowed by the rules of the epoch's own day, and by tonight's.
    propensity : float array of shape (n,)
        Logged probability of the logged action; NaN where no decision was logged.
    done : bool array of shape (n,)
        The relationship ended in this epoch.
    lost : bool array of shape (n,)
        It ended because the customer left for good (a `done` that is charged).
    outcome_names : tuple of str
    """

    customer: IntArray
    epoch: IntArray
    state: FloatArray
    action: IntArray
    reward: FloatArray
    outcomes: FloatArray
    eligible_logged: BoolArray
    eligible_target: BoolArray
    propensity: FloatArray
    done: BoolArray
    lost: BoolArray
    outcome_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.customer)

    @property
    def n_actions(self) -> int:
        return int(self.eligible_target.shape[1])

    @property
    def open(self) -> BoolArray:
        """bool array of shape (n,): rows without an action."""
        return np.asarray(self.action == OPEN)

    @property
    def next_row(self) -> NDArray[np.int64]:
        """int array of shape (n,): the row of each row's next state, -1 where there is none."""
        n = len(self)
        follows = np.zeros(n, dtype=bool)
        if n > 1:
            follows[:-1] = (self.customer[1:] == self.customer[:-1]) & (self.epoch[1:] == self.epoch[:-1] + 1)
        return np.where(follows & ~self.done, np.arange(1, n + 1), -1)

    def rows(self, chosen: BoolArray | IntArray) -> Transitions:
        """The chosen rows. Choose whole customers, or next states are cut off."""
        parts = {f.name: getattr(self, f.name)[chosen] for f in fields(self) if f.name != "outcome_names"}
        return replace(self, **parts)

    def whole_customers(self, rows: int) -> IntArray:
        """The rows of so many customers, evenly picked, that there are about `rows` of them, or all."""
        customers = np.unique(self.customer)
        count = min(len(customers), math.ceil(len(customers) * rows / len(self)))
        kept = customers[np.linspace(0, len(customers) - 1, count).astype(np.int64)]
        return np.flatnonzero(np.isin(self.customer, kept))

    def check(self, *, propensities: bool = True) -> None:
        """Refuse arrays on which a later step would be silently wrong.

        Parameters
        ----------
        propensities : bool
            False leaves unusable ones to the gate, which rejects them with a reason.

        Raises
        ------
        DatasetError
            Nothing is settled, shapes differ, rows are out of order or not consecutive, a logged action is out of
            range, a state, reward or outcome is not finite, a propensity is outside (0, 1], a row follows a done one,
            or an open row is not last. The message names the first such customer and epoch.
        """
        n = len(self)
        if n == 0 or self.open.all():
            raise DatasetError(
                "there are no transitions: is the history empty, no epoch settled yet, or are there too few customers "
                "for the splits?"
            )
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "outcome_names" and len(value) != n:
                raise DatasetError(f"{field.name} has {len(value)} rows where customer has {n}")
        same = self.customer[1:] == self.customer[:-1]
        if (np.diff(self.customer) < 0).any() or (np.diff(self.epoch)[same] != 1).any():
            raise DatasetError("rows must be ordered by customer and epoch, without a gap within a customer")
        if (self.action < OPEN).any() or (self.action >= self.n_actions).any():
            raise DatasetError(f"actions must lie in 0..{self.n_actions - 1} (or be {OPEN} in an open row)")
        self._refuse(
            np.asarray(~np.isfinite(self.state).all(axis=1)),
            "a state holds a value that is not finite; give the feature a `missing` value",
        )
        self._refuse(~np.isfinite(self.reward), "a reward is not finite; mend the events' values or the costs")
        self._refuse(
            np.asarray(~np.isfinite(self.outcomes).all(axis=1)), "an outcome is not finite; mend the events' values"
        )
        if propensities:
            self._refuse(
                (self.propensity <= 0) | (self.propensity > 1),
                "a logged propensity lies outside (0, 1]; mend the decisions, or leave the propensity out",
            )
        if (same & self.done[:-1]).any():
            raise DatasetError("a customer has an epoch after the one that ended the relationship")
        if (same & self.open[:-1]).any() or (self.open & self.done).any():
            raise DatasetError("an open row must be its customer's last and cannot be done")

    def decisions_for(self) -> tuple[int, ...]:
        """How many decisions were taken for each action, by its index."""
        return tuple(np.bincount(self.action[~self.open], minlength=self.n_actions).tolist())

    def without(self, new: BoolArray) -> Transitions:
        """The same where some actions (n_actions,) may not be chosen tonight, unless nothing else is allowed."""
        left = self.eligible_target & ~new
        return replace(self, eligible_target=np.where(left.any(axis=1, keepdims=True), left, self.eligible_target))

    def require_choice(self) -> None:
        """Refuse rows in which nothing may be done, not even nothing.

        Raises
        ------
        DatasetError
            Names the first such customer and epoch, and whose rules leave no action.
        """
        advice = "leave no action; keep no_action in the catalogue or loosen a rule"
        self._refuse(np.asarray(~self.eligible_logged.any(axis=1)), f"the rules of its day {advice}")
        self._refuse(np.asarray(~self.eligible_target.any(axis=1)), f"tonight's rules {advice}")

    def _refuse(self, broken: BoolArray, what: str) -> None:
        """Raise where any row is broken."""
        if broken.any():
            row = int(np.argmax(broken))
            where = f"customer {self.customer[row]}, epoch {self.epoch[row]}"
            raise DatasetError(f"{where} (the first of {int(broken.sum()):,} rows): {what}")
