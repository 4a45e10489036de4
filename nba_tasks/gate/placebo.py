r"""Rule 3, where no decision was logged: what happened in an epoch *before* its contact is not the contact's work.

An epoch's reward counts from its start, so that a contact triggered by behaviour inside the epoch takes credit for what
triggered it. Tested is whether the reward earned, and the events made, between the epoch's start and its contact are
independent of the action given the state. Epochs without contact are looked at up to the moment of a contact drawn from
another epoch that began on the same day. What happened before the epoch's start is not tested: a policy that reacts to
last week's purchases does no harm, as long as the state knows of them.

With :math:`e_a = 1\{a\} - \hat\pi_b(a|s)` and f what happened less its expectation given state and moment, both learned
from other customers, the products :math:`e_a f` average 0 if nothing triggers contacts. Either model may be poor: the
error is the product of theirs (the generalised covariance measure). Residuals are centred within epochs of one start
and one day of the moment, which takes out seasons, weekdays and campaigns exactly. Customers are the clusters; rare
actions get the variance that is known under the null hypothesis where it is larger.

References
----------
Shah, Peters (2020), The hardness of conditional independence testing and the generalised covariance measure, Annals of
Statistics 48, 1514–1538; Lipsitch, Tchetgen Tchetgen, Cohen (2010), Negative controls, Epidemiology 21, 383–388.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from nba_tasks.bounds import Clusters
from nba_tasks.dataset import FloatArray, IntArray
from nba_tasks.gate.sample import GateError, Sample

Floats = NDArray[np.float64]

MEASURES = ("reward", "events")

MIN_CONTACTS = 50.0
"""A measure is compared for an action only if so many of its epochs are expected to hold something before the moment:
below, a normal bound is not to be trusted."""


@dataclass(frozen=True)
class BeforeContact:
    """What happened in each epoch before its first contact.

    Attributes
    ----------
    starts_on : int array of shape (n,)
        Number of the day on which the epoch starts.
    moment : float array of shape (n,)
        Of the first contact, in days after the epoch's start; where there was none, of a contact drawn from another
        epoch with the same start. NaN where a decision was logged, in open rows, and where no epoch with that start has
        a contact.
    happened : float array of shape (n, 2)
        Weighted events, and the number of all events, from the epoch's start to the moment.
    """

    starts_on: IntArray
    moment: Floats
    happened: Floats

    @property
    def known(self) -> NDArray[np.bool_]:
        """bool array of shape (n,): rows that can be compared."""
        return np.isfinite(self.moment)


@dataclass(frozen=True)
class PlaceboTest:
    """One action and measure.

    Attributes
    ----------
    action : int
    measure : {"reward", "events"}
    difference : float
        Of the mean per epoch between those with the action and comparable ones without.
    p_value : float
        Two-sided, by itself.
    """

    action: int
    measure: str
    difference: float
    p_value: float


@dataclass(frozen=True)
class Placebo:
    """Rule 3's figures.

    Attributes
    ----------
    p_value : float
        The smallest over all tests, times their number (Bonferroni); 1 where none could be made.
    several_contacts_share : float
        Share of epochs with more than one contact; NaN where contacts were not counted.
    tests : tuple of PlaceboTest
    epochs : int
        Undecided epochs that were compared.
    """

    p_value: float
    several_contacts_share: float
    tests: tuple[PlaceboTest, ...] = ()
    epochs: int = 0


def placebo(sample: Sample, before: BeforeContact, expected: FloatArray, contacts: FloatArray | None) -> Placebo:
    """Compare what happened before contacts with what happened at the same time where another action was taken.

    Parameters
    ----------
    sample : Sample
        Its epochs without a logged decision are compared.
    before : BeforeContact
        For the rows of the sample's transitions.
    expected : array of shape (n, 2)
        What `before.happened` averages given state and moment, by a model of other customers.
    contacts : array of shape (n,), optional
        Contacts made in each epoch.

    Raises
    ------
    GateError
        An array has not one entry per row.
    """
    n = len(sample.action)
    if before.happened.shape != (n, 2) or expected.shape != (n, 2) or len(before.moment) != n:
        raise GateError(f"the placebo's arrays must have an entry for each of the {n} rows")
    undecided = ~sample.logged[sample.rows]
    several = math.nan
    if contacts is not None and undecided.any():
        several = float((contacts[sample.rows[undecided]] > 1).mean())
    compared = undecided & before.known[sample.rows]
    tests = tuple(_tests(sample, before, expected, compared)) if compared.any() else ()
    smallest = min((test.p_value for test in tests), default=1.0)
    return Placebo(min(1.0, smallest * max(1, len(tests))), several, tests, int(compared.sum()))


def _tests(
    sample: Sample, before: BeforeContact, expected: FloatArray, compared: NDArray[np.bool_]
) -> Iterator[PlaceboTest]:
    rows, clusters = sample.rows[compared], Clusters(sample.decided_by[compared])
    strata = _Strata(np.stack([before.starts_on[rows], np.floor(before.moment[rows])], axis=1))
    happened = before.happened[rows]
    surprise = [strata.centred(happened[:, m] - expected[rows, m]) for m in range(len(MEASURES))]
    action, behaviour = sample.action[rows], sample.behaviour[rows]
    # The first action, no contact, is what the others leave.
    for a in range(1, behaviour.shape[1]):
        chance = behaviour[:, a]
        taken = strata.centred((action == a) - chance)
        spread = chance * (1 - chance)
        for m, measure in enumerate(MEASURES):
            if chance[happened[:, m] != 0].sum() < MIN_CONTACTS:
                continue
            estimate = clusters.mean(taken * surprise[m])
            known = math.sqrt(float(spread @ surprise[m] ** 2)) / len(rows)
            error = max(estimate.standard_error, known)
            p_value = float(2 * ndtr(-abs(estimate.value) / error)) if error > 0 else 1.0
            yield PlaceboTest(a, measure, estimate.value / max(float(spread.mean()), 1e-12), p_value)


class _Strata:
    """Groups of equal keys (n, n_keys)."""

    def __init__(self, keys: Floats) -> None:
        self.codes = np.unique(keys, axis=0, return_inverse=True)[1].ravel()
        self.sizes = np.bincount(self.codes)

    def centred(self, values: Floats) -> Floats:
        """Values less the mean of their group."""
        return np.asarray(values - (np.bincount(self.codes, weights=values) / self.sizes)[self.codes])
