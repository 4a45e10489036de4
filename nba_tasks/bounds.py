r"""Bounds on means and rates when customers, not windows, are independent.

One of them decides, declared beforehand: the t bound for one look, the confidence sequence for repeated looks. The
bootstrap is reported beside it.

Both are corrected for skewness, because rewards are skewed and weights make them more so. With a rare large charge for
harm the plain t bound promoted a worthless candidate in 4–5% of simulated gates at a nominal 3%, and one of fifty in a
row in 8–13% at a nominal 5%; on rewards that are skewed the other way it gave precision away. First, the bound is that
of a sample with *one more customer like the worst* seen: rare losses are missing just where the estimate looks good.
(Gaffke's bound adds the worst that is possible.) Second, z standard errors become Hall's

.. math:: q(z) = \frac{3}{k} \Bigl(\sqrt[3]{1 + k (z - k/6)} - 1\Bigr), \qquad k = \text{skewness} / \sqrt{n}

which inverts his cubic transformation of the t statistic to normality; k → 0 gives z. Of the sample's skewness without
and with the customer added, the one that reaches further counts.

References
----------
P. Hall (1992), On the removal of skewness by transformation, Journal of the Royal Statistical Society B 54, 221–228;
E. Learned-Miller, P. Thomas (2019), A new confidence interval for the mean of a bounded random variable,
arXiv 1905.06208.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri, ndtr, ndtri, stdtrit

from nba_tasks.dataset import IntArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tails:
    """What bounds of a mean allow for beyond its standard error.

    Attributes
    ----------
    lowest, highest : float
        How far the customer's value that lies farthest below, or above, the mean is from it, in standard deviations.
    skewness : float
        Of customers' values.
    """

    lowest: float
    highest: float
    skewness: float


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error; bounds are asymptotic in the number of customers.

    Attributes
    ----------
    value : float
    standard_error : float
        Infinite with fewer than two customers.
    n_customers : int
    tails : Tails or None
        None: bounds are not corrected for skewness.
    """

    value: float
    standard_error: float
    n_customers: int
    tails: Tails | None = None

    def lower(self, alpha: float) -> float:
        """One-sided (1 − α) lower t bound, corrected for skewness."""
        return self.below(self._quantile(alpha))

    def upper(self, alpha: float) -> float:
        """One-sided (1 − α) upper t bound, corrected for skewness."""
        return self.above(self._quantile(alpha))

    def interval(self, alpha: float) -> tuple[float, float]:
        """Two-sided (1 − α) t interval, corrected for skewness."""
        return self.lower(alpha / 2), self.upper(alpha / 2)

    def below(self, z: float) -> float:
        """`z` standard errors below the mean, corrected for skewness."""
        if self.tails is None or not math.isfinite(z * self.standard_error):
            return self.value - z * self.standard_error
        return self.value - self._reach(z, self.tails.lowest, self.tails.skewness)

    def above(self, z: float) -> float:
        """`z` standard errors above the mean, corrected for skewness."""
        if self.tails is None or not math.isfinite(z * self.standard_error):
            return self.value + z * self.standard_error
        return self.value + self._reach(z, self.tails.highest, -self.tails.skewness)

    def grown(self, growth: float) -> Estimate:
        """What this would look like with `growth` times as many customers: the same values, less noise."""
        error = self.standard_error / math.sqrt(growth)
        return replace(self, standard_error=error, n_customers=round(self.n_customers * growth))

    def _quantile(self, alpha: float) -> float:
        if self.n_customers < 2:
            return math.inf
        return float(stdtrit(self.n_customers - 1, 1 - alpha))

    def _reach(self, z: float, worst: float, skewness: float) -> float:
        """See the module's text; `skewness` is negative where it points to the `worst`."""
        n = self.n_customers
        # Moments of the sample with one more customer, in its own standard deviations.
        shift = worst / (n + 1)
        square = (n + worst**2) / (n + 1)
        variance = square - shift**2
        third = (n * skewness - worst**3) / (n + 1) + 3 * shift * square - 2 * shift**3
        k = min(skewness, third / variance**1.5) / math.sqrt(n + 1)
        quantile = z if abs(k) < SYMMETRIC else 3 / k * (float(np.cbrt(1 + k * (z - k / 6))) - 1)
        deviation = self.standard_error * math.sqrt(n - 1)
        return deviation * (shift + quantile * math.sqrt(variance / n))


SYMMETRIC = 1e-6
"""Below this k the correction is nothing but rounding."""


class Clusters:
    """The customers behind windows.

    Parameters
    ----------
    customer : int array of shape (n_windows,)
        Any ids, in any order.
    """

    def __init__(self, customer: IntArray) -> None:
        self.n_windows = len(customer)
        if self.n_windows and (np.diff(customer) >= 0).all():
            # Windows usually come ordered by customer: no need to sort them again.
            starts = np.concatenate([[True], customer[1:] != customer[:-1]])
            self.codes: NDArray[np.int64] = np.cumsum(starts) - 1
        else:
            self.codes = np.unique(customer, return_inverse=True)[1].astype(np.int64)
        self.n = int(self.codes.max(initial=-1)) + 1

    @cached_property
    def sizes(self) -> Floats:
        """Windows per customer, of shape (n,)."""
        return self.sums(np.ones(self.n_windows))

    def sums(self, values: Floats) -> Floats:
        """Totals per customer, of shape (n,)."""
        return np.bincount(self.codes, weights=values, minlength=self.n).astype(np.float64)

    def mean(self, values: Floats) -> Estimate:
        """The mean per window with a standard error that respects customers.

        A mean per window is a ratio of two totals over customers, the sum of values and the number of windows; its
        variance is that of the linearised ratio, C/(C−1) Σ_c (S_c − n_c θ̂)² / (Σ n_c)².
        """
        if self.n_windows == 0:
            return Estimate(math.nan, math.inf, 0)
        centre = float(values.mean())
        if self.n < 2:
            return Estimate(centre, math.inf, self.n)
        # Centring before summing keeps a tiny spread around a large mean.
        residual = self.sums(values - centre)
        square = float(residual @ residual)
        error = math.sqrt(self.n / (self.n - 1) * square) / self.n_windows
        deviation = math.sqrt(square / self.n)
        if not (deviation > 0 and math.isfinite(deviation)):
            return Estimate(centre, error, self.n)
        scaled = residual / deviation
        tails = Tails(-float(scaled.min()), float(scaled.max()), float(((scaled**2) @ scaled) / self.n))
        return Estimate(centre, error, self.n, tails)


def clustered_mean(values: Floats, customer: IntArray) -> Estimate:
    """The mean of `values` (n_windows,) per window, with customers `customer` (n_windows,) as the clusters."""
    return Clusters(customer).mean(values)


def spent_alpha(alpha: float, k: int) -> float:
    """The share of α for the k-th candidate against one incumbent: 6α / (π²k²), which sums to α over all k ≥ 1."""
    if k < 1:
        raise ValueError(f"candidates are counted from 1, not {k}")
    return 6 * alpha / (math.pi**2 * k**2)


def sequence_reach(n: int, alpha: float, n_star: float) -> float:
    r"""Half-width of the one-sided asymptotic confidence sequence, in standard deviations of one customer's value.

    .. math:: \sqrt{\frac{2(n\rho^2+1)}{n^2\rho^2} \ln\Bigl(1 + \frac{\sqrt{n\rho^2+1}}{2\alpha}\Bigr)}, \qquad
              \rho^2 = \frac{-2\ln\alpha + \ln(1 - 2\ln\alpha)}{n^*}

    Mixing :math:`\exp(\lambda S_n - n\lambda^2/2)` over a half-normal λ > 0 with scale ρ gives the martingale
    :math:`2 (n\rho^2+1)^{-1/2} e^{x^2/2} \Phi(x)`, :math:`x = \rho S_n / \sqrt{n\rho^2+1}`. As
    :math:`\Phi(x) \ge 1 - e^{-x^2/2}/2` for x ≥ 0, it exceeds 1/α (probability ≤ α, Ville) no later than
    :math:`e^{x^2/2} = 1/2 + \sqrt{n\rho^2+1}/(2\alpha)`. The formula has 1 in place of 1/2: one-sided at level α for
    all n at once, and conservative by a hair.

    Parameters
    ----------
    n : int
        Independent customers so far, each with one window.
    alpha : float
        One-sided error over all looks together.
    n_star : float
        The number of customers at which the sequence should be tightest; fixed before the first look.

    References
    ----------
    Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas (2021), arXiv 2103.06476.
    """
    if n < 2:
        return math.inf
    rho2 = (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / n_star
    scale = n * rho2 + 1
    return math.sqrt(2 * scale / (n**2 * rho2) * math.log1p(math.sqrt(scale) / (2 * alpha)))


def sequence_bounds(estimate: Estimate, alpha: float, n_star: float) -> tuple[float, float]:
    """Lower and upper bounds, each valid at one-sided level α over all looks; see `sequence_reach`, and the module."""
    n = estimate.n_customers
    if n < 2:
        return -math.inf, math.inf
    z = sequence_reach(n, alpha, n_star) * math.sqrt(n)
    return estimate.below(z), estimate.above(z)


def gamma_upper(rate: Floats | float, variance: Floats | float, next_event: Floats | float, alpha: float) -> Floats:
    r"""One-sided (1 − α) upper gamma bound of weighted rates of rare events.

    .. math:: \frac{v + w^2}{2(y + w)} \chi^2_{1-\alpha}\Bigl(\frac{2(y + w)^2}{v + w^2}\Bigr)

    Parameters
    ----------
    rate : float or array
        y = Σ w u, weights times event counts.
    variance : float or array
        v; Σ w² u for independent Poisson counts.
    next_event : float or array
        w, the weight that one further event is given.
    alpha : float

    Returns
    -------
    array of the arguments' common shape
        Infinite where neither an event was seen nor a further one would have weight.

    References
    ----------
    Fay, Feuer (1997), Statistics in Medicine 16, 791–801. Their w is the largest weight, which never misses and is very
    wide where weights vary; Tiwari, Clegg, Zou (2006), Statistical Methods in Medical Research 15, 547–569, take the
    mean weight, which misses. See `nba_tasks.gate.harms` for what is used here.
    """
    rate, variance, next_event = np.broadcast_arrays(*np.atleast_1d(rate, variance, next_event))
    mean, spread = rate + next_event, variance + next_event**2
    usable = (mean > 0) & (spread > 0)
    scale = np.where(usable, spread, 1.0) / (2 * np.where(usable, mean, 1.0))
    bound = scale * chdtri(np.where(usable, mean, 1.0) / scale, alpha)
    return np.asarray(np.where(usable, bound, np.where(mean > 0, mean, np.inf)), dtype=np.float64)


def gamma_lower(rate: Floats | float, variance: Floats | float, alpha: float) -> Floats:
    """One-sided (1 − α) lower gamma bound of weighted rates; 0 where no event was seen."""
    rate, variance = np.broadcast_arrays(*np.atleast_1d(rate, variance))
    seen = (rate > 0) & (variance > 0)
    scale = np.where(seen, variance, 1.0) / (2 * np.where(seen, rate, 1.0))
    bound = scale * chdtri(np.where(seen, rate, 1.0) / scale, 1 - alpha)
    return np.asarray(np.where(seen, bound, np.maximum(rate, 0.0)), dtype=np.float64)


def bootstrap_interval(
    values: Floats, clusters: Clusters, alpha: float, replicates: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Two-sided (1 − α) BCa bootstrap interval of a mean per window, resampling customers.

    Parameters
    ----------
    values : array of shape (n_windows,)
    clusters : Clusters
    alpha : float
    replicates : int
    seed : int

    References
    ----------
    Efron (1987), Better bootstrap confidence intervals, JASA 82, 171–185.
    """
    n = clusters.n
    if n < 2:
        return -math.inf, math.inf
    totals, sizes = clusters.sums(values), clusters.sizes
    centre = totals.sum() / sizes.sum()
    rng = np.random.default_rng(seed)
    means = np.empty(replicates)
    # Blocks keep the index matrix below a few dozen megabytes however many customers there are.
    block = max(1, 4_000_000 // n)
    for first in range(0, replicates, block):
        drawn = rng.integers(0, n, size=(min(block, replicates - first), n), dtype=np.int32)
        means[first : first + block] = totals[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    if np.ptp(means) == 0:
        return float(centre), float(centre)
    jackknife = (totals.sum() - totals) / (sizes.sum() - sizes)
    spread = jackknife.mean() - jackknife
    squares = float((spread**2).sum())
    acceleration = float((spread**3).sum()) / (6 * squares**1.5) if squares > 0 else 0.0
    below = (np.count_nonzero(means < centre) + 0.5 * np.count_nonzero(means == centre)) / replicates
    bias = float(ndtri(np.clip(below, 0.5 / replicates, 1 - 0.5 / replicates)))
    shifted = bias + ndtri(np.array([alpha / 2, 1 - alpha / 2]))
    levels = ndtr(bias + shifted / (1 - acceleration * shifted))
    lower, upper = np.quantile(means, levels)
    return float(lower), float(upper)
