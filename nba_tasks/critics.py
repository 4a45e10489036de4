"""Models of the policies' value that the gate leans on, learned from the learn split: critics, and what lies beyond."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nba_tasks.dataset import Catalogue, DatasetError, FloatArray, Transitions
from nba_tasks.estimators import Critic
from nba_tasks.learners.fqe import StepwiseQ, fit_fqe_of_several, forest_on_returns, values_by_step
from nba_tasks.policy import Floats, ServedPolicy
from nba_tasks.programme import Programme

if TYPE_CHECKING:
    from nba_tasks.trial import Side

FORESEEN = 0.01
"""Beyond a window it is foreseen until a reward counts less than this share of one today …"""

FARTHEST = 100
"""… or for this many decisions, where γ is near 1."""

TAIL_ROWS, TAIL_WINDOWS = 60_000, 20_000
"""An opinion needs no more rows to learn from, and no more windows to speak of."""


@dataclass(frozen=True)
class Loss:
    """What losing a customer for good costs.

    Attributes
    ----------
    value : float
        As configured; else what a customer earns under business as usual from one epoch on, for ever.
    horizon : int
    discount : float
    configured : bool
    """

    value: float
    horizon: int
    discount: float
    configured: bool

    @classmethod
    def of(cls, programme: Programme, data: Transitions) -> Loss:
        """From the programme file, else estimated as r̄ / (1 − γ · share who stay) per epoch on the learn split.

        Raises
        ------
        DatasetError
            It would be endless: nothing is discounted, and nobody is lost.
        """
        horizon, discount = programme.gate.horizon, programme.learning.discount
        configured = programme.reward.lost_customer_value
        if configured is not None:
            return cls(configured, horizon, discount, True)
        settled = ~data.open
        stay = 1 - float(data.lost[settled].mean())
        if discount * stay == 1:
            raise DatasetError(
                "with learning.discount 1 and nobody lost, a customer's worth is endless; set "
                "reward.lost_customer_value, or a smaller discount"
            )
        return cls(max(0.0, float(data.reward[settled].mean())) / (1 - discount * stay), horizon, discount, False)

    def charge(self, data: Transitions) -> Floats:
        """The charge of each row, of shape (n,).

        A window's rewards after a loss are 0, so what the loss costs *inside* the window is counted already; the
        estimated value is charged for what lies beyond its end, discounted from there to the row's own step.
        """
        if self.configured:
            return np.full(len(data), self.value)
        beyond = self.horizon - data.epoch % self.horizon
        return self.value * np.power(self.discount, beyond.astype(np.float64))


class Critics:
    """Models of the candidate's and the incumbent's value, fitted on the learn split only."""

    COARSE = (0.1, 0.3, 0.6, 1.0)
    """Any critic leaves the estimate unbiased; one at a nearby λ is almost as precise, and these are soon fitted."""

    def __init__(
        self,
        programme: Programme,
        catalogue: Catalogue,
        served: ServedPolicy,
        learn: Side,
        loss: Loss,
    ) -> None:
        self.programme, self.catalogue, self.served, self.learn = programme, catalogue, served, learn
        self.loss = loss
        self.charge = loss.charge(learn.data)
        self.forest = forest_on_returns(
            learn.data,
            catalogue,
            horizon=programme.gate.horizon,
            discount=programme.learning.discount,
            trees=programme.learning.trees,
            min_samples_leaf=programme.learning.min_samples_leaf,
            grow_rows=programme.learning.grow_rows,
            terminal_charge=self.charge,
        )
        self.leaves = self.forest.leaves(learn.data.state, catalogue.features)

    def near(self, mixes: Sequence[float], side: Side) -> Near:
        """The critics of candidate and incumbent on a side's windows, at any λ."""
        fitted = tuple(mixes) if len(mixes) <= len(self.COARSE) else self.COARSE
        policies = [self.learn.candidate(self.served, mix) for mix in fitted]
        models = fit_fqe_of_several(
            self.learn.data,
            self.catalogue,
            [*policies, self.learn.incumbent],
            horizon=self.programme.gate.horizon,
            discount=self.programme.learning.discount,
            forest=self.forest,
            terminal_charge=self.charge,
            leaves=self.leaves,
        )
        values = values_by_step(models, side.data.state)
        return Near(self.served, side, fitted, values, side.critic(values[-1], side.incumbent))

    def tail_gain(self, mix: float, side: Side) -> float:
        """What the candidate is expected to earn more than the incumbent *after* a window, discounted to its start.

        The model's opinion of everything to come, less its opinion of the window itself as the gate charges it: where
        the charge for a lost customer stands for what lies beyond the window, it is not counted a second time.
        """
        rows = self.learn.data.whole_customers(TAIL_ROWS)
        data, horizon = self.learn.data.rows(rows), self.programme.gate.horizon
        policies = [self.learn.candidate(self.served, mix)[rows], self.learn.incumbent[rows]]

        def fitted(steps: int, charge: Floats | None) -> list[StepwiseQ]:
            return fit_fqe_of_several(
                data,
                self.catalogue,
                policies,
                horizon=steps,
                discount=self.programme.learning.discount,
                forest=self.forest,
                terminal_charge=charge,
                leaves=self.leaves[:, :, rows],
            )

        charge = self.charge[rows]
        everything = fitted(_steps_ahead(self.programme), charge if self.loss.configured else None)
        window = everything if self.loss.configured else fitted(horizon, charge)
        last = [_with_to_go(model, model.horizon) for model in everything]
        near = [_with_to_go(model, horizon) for model in window]
        start = side.windows.rows[:: max(1, len(side.windows) // TAIL_WINDOWS), 0]
        probabilities = side.candidate(self.served, mix)[start], side.incumbent[start]
        values = values_by_step([*last, *near], side.data.state[start])[:, 0]
        gains = [
            float((probabilities[0] * mine - probabilities[1] * theirs).sum(axis=1).mean())
            for mine, theirs in (values[:2], values[2:])
        ]
        return gains[0] - gains[1]


def _steps_ahead(programme: Programme) -> int:
    """Decisions that are foreseen, at least one window."""
    discount = programme.learning.discount
    steps = FARTHEST if discount == 1 else 1 if discount == 0 else math.ceil(math.log(FORESEEN) / math.log(discount))
    return max(programme.gate.horizon, min(steps, FARTHEST))


def _with_to_go(model: StepwiseQ, steps: int) -> StepwiseQ:
    """One level of a model."""
    return StepwiseQ(model.forest, model.leaf_values[steps - 1 : steps], model.catalogue)


@dataclass(frozen=True)
class Near:
    """A function from λ to the critics of candidate and incumbent.

    Attributes
    ----------
    fitted : tuple of float
        The λ whose policies were evaluated.
    values : array of shape (fitted + 1, horizon, n, n_actions)
        Their modelled action values by steps to go; the incumbent's come last.
    """

    served: ServedPolicy
    side: Side
    fitted: tuple[float, ...]
    values: FloatArray
    incumbent: Critic

    def __call__(self, mix: float) -> tuple[Critic, Critic]:
        return self.side.critic(self.values_at(mix), self.side.candidate(self.served, mix)), self.incumbent

    def values_at(self, mix: float) -> FloatArray:
        """Modelled action values of the candidate at the nearest λ, of shape (horizon, n, n_actions)."""
        nearest = min(range(len(self.fitted)), key=lambda i: abs(self.fitted[i] - mix))
        return np.asarray(self.values[nearest])
