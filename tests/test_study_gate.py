"""The study of the gate: its short cuts change nothing, its truths are true, and every part runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import gate_plays as plays
from bench import gate_report as report
from bench import study_gate as study
from bench.gate_settings import MODELS, Played, Setting, question, seeded
from bench.replicates import Record
from nba_tasks.bounds import Clusters, sequence_bounds, spent_alpha
from nba_tasks.estimators import doubly_robust
from nba_tasks.simulators.tabular import LOGGING, VERSION_0
from nba_tasks.windows import PADDING

SMALL = Setting("small", 2, 300, 0.3)


def test_running_sums_equal_the_product_s_bounds() -> None:
    """Skewed values around a large mean: estimate, error and tails, and every bound made of them."""
    values = 100 - np.random.default_rng(1).lognormal(0, 1.5, size=900)
    looks = np.array([50, 51, 400, 900])
    for n, running in zip(looks, plays.running_estimates(values, looks), strict=True):
        direct = Clusters(np.arange(n)).mean(values[:n])
        assert running.n_customers == n
        assert running.value == pytest.approx(direct.value, rel=1e-12)
        assert running.standard_error == pytest.approx(direct.standard_error, rel=1e-9)
        assert sequence_bounds(running, 0.03, 300) == pytest.approx(sequence_bounds(direct, 0.03, 300), rel=1e-9)
        assert running.lower(0.001) == pytest.approx(direct.lower(0.001), rel=1e-9)
        assert running.upper(0.001) == pytest.approx(direct.upper(0.001), rel=1e-9)


def test_the_value_test_alone_is_the_gate_s() -> None:
    asked = question(SMALL, 0.0, None)
    played = Played.of(SMALL, seeded("small", 3))
    sample = played.sample(asked)
    influence = plays.influence_of(played, asked, sample, played.critics(asked))
    deciding = plays.judged(played, asked).deciding
    assert deciding is not None
    assert deciding.estimator == "DR"
    assert sample.clusters.mean(influence).lower(spent_alpha(0.05, 1)) == pytest.approx(deciding.lower, rel=1e-12)
    mine = doubly_robust(
        sample.weigh(played.probabilities(asked.candidate)), sample.rewards, 0.95, played.critics(asked)[0],
        sample.windows.alive,
    )  # fmt: skip
    assert influence != pytest.approx(mine), "it is paired"


@pytest.mark.parametrize("setting", [*study.FIXED, study.LOOKING, *study.REPORTED], ids=lambda setting: setting.name)
def test_candidates_gain_nothing_at_the_points_that_count(setting: Setting) -> None:
    asked = setting.compare(setting.logged_incumbent)
    candidate = setting.candidate(setting.logged_incumbent, 0.0)
    assert asked.gain(candidate) == pytest.approx(0, abs=1e-9)
    assert np.abs(candidate - setting.logged_incumbent).max() > 0.05


def test_fifty_candidates_gain_nothing_and_differ() -> None:
    asked = study.FAMILY.compare(VERSION_0)
    found = []
    for worse_and_better in plays.worthless_pairs(study.FAMILY):
        found.append(asked.candidate(worse_and_better, study.FAMILY.mix, 0.0))
        assert asked.gain(found[-1]) == pytest.approx(0, abs=1e-9)
    assert len(found) == plays.CANDIDATES
    assert len({candidate.round(6).tobytes() for candidate in found}) > 45


def test_staggered_windows_begin_at_the_ages_that_the_truth_assumes() -> None:
    """20,000 customers: shares of the windows' first states, within 5 standard errors (a false alarm in 10⁵)."""
    setting = replace(study.REPORTED[1], customers=20_000)
    assert setting.staggered
    played = Played.of(setting, seeded("staggered", 1))
    assert (played.windows.rows == PADDING).any(), "some relationships end early"
    first = played.log.state[played.windows.rows[:, 0], 0].astype(int)
    seen = np.bincount(first, minlength=6) / len(first)
    truth = setting.compare(VERSION_0).market.window_starts(LOGGING, setting.ages)
    assert np.abs(seen - truth).max() < 5 * np.sqrt(0.25 / len(first))


def test_estimated_propensities_come_from_a_model_of_other_customers() -> None:
    setting = replace(SMALL, logged=False)
    model = plays.believed(setting, MODELS + 1)
    assert model is not None
    assert model is plays.believed(setting, 1)
    assert np.abs(model - LOGGING).max() < 0.1
    assert plays.believed(SMALL, 1) is None
    played = Played.of(setting, seeded("estimated", 1))
    verdict = plays.judged(played, question(setting, 0.0, model))
    assert verdict.needs_person


@pytest.mark.parametrize(
    "setting",
    [
        Setting("known", 4, 1_000, 0.4, gain=0.05),
        Setting("estimated", 4, 1_000, 0.4, gain=0.05, logged=False),
        Setting("staggered", 4, 1_000, 0.4, gain=0.05, staggered=True),
    ],
    ids=lambda setting: setting.name,
)
@pytest.mark.parametrize("criticised", [True, False], ids=["DR", "PDIS"])
def test_the_deciding_estimate_is_unbiased(setting: Setting, criticised: bool) -> None:
    """Of 100 logs, some of whose customers leave early, the mean error is within 4.5 standard errors of 0 (7 in a
    million)."""
    errors = []
    for number in range(100):
        asked = question(setting, setting.gain, plays.believed(setting, number))
        played = Played.of(setting, seeded(f"unbiased {setting.name}", number))
        sample = played.sample(asked)
        weights = (sample.weigh(played.probabilities(asked.candidate)), sample.weigh(sample.incumbent))
        influence = sample.paired(*weights, played.critics(asked) if criticised else None)
        truth = setting.compare(asked.incumbent).gain(asked.candidate)
        errors.append(sample.clusters.mean(influence).value - truth)
    assert abs(np.mean(errors)) < 4.5 * np.std(errors, ddof=1) / np.sqrt(len(errors))


def test_a_clear_gain_is_promoted_and_a_clear_loss_is_not() -> None:
    setting = Setting("clear", 4, 6_000, 0.4)
    record = plays.play_curve(setting, (-0.05, 0.05), 1)
    assert record == {"value": [False, True], "promoted": [False, True]}


def test_a_row_of_candidates_and_nightly_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plays, "LOOKS", 5)
    looks = plays.play_looks(replace(study.LOOKING, customers=2_560), 0)
    assert set(looks) == {"value", "promoted", "one_look_bound", "evidence"}
    assert looks["value"] or not looks["promoted"]
    row = plays.play_family(study.FAMILY, 0)
    assert row["families"] == 1 + row["failed"]
    assert row["evidence"]


def test_every_bound_is_compared_with_the_truth() -> None:
    found = plays.play_coverage(SMALL, 1)
    assert {"plain t", "t", "sequence", "BCa", "harm: complaint", "harm: left"} <= set(found)
    assert all(len(sides) == 2 for sides in found.values())


def test_targets_ask_for_confidence() -> None:
    """57 of 2,000 are 2.85%, at most 3.7% with confidence; 90 are 4.5% and up to 5.5%."""

    def short(count: int, quick: bool) -> set[str]:
        records = [{"promoted": i < count, "evidence": i < 1_700} for i in range(2_000)]
        return {t.name for t in report.false_promotion_targets({"x": records}, quick) if not t.holds}

    assert not short(57, quick=False)
    assert short(90, quick=False) == {"false_promotions_x"}
    assert not short(90, quick=True)
    assert short(140, quick=True) == {"false_promotions_x_not_refuted"}
    few: list[Record] = [{"promoted": False, "evidence": i < 70} for i in range(100)]
    assert [t.holds for t in report.false_promotion_targets({"x": few}, quick=False)] == [True, False]


def test_the_plot_and_the_tables(tmp_path: Path) -> None:
    found = {"x": (SMALL, [{"value": [False, True], "promoted": [False, i < 3]} for i in range(4)])}
    rows = list(report.curve(found, {"x": (-0.05, 0.05)}))
    assert rows[-1].endswith("| +5.0% | 100.0% | 75.0% | 25% |")
    report.plot_curve(found, {"x": (-0.05, 0.05)}, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    missed = {"a": [True, False], "b": [False, False]}
    assert len(list(report.coverage({"x": (SMALL, [missed])}))) == 6
