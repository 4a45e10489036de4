from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from nba_tasks.bounds import gamma_lower, gamma_upper
from nba_tasks.gate.harms import compare_harm, next_event
from nba_tasks.gate.sample import Sample
from nba_tasks.programme import Gate
from nba_tasks.windows import cut_windows
from tests.gate.cases import make_sample
from tests.tiny_mdp import BETTER, LOGGING, TinyMdp, by_row


def test_three_windows_by_hand() -> None:
    """h = 1. Customers 0, 1, 2 do action 0, 1, 1; customers 1 and 2 leave. Behaviour 1/2 each; the candidate takes
    action 1 with 1/4 (weights 3/2, 1/2, 1/2), the incumbent with 3/4 (weights 1/2, 3/2, 3/2).

    Rates: (1/2 + 1/2)/3 = 1/3 against (3/2 + 3/2)/3 = 1; tolerated is f = 1.2 of it: D = 1/3 − 1.2 = −13/15.
    Effective events (1/2 + 1/2)² / (1/4 + 1/4) = 2. A decision adds z = 3/2 − 1.2/2 = 9/10 with action 0, and
    1/2 − 1.2 · 3/2 = −13/10 with action 1. Both events lower the excess, by 26/30, with a Poisson variance of
    2 · 169/100 / 9 = 338/900; clustered it is less. A further event would weigh 13/10 / 3; one that raises, 9/10 / 3.
    """
    sample, log = make_sample(3, epochs=1, horizon=1)
    sample = replace(
        sample,
        action=np.where(log.open, -1, np.array([0, 1, 1])[log.customer]),
        outcomes=np.stack([np.zeros(len(log)), log.customer >= 1], axis=1).astype(float),
        propensity=np.full(len(log), 0.5),
    )
    candidate, incumbent = np.array([[0.75, 0.25]] * len(log)), np.array([[0.25, 0.75]] * len(log))
    weights = {"candidate": sample.weigh(candidate), "incumbent": sample.weigh(incumbent)}
    test = compare_harm(sample, weights, "left", Gate())
    assert test.candidate.rate == pytest.approx(1 / 3)
    assert test.incumbent.rate == pytest.approx(1)
    assert test.excess.value == pytest.approx(-13 / 15)
    assert (test.factor, test.allowed) == (1.2, 0)
    assert test.candidate.effective_events == pytest.approx(2)
    assert (test.raising.rate, test.raising.variance) == (0, 0)
    assert test.raising.next_event == pytest.approx(0.9 / 3)
    assert test.lowering.rate == pytest.approx(26 / 30)
    assert test.lowering.variance == pytest.approx(338 / 900)
    assert test.lowering.next_event == pytest.approx(1.3 / 3)
    above = gamma_upper(0, 0, 0.3, 0.05)[0]
    below = 26 / 30 - gamma_lower(26 / 30, 338 / 900, 0.05)[0]
    assert test.upper(0.05) == pytest.approx(-13 / 15 + math.hypot(above, below), rel=1e-9)


def test_a_rare_harm_gets_the_absolute_margin() -> None:
    sample, log = make_sample(500, epochs=4)
    weights = {"candidate": sample.weigh(by_row(BETTER, log)), "incumbent": sample.weigh(by_row(LOGGING, log))}
    test = compare_harm(sample, weights, "left", Gate(harm_absolute=0.5))
    assert (test.factor, test.allowed) == (1.0, 0.5)
    assert test.excess.value == pytest.approx(test.candidate.rate - test.incumbent.rate)


def test_without_events_the_bound_is_the_candidates_own() -> None:
    sample, log = make_sample(200, mdp=TinyMdp(np.array([1.0, 0]), np.full((2, 2, 2), 0.5), *np.zeros((2, 2, 2))))
    weights = {"candidate": sample.weigh(by_row(BETTER, log)), "incumbent": sample.weigh(by_row(LOGGING, log))}
    test = compare_harm(sample, weights, "left", Gate())
    assert test.upper(0.05) == pytest.approx(gamma_upper(0, 0, test.raising.next_event, 0.05)[0])
    assert test.upper(0.05) == pytest.approx(-math.log(0.05) * test.raising.next_event)
    assert test.lower(0.05) <= 0


def test_a_further_event_weighs_like_those_that_make_the_variance() -> None:
    """Weights 1, 1, 2, 4: Σw³/Σw² = 74/22, over 4 decisions; equal weights give their own."""
    assert next_event(np.array([[1.0, 1.0], [2.0, 4.0]])) == pytest.approx(74 / 22 / 4)
    assert next_event(np.full((3, 2), 1.5)) == pytest.approx(1.5 / 6)
    assert next_event(np.zeros((3, 2))) == 0


def test_what_no_decision_could_add_needs_no_room() -> None:
    """The candidate equals the incumbent: every z is −0.2 w, nothing could raise the excess."""
    sample, log = make_sample(300)
    weight = sample.weigh(by_row(LOGGING, log))
    test = compare_harm(sample, {"candidate": weight, "incumbent": weight}, "left", Gate())
    assert test.raising.next_event == 0
    assert test.raising.above(0.05)[0] == 0
    assert test.upper(0.05) < 0


def test_bounds_widen_with_confidence_and_repeated_looks() -> None:
    sample, log = make_sample(500)
    weights = {"candidate": sample.weigh(by_row(BETTER, log)), "incumbent": sample.weigh(by_row(LOGGING, log))}
    test = compare_harm(sample, weights, "left", Gate())
    assert test.lower(0.01) < test.lower(0.05) < test.excess.value < test.upper(0.05) < test.upper(0.01)
    low, high = test.always(0.05, 500)
    assert low <= test.lower(0.05)
    assert high >= test.upper(0.05)


ONE_STATE = TinyMdp(
    start=np.array([1.0]),
    move=np.ones((1, 3, 1)),
    pays=np.zeros((1, 3)),
    ends=np.array([[0.02, 0.06, 0.0]]),
)


@pytest.mark.parametrize(
    ("logging", "incumbent", "candidate"),
    [
        ((0.5, 0.3, 0.2), (0.5, 0.3, 0.2), (0.1, 0.1, 0.8)),
        ((0.8, 0.1, 0.1), (0.1, 0.8, 0.1), (0.1, 0.1, 0.8)),
    ],
    ids=["the incumbent logged", "a third policy logged"],
)
def test_a_candidate_at_the_margin_seldom_passes(
    logging: tuple[float, ...], incumbent: tuple[float, ...], candidate: tuple[float, ...]
) -> None:
    """The third action's rate puts the candidate exactly at 1.2 times the incumbent's. Of 600 logs at a nominal 3% at
    most 36 pass (the 99.99% quantile of 18 expected ones)."""
    mine, theirs = np.array(candidate), np.array(incumbent)
    others = ONE_STATE.ends[0, :2]
    third = (1.2 * theirs[:2] @ others - mine[:2] @ others) / (mine[2] - 1.2 * theirs[2])
    mdp = replace(ONE_STATE, ends=np.array([[*others, third]]))
    passed = 0
    for seed in range(600):
        log = mdp.simulate(np.array([logging]), 4_000, 1, seed)
        sample = Sample.of(
            log,
            cut_windows(log, 1),
            behaviour=by_row(np.array([logging]), log),
            incumbent=by_row(np.array([incumbent]), log),
            discount=1.0,
        )
        weights = {"candidate": sample.weigh(by_row(mine[None], log)), "incumbent": sample.weigh(sample.incumbent)}
        passed += compare_harm(sample, weights, "left", Gate()).upper(0.03) < 0
    assert passed <= stats.binom.ppf(0.9999, 600, 0.03)
