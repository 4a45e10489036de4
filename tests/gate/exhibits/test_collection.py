from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from nba_tasks.dataset import Transitions
from nba_tasks.gate import judge
from nba_tasks.gate.exhibits import LEARNED, Alternative, Exhibits, StateFeature, collect
from nba_tasks.gate.exhibits.reliance import calibration, weight_tail, wilson_interval
from nba_tasks.gate.sample import Sample
from tests.gate.cases import SMALL, make_sample
from tests.tiny_mdp import BETTER, FATIGUE, LOGGING, by_row

HALF_BETTER = 0.5 * LOGGING + 0.5 * BETTER
IDS = ("no_action", "contact")


def exhibits(sample: Sample, log: Transitions) -> Exhibits:
    """Of a candidate halfway to `BETTER`, over states with a second column that means nothing."""
    noise = np.random.default_rng(0).integers(0, 3, len(log)).astype(float)
    data = replace(log, state=np.stack([log.state[:, 0], noise], axis=1))
    mine, theirs = (FATIGUE.critic(p, log, sample.windows, 0.9) for p in (HALF_BETTER, LOGGING))
    return collect(
        sample,
        data,
        Alternative("candidate", "candidate", by_row(HALF_BETTER, log), mine),
        Alternative("incumbent", "incumbent", by_row(LOGGING, log), theirs),
        baselines=[
            Alternative(LEARNED, "baseline", by_row(BETTER, log)),
            Alternative("no contact", "baseline", by_row(np.array([[1.0, 0], [1, 0]]), log)),
        ],
        explored=lambda epsilon: Alternative("", "candidate", by_row((1 - epsilon) * HALF_BETTER + epsilon / 2, log)),
        q=by_row(FATIGUE.q_tables(BETTER, 4, 0.9)[-1], log),
        learned=by_row(np.eye(2)[BETTER.argmax(axis=1)], log),
        features=[StateFeature("tiredness", {0.0: "rested", 1.0: "tired"}, categorical=True), StateFeature("noise")],
        action_ids=IDS,
        alpha=0.05,
    )


def test_candidate_and_incumbent_have_the_values_that_the_gate_decided_by() -> None:
    sample, log = make_sample(800)
    critics = tuple(FATIGUE.critic(p, log, sample.windows, 0.9) for p in (HALF_BETTER, LOGGING))
    verdict = judge(sample, by_row(HALF_BETTER, log), SMALL, critics=(critics[0], critics[1]), bootstrap_replicates=0)
    decided = {f.policy: f for f in verdict.estimates if f.estimator == "DR"}
    shown = {one.policy: one for one in exhibits(sample, log).policies}
    assert list(shown) == ["candidate", "incumbent", LEARNED, "no contact", "as logged"]
    for whose in ("candidate", "incumbent"):
        assert shown[whose].value == pytest.approx(decided[whose].value)
        assert shown[whose].upper == pytest.approx(decided[whose].upper)


def test_segments_of_a_feature_add_up_to_the_gain() -> None:
    sample, log = make_sample(800)
    found = exhibits(sample, log)
    gain = found.policies[0].value - found.policies[1].value
    for feature in ("tiredness", "noise"):
        rows = [segment for segment in found.segments if segment.feature == feature]
        assert sum(segment.windows for segment in rows) == len(sample.windows)
        assert sum(s.windows * s.estimate for s in rows) / len(sample.windows) == pytest.approx(gain)
        assert all(segment.lower < segment.estimate < segment.upper for segment in rows)
    assert [s.label for s in found.segments if s.feature == "tiredness"] == ["rested", "tired"]


def test_the_intervals_of_segments_hold_the_truth() -> None:
    """The true Δ of the rested and of the tired by recursion, within 4.5 standard errors (7 in a million, each)."""
    sample, log = make_sample(20_000, epochs=4)
    for segment in exhibits(sample, log).segments[:2]:
        start = np.eye(2)[["rested", "tired"].index(segment.label)]
        mdp = replace(FATIGUE, start=start)
        truth = mdp.value(HALF_BETTER, 4, 0.9) - mdp.value(LOGGING, 4, 0.9)
        assert abs(segment.estimate - truth) < 4.5 * segment.standard_error


def test_the_action_mix_counts_and_averages() -> None:
    sample, log = make_sample(400)
    nothing, contact = exhibits(sample, log).action_mix
    assert nothing.log == pytest.approx((sample.action[sample.rows] == 0).mean())
    assert contact.candidate == pytest.approx(by_row(HALF_BETTER, log)[sample.rows, 1].mean())
    for whose in ("log", "incumbent", "candidate"):
        assert getattr(nothing, whose) + getattr(contact, whose) == pytest.approx(1)


def test_the_state_map_shows_the_choice_and_its_value() -> None:
    """`BETTER` contacts the rested only; the second feature is noise."""
    sample, log = make_sample(400)
    found = exhibits(sample, log).state_map
    assert found is not None
    assert (found.x.feature, found.x.labels) == ("tiredness", ("rested", "tired"))
    assert found.y.feature == "noise"
    assert sum(cell.decisions for cell in found.cells) == len(sample.rows)
    value = FATIGUE.q_tables(BETTER, 4, 0.9)[-1]
    for cell in found.cells:
        chosen = 1 - cell.x
        assert (cell.action_id, cell.share) == (IDS[chosen], 1.0)
        assert cell.value == pytest.approx(value[cell.x, chosen])


def test_unusable_propensities_leave_what_needs_no_weights() -> None:
    sample, log = make_sample(50)
    found = exhibits(replace(sample, propensity=np.zeros(len(log))), log)
    assert (found.policies, found.segments, found.value_by_epsilon, found.weight_tail) == ((), (), (), {})
    assert found.action_mix
    assert found.calibration
    assert found.state_map


def test_weight_tail_by_hand() -> None:
    """Of weights 4, 3, 2, 1 the heaviest quarter carries 4/10, the heaviest half 7/10."""
    found = {point.windows: point.weight for point in weight_tail(np.array([1.0, 4.0, 2.0, 3.0]))}
    assert found == pytest.approx({0.25: 0.4, 0.5: 0.7, 0.75: 0.9, 1.0: 1.0})
    assert weight_tail(np.zeros(4)) == ()
    heavy = weight_tail(np.random.default_rng(0).pareto(1.5, 50_000))
    shares = [point.weight for point in heavy]
    assert shares == sorted(shares)
    assert len(heavy) <= 20


def test_a_true_model_is_calibrated_and_its_intervals_hold() -> None:
    """20 bins, each outside its 95% interval with 5%: more than 5 of them by chance 0.03% of the time."""
    rng = np.random.default_rng(4)
    share = rng.random(20_000)
    action = (rng.random(20_000) < share).astype(int)
    eligible = np.ones((20_000, 2), dtype=bool)
    found = calibration(np.stack([1 - share, share], axis=1), action, eligible, IDS, 0.05)
    assert [one.action_id for one in found] == list(IDS)
    assert all(one.expected_calibration_error < 0.02 and one.decisions == 20_000 for one in found)
    outside = sum(not one.lower <= one.predicted <= one.upper for table in found for one in table.bins)
    assert outside <= 5
    wrong = calibration(np.full((20_000, 2), 0.5), action * (rng.random(20_000) < 0.5), eligible, IDS, 0.05)
    assert wrong[1].expected_calibration_error > 0.2
    assert len(wrong[1].bins) == 1, "equal probabilities share a bin"


def test_wilson_interval_is_scipys() -> None:
    lower, upper = wilson_interval(np.array([0.3, 0.0]), np.array([10, 10]), 0.05)
    for i, successes in enumerate((3, 0)):
        asked = stats.binomtest(successes, 10).proportion_ci(0.95, method="wilson")
        assert (lower[i], upper[i]) == pytest.approx((asked.low, asked.high), abs=1e-12)
