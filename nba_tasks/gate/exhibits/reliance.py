"""How far the figures can be relied on: few heavy windows, and a behaviour model that is off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from nba_tasks.dataset import BoolArray, FloatArray, IntArray
from nba_tasks.learners.behaviour import reliability

Floats = NDArray[np.float64]

TAIL_POINTS = 20


@dataclass(frozen=True)
class TailPoint:
    """The heaviest `windows` (a share of all) carry `weight` (a share of the total weight)."""

    windows: float
    weight: float


@dataclass(frozen=True)
class CalibrationBin:
    """Decisions in which one action had about the same modelled probability, and how often it was taken.

    `lower` and `upper` bound the observed share (Wilson's interval).
    """

    predicted: float
    observed: float
    lower: float
    upper: float
    decisions: int


@dataclass(frozen=True)
class Calibration:
    """The behaviour model's probability of one action against what was logged.

    Attributes
    ----------
    action_id : str
    expected_calibration_error : float
        Σ_bins share of decisions · |predicted − observed|; NaN where the action was never a choice.
    decisions : int
        In which the action was a choice.
    bins : tuple of CalibrationBin
        Of about equal numbers of decisions; empty ones are left out.
    """

    action_id: str
    expected_calibration_error: float
    decisions: int
    bins: tuple[CalibrationBin, ...]


def weight_tail(weight: Floats) -> tuple[TailPoint, ...]:
    """How much of the weight the heaviest windows carry; `weight` (n_windows,) of whole windows."""
    n, total = len(weight), float(weight.sum())
    if total <= 0:
        return ()
    carried = np.cumsum(np.sort(weight)[::-1]) / total
    sizes = np.unique(np.geomspace(max(1, n // 10_000), n, TAIL_POINTS).round().astype(int))
    return tuple(TailPoint(float(size / n), min(float(carried[size - 1]), 1.0)) for size in sizes)


def calibration(
    probabilities: FloatArray, action: IntArray, eligible: BoolArray, action_ids: Sequence[str], alpha: float
) -> tuple[Calibration, ...]:
    """Compare the behaviour model with decisions of customers whom it never saw.

    Parameters
    ----------
    probabilities : array of shape (n, n_actions)
    action : int array of shape (n,)
        Logged actions; negative ones are left out.
    eligible : bool array of shape (n, n_actions)
    action_ids : sequence of str
    alpha : float
        Intervals hold with probability 1 − α, each by itself, for decisions that are independent given the state.
    """
    found = reliability(probabilities, action, eligible)
    table = []
    for a, action_id in enumerate(action_ids):
        filled = found.count[a] > 0
        count, predicted, observed = found.count[a][filled], found.predicted[a][filled], found.observed[a][filled]
        shares = (predicted, observed, *wilson_interval(observed, count, alpha))
        columns = zip(*(share.tolist() for share in shares), count.tolist(), strict=True)
        bins = tuple(CalibrationBin(*one) for one in columns)
        table.append(Calibration(action_id, float(found.error[a]), int(count.sum()), bins))
    return tuple(table)


def wilson_interval(share: Floats, count: IntArray, alpha: float) -> tuple[Floats, Floats]:
    """Two-sided (1 − α) interval of shares of `count` trials (Wilson 1927, JASA 22, 209–212); arrays of one shape."""
    squared = float(ndtri(1 - alpha / 2)) ** 2 / count
    centre = (share + squared / 2) / (1 + squared)
    reach = np.sqrt(squared * (share * (1 - share) + squared / 4)) / (1 + squared)
    return np.maximum(centre - reach, 0.0), np.minimum(centre + reach, 1.0)
