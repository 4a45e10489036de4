"""Policies: the layers between a learned Q-function and the list, each from probabilities to probabilities.

Because every layer maps exact probabilities to exact probabilities, the propensity of each published decision is known,
and what the gate judges is what is published:

    rules ▸ support ▸ greedy ▸ mix with the incumbent ▸ exploration

When a list is made, new actions get their carve-out behind these; the gate compares policies without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nba_tasks.dataset import BoolArray, FloatArray

Floats = NDArray[np.float64]


class PolicyError(ValueError):
    """Probabilities that no policy can have; the message says in which row and why."""


class Policy(Protocol):
    """Chooses actions at random with known probabilities."""

    def probabilities(self, state: FloatArray, eligible: BoolArray) -> Floats:
        """Probabilities of shape (n, n_actions) for states (n, n_features), 0 where not `eligible` (n, n_actions)."""
        ...


class QFunction(Protocol):
    """Expected discounted return of each action."""

    def values(self, state: FloatArray) -> FloatArray:
        """Values of shape (n, n_actions) for states (n, n_features)."""
        ...


def apply_rules(probabilities: FloatArray, eligible: BoolArray) -> Floats:
    """Rules: only eligible actions, renormalised; uniform over them where the policy chose none of them.

    Raises
    ------
    PolicyError
        A row has no eligible action, or probabilities are negative or not finite.
    """
    require_eligible(eligible)
    if not (np.isfinite(probabilities).all() and (probabilities >= 0).all()):
        raise PolicyError("probabilities must be finite and not negative")
    masked = np.where(eligible, probabilities, 0.0).astype(np.float64)
    total = masked.sum(axis=1, keepdims=True)
    allowed = np.where(total > 0, masked, eligible)
    return np.asarray(allowed / allowed.sum(axis=1, keepdims=True), dtype=np.float64)


def supported(behaviour: FloatArray, eligible: BoolArray, share: float) -> BoolArray:
    """Support: eligible actions with at least `share` of the likeliest eligible action's propensity.

    Discrete BCQ's filter (Fujimoto et al. 2019, arXiv 1910.01708).

    Parameters
    ----------
    behaviour : array of shape (n, n_actions)
        What the log would have done.
    eligible : bool array of shape (n, n_actions)
    share : float
        τ in [0, 1]; 0 allows whatever has any propensity.

    Raises
    ------
    PolicyError
        A row has no eligible action, or none that the log ever takes.
    """
    require_eligible(eligible)
    possible = np.where(eligible, behaviour, 0.0)
    likeliest = possible.max(axis=1, keepdims=True)
    if not (likeliest > 0).all():
        row = int(np.flatnonzero(~(likeliest[:, 0] > 0))[0])
        raise PolicyError(f"row {row}: the behaviour policy gives no eligible action a chance; nothing can be learned")
    return np.asarray((possible > 0) & (possible >= share * likeliest))


def greedy(q: FloatArray, allowed: BoolArray) -> Floats:
    """All probability on the best allowed action of each row; of equals, the one with the lowest index."""
    require_eligible(allowed)
    if not np.isfinite(q[allowed]).all():
        raise PolicyError("the value of an allowed action is not finite")
    best = np.where(allowed, q, -np.inf).argmax(axis=1)
    chosen = np.zeros(q.shape)
    chosen[np.arange(len(q)), best] = 1.0
    return chosen


def deviate_where_it_pays(incumbent: FloatArray, new: FloatArray, q: FloatArray, min_advantage: float) -> Floats:
    """Keep the incumbent's probabilities where the new policy's estimated advantage is not above `min_advantage`.

    In the spirit of SPIBB (Laroche et al. 2019, arXiv 1712.06924): where the advantage is within the noise of its
    estimate, deviating earns nothing and costs effective sample size. The advantage of a row is Σ_a (new − incumbent)
    q, in reward units.
    """
    advantage = ((new - incumbent) * q).sum(axis=1, keepdims=True)
    return np.where(advantage > min_advantage, new, incumbent).astype(np.float64)


def mix(incumbent: FloatArray, new: FloatArray, share: float) -> Floats:
    """(1 − λ) incumbent + λ new: a step from the incumbent that stays evaluable from its log."""
    _require_share(share, "the mix")
    return np.asarray((1.0 - share) * incumbent + share * new, dtype=np.float64)


def explore(probabilities: FloatArray, allowed: BoolArray, epsilon: float) -> Floats:
    """(1 − ε) of the policy, ε uniform over allowed (eligible and supported) actions."""
    _require_share(epsilon, "epsilon")
    require_eligible(allowed)
    uniform = allowed / allowed.sum(axis=1, keepdims=True)
    return np.asarray((1.0 - epsilon) * probabilities + epsilon * uniform, dtype=np.float64)


MOST_CARVED_OUT = 0.2
"""However many actions are new: no customer gets one of them with a higher probability than this."""


def carve_out(probabilities: FloatArray, new: BoolArray, share: float) -> Floats:
    """Each new action gets `share` of the decisions where it is allowed; all other probabilities shrink alike.

    What no log supports can be neither learned nor judged. The share does not depend on the policy: between two of
    them it makes no difference, and the gate leaves it out.

    Parameters
    ----------
    probabilities, new : arrays of shape (n, n_actions)
        What the layers before give, and the new actions that are allowed.
    share : float
    """
    _require_share(share, "the carve-out")
    count = new.sum(axis=1, keepdims=True)
    each = np.minimum(share, MOST_CARVED_OUT / np.maximum(count, 1))
    return np.asarray((1.0 - each * count) * probabilities + each * new, dtype=np.float64)


def require_eligible(allowed: BoolArray) -> None:
    """Refuse rows that leave nothing to choose.

    Raises
    ------
    PolicyError
        Names the first such row and how many there are.
    """
    empty = ~allowed.any(axis=1)
    if empty.any():
        first = int(np.flatnonzero(empty)[0])
        raise PolicyError(
            f"{int(empty.sum())} row(s), the first is row {first}, have no eligible action; keep no_action in the "
            "catalogue or loosen a rule"
        )


@dataclass(frozen=True)
class ServedPolicy:
    """What is published: a greedy policy on a Q-function behind all its layers.

    Attributes
    ----------
    incumbent : Policy
        What it is mixed with, and what the gate compares it to.
    q : QFunction
    behaviour : Policy
        Model of what the log would have done: decides where there is support.
    support : float
        τ, the least share of the likeliest action's propensity.
    mix : float
        λ, the new policy's share.
    epsilon : float
        Share of decisions explored at random.
    min_advantage : float, optional
        Deviate from the incumbent only above this advantage, in reward units; None: wherever the greedy action differs.
    """

    incumbent: Policy
    q: QFunction
    behaviour: Policy
    support: float
    mix: float
    epsilon: float
    min_advantage: float | None = None

    def probabilities(self, state: FloatArray, eligible: BoolArray) -> Floats:
        """Exact probabilities of shape (n, n_actions) with which each action is published.

        Raises
        ------
        PolicyError
            A row has no eligible action, or none with support.
        """
        return self.given(self.q.values(state), state, eligible)

    def given(self, q: FloatArray, state: FloatArray, eligible: BoolArray) -> Floats:
        """The same, with the Q-function's values of the states computed before."""
        require_eligible(eligible)
        return self.serve(
            q=q,
            behaviour=self.behaviour.probabilities(state, eligible),
            incumbent=self.incumbent.probabilities(state, eligible),
            eligible=eligible,
        )

    def serve(self, q: FloatArray, behaviour: FloatArray, incumbent: FloatArray, eligible: BoolArray) -> Floats:
        """The same from arrays of shape (n, n_actions) computed before."""
        return self.mixtures(q, behaviour, incumbent, eligible)(self.mix)

    def mixtures(
        self, q: FloatArray, behaviour: FloatArray, incumbent: FloatArray, eligible: BoolArray
    ) -> Callable[[float], Floats]:
        """A function from λ to the published probabilities: what does not depend on λ is computed once."""
        allowed = supported(behaviour, eligible, self.support)
        kept = apply_rules(incumbent, eligible)
        new = greedy(q, allowed)
        if self.min_advantage is not None:
            new = deviate_where_it_pays(kept, new, q, self.min_advantage)
        return lambda share: explore(mix(kept, new, share), allowed, self.epsilon)

    def with_mix(self, share: float) -> ServedPolicy:
        """The same policy with another λ."""
        _require_share(share, "the mix")
        return replace(self, mix=share)


def _require_share(share: float, name: str) -> None:
    if not 0.0 <= share <= 1.0:
        raise PolicyError(f"{name} must be a share between 0 and 1, not {share}")
