r"""A lower bound of a mean of non-negative values that assumes nothing about their tails, at all sample sizes at once.

A gambler stakes a share of what she has on each value being above m in the mean. Her wealth after n values,

.. math:: K_n(m) = \prod_{i \le n} \bigl(1 + \lambda_i (X_i - m)\bigr), \qquad 0 \le \lambda_i \le c / m < 1 / m,

is a non-negative martingale where m is the mean and :math:`\lambda_i` depends on earlier values only. It ever reaches
1/α with a probability of at most α (Ville), so every m at which it did is too small. Importance-weighted returns are
such values: not negative once rewards are shifted, of a known mean, and unbounded for all that anybody knows.

References
----------
Waudby-Smith, Ramdas (2024), Estimating means of bounded random variables by betting, JRSS B 86, arXiv 2010.09686;
Waudby-Smith, Wu, Ramdas, Karampatziakis, Mineiro (2022), Anytime-valid off-policy inference for contextual bandits,
arXiv 2210.11133.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

Floats = NDArray[np.float64]

CAP = 0.75
"""c: how near a bet may come to ruin."""


def stakes(values: Floats, alpha: float) -> Floats:
    r"""The bets :math:`\sqrt{2 \ln(1/\alpha) / (n \hat\sigma^2_{i-1})}`, before the cap.

    Parameters
    ----------
    values : array of shape (n,)
        Not negative; scaled so that 1/2 is a sensible first guess of mean and standard deviation. A poor guess costs
        precision, never validity.
    alpha : float

    Returns
    -------
    array of shape (n,)
        The i-th is a function of the values before it.
    """
    count = np.arange(1, len(values) + 1)
    mean = (0.5 + np.cumsum(values)) / (count + 1)
    variance = (0.25 + np.cumsum((values - mean) ** 2)) / (count + 1)
    before = np.concatenate([[0.25], variance[:-1]])
    return np.sqrt(2 * math.log(1 / alpha) / (len(values) * before))


def log_wealth(values: Floats, stake: Floats, mean: float) -> Floats:
    """The logarithm of the gambler's wealth after each value, for one supposed mean > 0; shape (n,)."""
    return np.cumsum(np.log1p(np.minimum(stake, CAP / mean) * (values - mean)))


def lower_mean(values: Floats, alpha: float) -> float:
    """The largest mean that was refuted by the last value or before: a lower bound, one-sided at level α.

    Parameters
    ----------
    values : array of shape (n,)
        Independent, of one mean, none negative, in an order that has nothing to do with them; scaled as for `stakes`.
    alpha : float

    Raises
    ------
    ValueError
        A value is negative or not finite.
    """
    if not (np.isfinite(values).all() and (values >= 0).all()):
        raise ValueError("betting needs values that are finite and not negative")
    stake, needed = stakes(values, alpha), math.log(1 / alpha)

    def refuted(mean: float) -> float:
        return float(log_wealth(values, stake, mean).max(initial=0.0)) - needed

    # Wealth falls as the supposed mean rises: at the largest value no bet can win.
    lowest, highest = 1e-12, float(values.max(initial=0.0))
    if highest <= lowest or refuted(lowest) < 0:
        return 0.0
    return float(brentq(refuted, lowest, highest, xtol=1e-9))
