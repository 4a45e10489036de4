from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog

from nba_tasks import capacity
from nba_tasks.capacity import Limit, Prices, solve_prices
from nba_tasks.dataset import BoolArray
from nba_tasks.policy import PolicyError

Floats = NDArray[np.float64]

COST = np.array([0.0, 0.02, 0.6, 0.5, 2.0])
"""no_action, e-mail, letter, card, call."""


def night(seed: int, n: int, *, mixed: bool, ties: bool = False) -> tuple[Floats, Floats, BoolArray]:
    """Probabilities, values and eligibility: the greedy choice alone, or mixed half with anything that is allowed."""
    random = np.random.default_rng(seed)
    value = random.gamma(1, 1, (n, 5)) * np.array([0, 0.1, 0.5, 0.5, 2.0]) - COST + random.normal(0, 0.3, (n, 1))
    value = np.round(value, 1) if ties else value
    eligible = random.random((n, 5)) < 0.7
    eligible[:, 0] = True
    chosen = np.zeros((n, 5))
    chosen[np.arange(n), np.where(eligible, value, -np.inf).argmax(axis=1)] = 1
    if mixed:
        anything = eligible * random.random((n, 5))
        chosen = 0.5 * chosen + 0.5 * anything / anything.sum(axis=1, keepdims=True)
    return chosen, value, eligible


def three_limits(probabilities: Floats, tightness: float = 0.5) -> list[Limit]:
    """Calls, letters and cards together, and a budget: each below what is wished."""
    wished = probabilities.sum(axis=0)
    return [
        Limit("call", (0, 0, 0, 0, 1), float(int(tightness * wished[4]))),
        Limit("channel mail", (0, 0, 1, 1, 0), float(int(1.2 * tightness * wished[2:4].sum()))),
        Limit("budget", tuple(COST), 0.9 * tightness * float(COST @ wished)),
    ]


def used(limits: list[Limit], probabilities: Floats) -> Floats:
    return np.asarray(np.array([limit.use for limit in limits]) @ probabilities.sum(axis=0))


def transport(
    probabilities: Floats,
    value: Floats,
    eligible: BoolArray,
    limits: list[Limit] | None = None,
    by_row: Floats | None = None,
) -> float:
    """The least loss of moving probabilities, by HiGHS: within limits, or to what is given row by row.

    The linear programme of the module's docstring.
    """
    i, a, b = np.nonzero((probabilities > 0)[:, :, None] & eligible[:, None, :])
    columns = np.arange(len(i))

    def sums(groups: NDArray[np.intp]) -> Any:
        return sparse.csr_matrix((np.ones(len(columns)), (groups, columns)), shape=(probabilities.size, len(columns)))

    equal, right = [sums(i * 5 + a)], [probabilities.ravel()]
    if by_row is not None:
        equal, right = [*equal, sums(i * 5 + b)], [*right, by_row.ravel()]
    together: Any = sparse.vstack(equal)
    within = np.array([limit.use for limit in limits or ()])
    found = linprog(
        np.maximum(value[i, a] - value[i, b], 0),
        A_ub=within[:, b] if limits else None,
        b_ub=np.array([limit.at_most for limit in limits]) if limits else None,
        A_eq=together,
        b_eq=np.concatenate(right),
        method="highs",
    )
    assert found.success, found.message
    return float(found.fun or 0.0)


def test_prices_of_three_customers_by_hand() -> None:
    """One and a half calls for three customers to whom a call is worth 5, 3 and 1.

    The best keeps hers, the second half of his: one more would go to him, so that the price is 3, within the width of a
    tie.
    """
    value = np.array([[0.0, 5.0], [0.0, 3.0], [0.0, 1.0]])
    wished, eligible = np.tile([0.0, 1.0], (3, 1)), np.ones((3, 2), dtype=bool)
    prices = solve_prices(wished, value, eligible, [Limit("call", (0, 1), 1.5)])
    assert prices.of_limits["call"] == pytest.approx(3, abs=2 * prices.width + 1e-6)
    assert prices.apply(wished, value, eligible) == pytest.approx(np.array([[0, 1], [0.5, 0.5], [1, 0]]), abs=1e-4)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_value_within_one_percent_of_the_linear_programme(seed: int, ties: bool) -> None:
    """Everybody wishes the best action: the programme's optimum is the best assignment there is."""
    wished, value, eligible = night(seed, 2000, mixed=False, ties=ties)
    limits = three_limits(wished)
    served = solve_prices(wished, value, eligible, limits).apply(wished, value, eligible)
    bound = (wished * value).sum() - transport(wished, value, eligible, limits)
    nothing = value[:, 0].sum()
    assert (used(limits, served) <= [limit.at_most for limit in limits]).all()
    assert (served * value).sum() <= bound + 1e-6
    assert (served * value).sum() - nothing >= 0.99 * (bound - nothing)


@pytest.mark.parametrize("seed", range(5))
def test_mixed_policies_lose_no_more_than_the_linear_programme_asks(seed: int) -> None:
    """The least loss by which one could go from what was wished to what is served is the programme's, within 1%."""
    wished, value, eligible = night(seed, 600, mixed=True)
    limits = three_limits(wished)
    served = solve_prices(wished, value, eligible, limits).apply(wished, value, eligible)
    lost = transport(wished, value, np.ones_like(eligible), by_row=served)
    least = transport(wished, value, eligible, limits)
    worth = (wished * value).sum() - value[:, 0].sum()
    assert least > 0.01 * worth, "the limits bind"
    assert lost - least <= 0.01 * worth


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 300),
    tightness=st.floats(0, 1.5),
    even=st.floats(0, 0.9),
    mixed=st.booleans(),
    unknown=st.sampled_from(["nothing", "rows", "everything"]),
)
def test_the_layer_keeps_its_promises(
    seed: int, n: int, tightness: float, even: float, mixed: bool, unknown: str
) -> None:
    """Rows stay distributions over eligible actions, expected use meets every limit, and each keeps its even share."""
    wished, value, eligible = night(seed, n, mixed=mixed)
    if unknown == "everything":
        value[:] = np.nan
    elif unknown == "rows":
        value[::2] = np.nan
    limits = three_limits(wished, tightness)
    prices = solve_prices(wished, value, eligible, limits, even_share=even)
    served = prices.apply(wished, value, eligible)
    assert np.abs(served.sum(axis=1) - 1).max() < 1e-9
    assert (served >= 0).all()
    assert not served[~eligible].any()
    at_most = np.array([limit.at_most for limit in limits])
    assert (used(limits, served) <= at_most).all()
    assert (served >= wished * prices.even * prices.trim - 1e-12)[:, 1:].all()
    if (used(limits, wished) <= at_most).all():
        assert not prices.binding
        assert (served == wished).all()
        assert set(prices.of_limits.values()) == {0.0}


def test_each_row_by_itself_is_served_alike() -> None:
    """A function of the row and the prices: order and company change nothing, equal customers are treated alike."""
    wished, value, eligible = night(3, 500, mixed=True)
    prices = solve_prices(wished, value, eligible, three_limits(wished), even_share=0.1)
    served = prices.apply(wished, value, eligible)
    rows = np.random.default_rng(0).permutation(500)[:50]
    again = prices.apply(wished[rows], value[rows], eligible[rows])
    assert again == pytest.approx(served[rows], abs=1e-12)


def test_ties_share_what_is_scarce() -> None:
    """Forty customers like each other and ten calls: each gets a quarter of a call, not ten of them all."""
    value, wished = np.tile([0.0, 2.0], (40, 1)), np.tile([0.0, 1.0], (40, 1))
    eligible = np.ones((40, 2), dtype=bool)
    served = solve_prices(wished, value, eligible, [Limit("call", (0, 1), 10)]).apply(wished, value, eligible)
    assert served[:, 1] == pytest.approx(np.full(40, 0.25), abs=1e-4)


def test_unknown_values_are_thinned_in_proportion() -> None:
    """Business as usual has no values: everybody gives up the same share."""
    wished = np.column_stack([1 - np.linspace(0.1, 0.9, 50), np.linspace(0.1, 0.9, 50)])
    value, eligible = np.full((50, 2), np.nan), np.ones((50, 2), dtype=bool)
    served = solve_prices(wished, value, eligible, [Limit("call", (0, 1), 10)]).apply(wished, value, eligible)
    assert served[:, 1] / wished[:, 1] == pytest.approx(np.full(50, 0.4), rel=1e-3)


def test_a_limit_of_nothing_leaves_nothing() -> None:
    wished, value, eligible = night(1, 200, mixed=True)
    limits = [Limit("call", (0, 0, 0, 0, 1), 0)]
    served = solve_prices(wished, value, eligible, limits, even_share=0.2).apply(wished, value, eligible)
    assert not served[:, 4].any()


def test_the_sample_and_its_correction_meet_the_limits_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prices found on a sixteenth of the rows and corrected by all: as good as those of all rows, within 1%."""
    wished, value, eligible = night(5, 8000, mixed=True)
    limits = three_limits(wished)
    whole = solve_prices(wished, value, eligible, limits)
    monkeypatch.setattr(capacity, "SAMPLE", 500)
    sampled = solve_prices(wished, value, eligible, limits)
    served = sampled.apply(wished, value, eligible)
    assert (used(limits, served) <= [limit.at_most for limit in limits]).all()
    assert (sampled.trim[1:] > 0.99).all()
    assert (served * value).sum() == pytest.approx((whole.apply(wished, value, eligible) * value).sum(), rel=0.01)


def test_what_makes_no_sense_is_refused() -> None:
    wished, value, eligible = night(1, 20, mixed=True)
    with pytest.raises(PolicyError, match="no_action must be free"):
        Limit("call", (1, 1), 3)
    with pytest.raises(PolicyError, match="limit call does not say what each of the 5 actions uses"):
        solve_prices(wished, value, eligible, [Limit("call", (0, 1), 3)])
    prices = Prices({}, np.zeros(5), np.zeros(5), np.ones(5), 1.0)
    with pytest.raises(PolicyError, match="do not allow no_action"):
        replace(prices).apply(wished, value, eligible & (np.arange(5) > 0))
