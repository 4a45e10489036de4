from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nba_tasks.bounds import spent_alpha
from nba_tasks.gate import GateError, choose_mix
from nba_tasks.gate.harms import compare_harm
from nba_tasks.gate.mixing import SURE_POWER
from nba_tasks.gate.plain import plain
from tests.gate.cases import FUTILE, SMALL, Floats, make_sample
from tests.tiny_mdp import BETTER, FATIGUE, LOGGING, WORSE, TinyMdp, by_row

GATE = SMALL.model_copy(update={"harm_min_events": 20.0})


def mixtures(log_rows: Floats, new: Floats) -> dict[float, Floats]:
    return {mix: (1 - mix) * LOGGING[log_rows] + mix * new[log_rows] for mix in (0.2, 0.5, 1.0)}


def test_a_real_gain_opens_the_gate_and_the_best_predicted_bound_is_chosen() -> None:
    sample, log = make_sample(3_000)
    at = mixtures(log.state[:, 0].astype(int), BETTER)
    choice = choose_mix(sample, at.__getitem__, GATE, gate_customers=4_500, mixes=tuple(at))
    assert choice.mix is not None
    assert not choice.reasons
    qualified = [f for f in choice.forecasts if not f.obstacles]
    sure = [f for f in qualified if f.power >= SURE_POWER]
    assert choice.mix == max(sure, key=lambda f: f.predicted_lower).mix
    json.dumps(plain(choice), allow_nan=False)


def test_a_bold_step_is_taken_only_where_none_is_sure() -> None:
    sample, log = make_sample(3_000)
    at = mixtures(log.state[:, 0].astype(int), BETTER)
    few, more = (choose_mix(sample, at.__getitem__, GATE, gate_customers=n, mixes=tuple(at)) for n in (450, 550))
    bold = {
        id(choice): max((f for f in choice.forecasts if not f.obstacles), key=lambda f: f.predicted_lower * f.power)
        for choice in (few, more)
    }
    assert bold[id(few)].power < SURE_POWER
    assert few.mix == bold[id(few)].mix
    assert bold[id(more)].power < SURE_POWER
    assert more.mix is not None
    assert more.mix < bold[id(more)].mix


def test_the_standard_error_is_scaled_to_the_gate() -> None:
    sample, log = make_sample(1_000)
    at = mixtures(log.state[:, 0].astype(int), BETTER)
    same, larger = (choose_mix(sample, at.__getitem__, GATE, gate_customers=n, mixes=(0.5,)) for n in (1_000, 4_000))
    (one,), (four,) = same.forecasts, larger.forecasts
    assert one.estimate == four.estimate
    # Nearly half: what allows for skewness shrinks faster.
    reach = one.estimate - one.predicted_lower
    assert 0.47 * reach < four.estimate - four.predicted_lower < 0.5 * reach
    assert four.power >= one.power
    # The select split's own noise makes less sure of any outcome than the power at its estimate.
    assert 0.5 < one.power < one.power_at_estimate


def test_just_as_many_harms_as_are_asked_for_are_seen_one_time_in_two() -> None:
    """And four standard deviations more nearly always, those of a count on both splits."""
    sample, log = make_sample(2_000)
    policy = by_row(0.8 * LOGGING + 0.2 * BETTER, log)
    weights = {"candidate": sample.weigh(policy), "incumbent": sample.weigh(sample.incumbent)}
    expected = compare_harm(sample, weights, "left", GATE).candidate.effective_events
    assert expected > 50

    def chance(events: float) -> float:
        gate = GATE.model_copy(update={"harm_min_events": events, "harm_absolute": 1.0})
        choice = choose_mix(sample, lambda _: policy, gate, gate_customers=2_000, mixes=(0.2,))
        return choice.forecasts[0].power_harm["left"]

    assert chance(expected) == pytest.approx(0.5, abs=0.05)
    assert chance(expected - 4 * (2 * expected) ** 0.5) > 0.9999
    assert chance(expected + 4 * (2 * expected) ** 0.5) < 1e-4


@pytest.mark.parametrize(("mix", "margin"), [(0.2, 0.003), (0.5, 0.006)])
def test_the_chance_to_pass_a_harm_rule_is_what_is_forecast(mix: float, margin: float) -> None:
    """100 select and gate splits of 600 customers each, by margins that are kept about one time in two and in four.

    The share that passed has a standard error of at most 0.05, the mean of the forecasts, which vary by less than 0.25
    each, one of 0.025: they differ by more than 0.19 by chance less than once in 1,000 times.
    """
    gate = GATE.model_copy(update={"harm_min_events": 10.0, "harm_relative": 0.0, "harm_absolute": margin})
    policy = (1 - mix) * LOGGING + mix * WORSE
    forecasts, passed = [], []
    for seed in range(100):
        select, log = make_sample(600, 2 * seed)
        at = {mix: by_row(policy, log)}
        choice = choose_mix(select, at.__getitem__, gate, gate_customers=600, mixes=(mix,))
        forecasts.append(choice.forecasts[0].power_harm["left"])
        judged, log = make_sample(600, 2 * seed + 1)
        weights = {"candidate": judged.weigh(by_row(policy, log)), "incumbent": judged.weigh(judged.incumbent)}
        test = compare_harm(judged, weights, "left", gate)
        passed.append(test.upper(spent_alpha(gate.alpha, 1)) <= test.allowed)
    assert 0.05 < np.mean(passed) < 0.95
    assert np.mean(forecasts) == pytest.approx(np.mean(passed), abs=0.19)


def test_who_taught_the_candidate_makes_the_forecast_surer() -> None:
    """Three times as many customers who suffered: a margin that is kept is more surely foreseen to be kept."""
    select, log = make_sample(500, 1)
    taught, its_log = make_sample(1_000, 2)
    gate = GATE.model_copy(update={"harm_min_events": 10.0, "harm_absolute": 0.025})

    def forecast(**more: Any) -> float:
        found = choose_mix(select, lambda _: by_row(BETTER, log), gate, gate_customers=600, mixes=(1.0,), **more)
        return found.forecasts[0].power_harm["left"]

    both = forecast(taught=(taught, lambda _: by_row(BETTER, its_log)))
    assert 0.5 < forecast() < both
    broken = replace(taught, propensity=np.zeros_like(taught.propensity))
    choice = choose_mix(
        select,
        lambda _: by_row(BETTER, log),
        gate,
        gate_customers=600,
        taught=(broken, lambda _: by_row(BETTER, its_log)),
    )
    assert choice.mix is None
    assert "on the learn split, " in choice.reasons[0]


@pytest.mark.parametrize(("mdp", "new"), [(FATIGUE, WORSE), (FUTILE, BETTER)], ids=["worse", "futile"])
def test_no_gain_does_not_open_the_gate(mdp: TinyMdp, new: Floats) -> None:
    sample, log = make_sample(2_000, mdp=mdp, seed=1)
    at = mixtures(log.state[:, 0].astype(int), new)
    choice = choose_mix(sample, at.__getitem__, GATE, gate_customers=3_000, mixes=tuple(at))
    assert choice.mix is None
    assert any("80% are asked for" in reason for reason in choice.reasons)


def test_too_little_overlap_does_not_qualify() -> None:
    sample, log = make_sample(2_000, horizon=8)
    never = np.array([[0.01, 0.99], [0.99, 0.01]])
    choice = choose_mix(sample, lambda _: by_row(never, log), GATE, gate_customers=3_000, mixes=(1.0,))
    assert choice.mix is None
    assert any("effective share" in reason for reason in choice.reasons)


def test_a_critic_sharpens_the_forecast() -> None:
    sample, log = make_sample(1_500)
    at = mixtures(log.state[:, 0].astype(int), BETTER)
    table = 0.5 * LOGGING + 0.5 * BETTER
    critics = tuple(FATIGUE.critic(policy, log, sample.windows, 0.9) for policy in (table, LOGGING))
    without = choose_mix(sample, at.__getitem__, GATE, gate_customers=2_000, mixes=(0.5,))
    with_critic = choose_mix(
        sample, at.__getitem__, GATE, gate_customers=2_000, mixes=(0.5,), critics_at=lambda _: (critics[0], critics[1])
    )
    spread = [f.estimate - f.predicted_lower for c in (without, with_critic) for f in c.forecasts]
    assert spread[1] < 0.9 * spread[0]


def test_unusable_propensities_do_not_open_the_gate() -> None:
    sample, log = make_sample(100)
    broken = replace(sample, propensity=np.zeros(len(log)))
    choice = choose_mix(broken, lambda _: by_row(BETTER, log), GATE, gate_customers=100)
    assert choice.mix is None
    assert "no usable propensity" in choice.reasons[0]


def test_nothing_to_try_is_an_error() -> None:
    sample, log = make_sample(100)
    with pytest.raises(GateError, match="at least one λ"):
        choose_mix(sample, lambda _: by_row(BETTER, log), GATE, gate_customers=100, mixes=())
