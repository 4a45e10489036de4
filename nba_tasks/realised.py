"""What published decisions earned: each arm's windows beside the gate's promise, and whether the incumbent earned more.

Functions of arrays. A window is the gate's: `horizon` decisions in a row, cut by calendar; here all of them published
with the policy in use.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nba_tasks.arms import BUSINESS_AS_USUAL, NAMES, SERVED, Realised, lift, promise_kept, realised
from nba_tasks.bounds import Clusters, Estimate, spent_alpha
from nba_tasks.dataset import FloatArray, IntArray, Transitions
from nba_tasks.estimators import (
    charged,
    cumulative_weights,
    discounts,
    effective_size,
    logged_action_probability,
    on_windows,
    per_decision,
)
from nba_tasks.policy import Floats
from nba_tasks.windows import Windows, cut_windows


@dataclass(frozen=True)
class Promise:
    """What the gate said of the policy in use.

    Attributes
    ----------
    gate_id : int
    value, gain : (estimate, lower, upper)
        Of the candidate's windows, and of its gain over the incumbent.
    over_version_0 : bool
        The incumbent was business as usual, so that the arm of that name shows whether the gain came true.
    """

    gate_id: int
    value: tuple[float, float, float]
    gain: tuple[float, float, float]
    over_version_0: bool


@dataclass(frozen=True)
class Decided:
    """Published decisions that have settled.

    Attributes
    ----------
    data : Transitions
    arm : array of str, shape (n,)
    last_epoch : int array of shape (n,)
        See `loading.Loaded`.
    differs : bool array of shape (n,)
        The state known now is not the one that was decided on.
    charge : array of shape (n,)
        What losing the customer in that epoch costs.
    """

    data: Transitions
    arm: NDArray[np.str_]
    last_epoch: IntArray
    differs: NDArray[np.bool_]
    charge: Floats

    def windows(self, horizon: int) -> Windows:
        return cut_windows(self.data, horizon, self.last_epoch)


@dataclass(frozen=True)
class Earned:
    """What the arms' windows earned.

    Attributes
    ----------
    arms : mapping of arm to Realised
    harms : mapping of harm to mapping of arm to Realised
        Events a decision.
    """

    arms: Mapping[str, Realised]
    harms: Mapping[str, Mapping[str, Realised]]

    def over(self, arm: str) -> Estimate | None:
        """The served policy's gain over another arm; None where either has no window."""
        if SERVED not in self.arms or arm not in self.arms:
            return None
        return lift(self.arms[SERVED], self.arms[arm])


def earned(decided: Decided, horizon: int, discount: float, harms: tuple[str, ...]) -> Earned:
    """The mean return of a window, and the rate of each harm, for each arm."""
    data, windows = decided.data, decided.windows(horizon)
    arm = decided.arm[windows.rows[:, 0]] if len(windows) else np.zeros(0, dtype=str)
    reward = on_windows(charged(data.reward, data.lost, decided.charge), windows)
    rates = {
        harm: on_windows(data.outcomes[:, data.outcome_names.index(harm)], windows).sum(axis=1) / horizon
        for harm in harms
    }
    return Earned(
        arms=realised(reward @ discounts(horizon, discount), windows.customer, arm),
        harms={harm: realised(rate, windows.customer, arm) for harm, rate in rates.items()},
    )


def incumbents_gain(
    decided: Decided, incumbent: FloatArray, horizon: int, discount: float, min_effective_size: float
) -> Estimate | None:
    """What the policy before would have gained over the one in use, from the latter's own log.

    Parameters
    ----------
    incumbent : array of shape (n, n_actions)
        Its probabilities in each row.

    Returns
    -------
    Estimate or None
        Paired, per window; None where too few windows count for the policy before.
    """
    served = decided.arm == SERVED
    windows = decided.windows(horizon)
    windows = windows.take(served[windows.rows[:, 0]]) if len(windows) else windows
    rows = windows.rows[windows.alive]
    if not len(windows) or not (decided.data.propensity[rows] > 0).all():
        return None
    target = logged_action_probability(incumbent, decided.data.action, windows)
    weight = cumulative_weights(target, decided.data.propensity, windows)
    if effective_size(weight[:, -1]) < min_effective_size:
        return None
    reward = on_windows(charged(decided.data.reward, decided.data.lost, decided.charge), windows)
    # Weights average 1: taking a mean off each step takes noise away, nothing else.
    centred = np.where(windows.alive, reward - reward.mean(axis=0), 0.0)
    return Clusters(windows.customer).mean(per_decision(weight - 1, centred, discount))


def demotion(found: Earned, before: Estimate | None, look: int, alpha: float) -> str | None:
    """Why the policy in use should be taken out of it; None while nothing speaks for that.

    Parameters
    ----------
    found : Earned
    before : Estimate or None
        The incumbent's gain, see `incumbents_gain`.
    look : int
        The how-many-eth look this is, from 1. Looks are weekly and spend α like candidates do, so that over all of them
        a policy that is no worse is proposed with a probability of at most 2α.
    alpha : float
    """
    spent = spent_alpha(alpha, look)
    usual = found.over(BUSINESS_AS_USUAL)
    if usual is not None and usual.upper(spent) < 0:
        return (
            f"it earns {-usual.value:.2f} a window less than business as usual, surely {-usual.upper(spent):.2f} or "
            f"more (look {look}, α = {spent:.2%})"
        )
    if before is not None and before.lower(spent) > 0:
        return (
            f"the policy before would have earned {before.value:.2f} a window more on the same customers, surely "
            f"{before.lower(spent):.2f} or more (look {look}, α = {spent:.2%})"
        )
    return None


def arms_table(found: Earned, alpha: float) -> list[dict[str, Any]]:
    """Each arm in plain values, with two-sided (1 − α) intervals."""
    return [
        {
            "arm": NAMES.get(arm, arm),
            "windows": one.windows,
            "customers": one.estimate.n_customers,
            **interval(one.estimate, alpha),
            "harms": {harm: interval(rates[arm].estimate, alpha) for harm, rates in found.harms.items()},
        }
        for arm, one in found.arms.items()
    ]


def promise_table(found: Earned, promise: Promise | None, alpha: float) -> list[dict[str, Any]]:
    """The gate's figures beside what came true, and whether they were kept."""
    if promise is None:
        return []
    pairs = [("value of a window", promise.value, found.arms[SERVED].estimate if SERVED in found.arms else None)]
    if promise.over_version_0:
        pairs.append(("gain over business as usual", promise.gain, found.over(BUSINESS_AS_USUAL)))
    return [
        {
            "figure": name,
            "promised": dict(zip(("value", "lower", "upper"), promised, strict=True)),
            "found": interval(estimate, alpha),
            "kept": promise_kept(estimate, promised[1:], alpha),
        }
        for name, promised, estimate in pairs
        if estimate is not None and estimate.n_customers > 1
    ]


def actions_table(decided: Decided, ids: tuple[str, ...], alpha: float) -> list[dict[str, Any]]:
    """What was earned in the epochs of each action: observed, not caused by it."""
    data = decided.data
    rows = []
    for index, action in enumerate(ids):
        chosen = data.action == index
        if chosen.any():
            estimate = Clusters(data.customer[chosen]).mean(data.reward[chosen].astype(np.float64))
            rows.append({"action": action, "decisions": int(chosen.sum()), **interval(estimate, alpha)})
    return rows


def segments_table(
    decided: Decided, position: int, labels: tuple[str, ...], horizon: int, discount: float, alpha: float
) -> list[dict[str, Any]]:
    """The served policy's windows by a category of the customers, and its gain over business as usual there.

    Parameters
    ----------
    position : int
        Of the feature in the state.
    labels : tuple of str
    """
    data, windows = decided.data, decided.windows(horizon)
    if not len(windows):
        return []
    first = windows.rows[:, 0]
    value = on_windows(charged(data.reward, data.lost, decided.charge), windows) @ discounts(horizon, discount)
    rows = []
    for code, label in enumerate(labels):
        members = data.state[first, position] == code
        arms = realised(value[members], windows.customer[members], decided.arm[first[members]])
        if SERVED in arms:
            usual = lift(arms[SERVED], arms[BUSINESS_AS_USUAL]) if BUSINESS_AS_USUAL in arms else None
            rows.append(
                {
                    "label": label,
                    "windows": arms[SERVED].windows,
                    **interval(arms[SERVED].estimate, alpha),
                    "over_usual": interval(usual, alpha) if usual else None,
                }
            )
    return rows


def interval(estimate: Estimate, alpha: float) -> dict[str, float | None]:
    """An estimate in plain values; what is not finite is null."""
    low, high = estimate.interval(alpha) if estimate.n_customers > 1 else (math.nan, math.nan)
    figures = {"value": estimate.value, "lower": low, "upper": high}
    return {name: figure if math.isfinite(figure) else None for name, figure in figures.items()}
