"""Arms: are the comparison groups the size they should be, what did each earn, and was the gate's promise kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp, stdtrit

from nba_tasks.bounds import Clusters, Estimate
from nba_tasks.dataset import IntArray
from nba_tasks.policy import Floats

HOLDOUT, BUSINESS_AS_USUAL, SERVED, PREVIOUS = "h", "b", "s", "p"
"""Never contacted, decided for by version 0, decided for by the policy in use; the history knows these three. While a
new policy is rolled out, the served customers whom it has not reached yet are decided for by the policy before."""

NAMES = {
    HOLDOUT: "holdout",
    BUSINESS_AS_USUAL: "business as usual",
    SERVED: "served policy",
    PREVIOUS: "previous policy",
}

CONCENTRATION = 100.0
"""How near its stated shares a broken assignment is expected to lie: about 5 points off are found soonest."""


@dataclass(frozen=True)
class SampleRatio:
    """Whether customers were dealt to the arms as stated.

    Attributes
    ----------
    counts, shares : mapping of arm to its customers and its stated share
    evidence : float
        Against the stated shares. Over any number of looks it exceeds 1/α with a probability of at most α.
    """

    counts: Mapping[str, int]
    shares: Mapping[str, float]
    evidence: float

    def broken(self, alpha: float) -> bool:
        return self.evidence > 1 / alpha


def sample_ratio(counts: Mapping[str, int], shares: Mapping[str, float]) -> SampleRatio:
    r"""Test the arms' sizes, anytime-valid: it may be repeated every night.

    The Bayes factor of a Dirichlet(κθ) mixture of multinomials against the stated shares θ,

    .. math:: \frac{\Gamma(\kappa)}{\Gamma(\kappa + n)} \prod_i
              \frac{\Gamma(\kappa\theta_i + n_i)}{\Gamma(\kappa\theta_i) \, \theta_i^{n_i}},

    is a martingale under the stated shares (Lindon, Malek 2022, Anytime-valid inference for multinomial count data).

    Parameters
    ----------
    counts : mapping of arm to customers
        Each customer once, however often decided for.
    shares : mapping of arm to share
        Sum to 1; an arm with share 0 must be empty.

    Raises
    ------
    ValueError
        The shares do not sum to 1, or the arms differ.
    """
    if counts.keys() != shares.keys() or abs(sum(shares.values()) - 1) > 1e-9:
        raise ValueError(f"shares {dict(shares)} must name the arms {sorted(counts)} and sum to 1")
    if any(counts[arm] and not share for arm, share in shares.items()):
        return SampleRatio(counts, shares, math.inf)
    stated = np.array([shares[arm] for arm in shares if shares[arm]])
    seen = np.array([counts[arm] for arm in shares if shares[arm]], dtype=np.float64)
    prior, total = CONCENTRATION * stated, seen.sum()
    log = float(
        gammaln(CONCENTRATION)
        - gammaln(CONCENTRATION + total)
        + (gammaln(prior + seen) - gammaln(prior) - seen * np.log(stated)).sum()
    )
    return SampleRatio(counts, shares, math.exp(min(log, 700.0)))


RATIOS = np.geomspace(1.0, 8.0, 33)[1:]
"""By how much a rate may exceed what is tolerated: an alternative each, equally likely."""


def excess_evidence(events: IntArray, decisions: IntArray, tolerated: float) -> float:
    r"""Evidence that one arm's rate of an event exceeds `tolerated` times the other's; looked at as often as one likes.

    An event of night t comes to the first arm with probability :math:`p_t(r) = r n_{t1} / (r n_{t1} + n_{t2})`, r being
    the ratio of the rates and n the decisions. The evidence is the likelihood ratio of larger r against `tolerated`,
    averaged over `RATIOS`: no smaller r gives it a larger mean than 1, so that over any number of looks it exceeds 1/α
    with a probability of at most α (Ville's inequality), whatever the arms' sizes were from night to night.

    Parameters
    ----------
    events, decisions : int arrays of shape (n_nights, 2)
        Of the arm in question, and of the other one.
    tolerated : float
        At least 1.
    """
    both = (decisions > 0).all(axis=1)
    mine, other = (decisions[both, side].astype(np.float64)[:, None] for side in (0, 1))
    ratio = np.concatenate([[1.0], RATIOS]) * tolerated
    chance = ratio * mine / (ratio * mine + other)
    log = (events[both, :1] * np.log(chance) + events[both, 1:] * np.log1p(-chance)).sum(axis=0)
    return float(np.exp(min(logsumexp(log[1:] - log[0]) - math.log(len(RATIOS)), 700.0)))


@dataclass(frozen=True)
class Realised:
    """What one arm earned per window (or decision), customers being the unit."""

    arm: str
    windows: int
    estimate: Estimate


def realised(value: Floats, customer: IntArray, arm: NDArray[np.str_]) -> dict[str, Realised]:
    """The mean of each arm.

    Parameters
    ----------
    value : array of shape (n_windows,)
        Return, or any outcome, of each window.
    customer : int array of shape (n_windows,)
    arm : array of str, shape (n_windows,)
        Of the window's customer.
    """
    found = {}
    for name in np.unique(arm):
        rows = arm == name
        estimate = Clusters(customer[rows]).mean(value[rows])
        found[str(name)] = Realised(str(name), int(rows.sum()), estimate)
    return found


def lift(one: Realised, other: Realised) -> Estimate:
    """The difference of two arms' means. Arms share no customer, so that their errors are independent.

    The degrees of freedom are Welch's; `n_customers` of the result is one more than they are.
    """
    first, second = one.estimate, other.estimate
    a, b = first.standard_error**2, second.standard_error**2
    value = first.value - second.value
    if min(first.n_customers, second.n_customers) < 2 or not math.isfinite(a + b):
        return Estimate(value, math.inf, 0)
    spread = a**2 / (first.n_customers - 1) + b**2 / (second.n_customers - 1)
    freedom = (a + b) ** 2 / spread if spread > 0 else first.n_customers + second.n_customers - 2
    return Estimate(value, math.sqrt(a + b), int(freedom) + 1)


Kept = Literal["kept", "open", "broken"]


def promise_kept(found: Estimate, promised: tuple[float, float], alpha: float) -> Kept:
    """Whether what came true agrees with what the gate promised.

    Parameters
    ----------
    found : Estimate
        What the same figure was in the time after.
    promised : (lower, upper)
        The gate's interval.
    alpha : float
        One-sided error of either answer but "open".

    Returns
    -------
    {"kept", "open", "broken"}
        kept: surely above the promise's lower end; broken: surely below it; open: neither is sure yet.
    """
    lower = promised[0]
    if found.lower(alpha) > lower:
        return "kept"
    return "broken" if found.upper(alpha) < lower else "open"


def detectable(standard_deviation: float, customers: tuple[int, int], alpha: float, power: float) -> float:
    """The smallest true difference between two arms that a one-sided t test finds with probability `power`.

    Parameters
    ----------
    standard_deviation : float
        Of one customer's mean value.
    customers : pair of int
        Of the two arms.
    """
    if min(customers) < 2:
        return math.inf
    error = standard_deviation * math.sqrt(1 / customers[0] + 1 / customers[1])
    freedom = sum(customers) - 2
    return float(stdtrit(freedom, 1 - alpha) + stdtrit(freedom, power)) * error
