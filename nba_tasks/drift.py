r"""Drift: has what the policy sees, or what it does, moved away from what it was judged on.

The population stability index of two histograms p (then) and q (now) is their symmetrised relative entropy,

.. math:: PSI = \sum_b (q_b - p_b) \ln(q_b / p_b).

By custom .1 is worth a look and .25 an alarm. With few customers chance alone goes beyond: if nothing moved,
:math:`PSI \cdot nm/(n+m)` is asymptotically chi-squared with B − 1 degrees of freedom [1]_, which `PSI.moved` asks for
as well.

References
----------
.. [1] Yurdakul, Naranjo (2020), Statistical properties of the population stability index, Journal of Risk Model
   Validation 14.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from nba_tasks.dataset import FloatArray
from nba_tasks.policy import Floats

BINS = 10
WORTH_A_LOOK = 0.10
ALARM = 0.25


@dataclass(frozen=True)
class PSI:
    """One comparison.

    Attributes
    ----------
    value : float
    by_chance : float
        What it exceeds with a probability of one in a thousand though nothing moved.
    """

    value: float
    by_chance: float

    @property
    def moved(self) -> bool:
        """Worth a look, and more than chance."""
        return self.value > max(WORTH_A_LOOK, self.by_chance)

    @property
    def alarming(self) -> bool:
        return self.value > max(ALARM, self.by_chance)


def psi_of_counts(then: FloatArray | NDArray[np.integer], now: FloatArray | NDArray[np.integer]) -> PSI:
    """PSI of two histograms over the same bins, of shape (n_bins,); bins empty in both are left out.

    Half a count is added to each bin, so that one that is empty on one side stays finite.
    """
    p, q = np.asarray(then, np.float64), np.asarray(now, np.float64)
    used = (p > 0) | (q > 0)
    n, m, bins = p.sum(), q.sum(), int(used.sum())
    if bins < 2 or not n or not m:
        return PSI(0.0, float("inf") if not n or not m else 0.0)
    p, q = p[used] + 0.5, q[used] + 0.5
    p, q = p / p.sum(), q / q.sum()
    by_chance = float(chdtri(bins - 1, 0.001)) * (1 / n + 1 / m)
    return PSI(float(((q - p) * np.log(q / p)).sum()), by_chance)


def psi(then: FloatArray, now: FloatArray, bins: int = BINS) -> PSI:
    """PSI of one feature.

    Values that are few (categories, small counts) are their own bins, others are cut at quantiles of `then`.

    Parameters
    ----------
    then, now : arrays of shape (n,) and (m,)
        The feature's values at training, and lately.
    """
    distinct: Floats = np.unique(np.asarray(then, dtype=np.float64))
    if len(distinct) <= bins:
        edges: Floats = (distinct[1:] + distinct[:-1]) / 2
        # What was never seen then lies in a bin of its own, on either side.
        edges = np.concatenate([distinct[:1] - 0.5, edges, distinct[-1:] + 0.5]) if len(distinct) else edges
    else:
        edges = np.unique(np.quantile(then, np.arange(1, bins) / bins))
    counts = [np.bincount(np.searchsorted(edges, part, side="right"), minlength=len(edges) + 1) for part in (then, now)]
    return psi_of_counts(counts[0], counts[1])
