from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from nba_tasks.gate import rules
from nba_tasks.gate.placebo import Placebo
from nba_tasks.gate.rules import Deciding, Volume
from nba_tasks.gate.sensitivity import Sensitivity
from nba_tasks.gate.weights import MeanWeight
from nba_tasks.programme import Gate
from tests.gate.cases import make_sample
from tests.tiny_mdp import LOGGING, by_row

DECIDING = Deciding("DR", "t", 1, 0.05, 0.03, 0.0, 1.0, 0.5, 0.1, 1.9, (-0.5, 2.5))
VOLUME = Volume(customers=10_000, weeks=20)


def test_more_data_in_words() -> None:
    """2.4 times the data: 1.4 · 10,000 customers, or 1.4 · 20 weeks."""
    assert VOLUME.more(2.4) == "about 14,000 more customers in the gate's split, or 28 more weeks at today's volume"
    assert Volume(1_234).more(2) == "about 1,300 more customers in the gate's split"
    assert "will not settle it" in VOLUME.more(math.inf)


@pytest.mark.parametrize(
    ("lower", "upper", "estimate", "reliable", "status"),
    [
        (0.1, 1.9, 1.0, True, "pass"),
        (-0.1, 2.1, 1.0, True, "defer"),
        (0.0, 0.0, 0.0, True, "defer"),
        (-2.0, -0.1, -1.0, True, "reject"),
        (-2.0, -0.1, -1.0, False, "defer"),
        (-math.inf, math.inf, 1.0, True, "defer"),
        (math.nan, math.nan, math.nan, True, "defer"),
    ],
)
def test_value(lower: float, upper: float, estimate: float, reliable: bool, status: str) -> None:
    deciding = replace(DECIDING, lower=lower, upper=upper, estimate=estimate)
    result = rules.value(deciding, VOLUME, reliable=reliable)
    assert result.status == status
    assert bool(result.remedy) == (status != "pass")


def test_value_says_how_much_more_data() -> None:
    """The bound lies 1.5 below an estimate of 1: 1.5² = 2.25 times the data bring it to 0, 12,500 customers more."""
    result = rules.value(replace(DECIDING, lower=-0.5), VOLUME, reliable=True)
    assert "about 13,000 more customers in the gate's split, or 25 more weeks" in result.remedy


def test_the_margin_counts() -> None:
    assert rules.value(replace(DECIDING, margin=0.2), VOLUME, reliable=True).status == "defer"


@pytest.mark.parametrize(("gain", "status"), [(None, "pass"), (2.0, "pass"), (-0.9, "pass"), (-1.0, "defer")])
def test_the_tail_must_not_reverse_the_sign(gain: float | None, status: str) -> None:
    assert rules.tail(DECIDING, gain, 0.2).status == status


def test_evidence_asks_for_size_share_and_no_giant() -> None:
    """1,000 windows: equal weights pass; a weight of 50 among ones carries 50/1049 > 1%."""
    sample, _ = make_sample(1_000, epochs=4)
    equal, giant = np.ones((1_000, 4)), np.ones((1_000, 4))
    giant[0] = 50
    gate = Gate(min_effective_size=200)
    assert rules.evidence(sample, {"candidate": equal, "incumbent": equal}, gate, VOLUME).status == "pass"
    found = rules.evidence(sample, {"candidate": giant, "incumbent": equal}, gate, VOLUME)
    assert found.status == "defer"
    assert found.figures["candidate_largest_weight_share"] == pytest.approx(50 / 1049)
    assert "more customers" in found.remedy


def test_evidence_names_a_shorter_horizon() -> None:
    """Half of the weights vanish at every step: shares 1/2, 1/4, 1/8, 1/16; three decisions keep 10%."""
    sample, _ = make_sample(1_600, epochs=4)
    weight = np.zeros((1_600, 4))
    for step in range(4):
        weight[: 1_600 // 2 ** (step + 1), step] = 2.0 ** (step + 1)
    gate = Gate(min_effective_size=50, max_weight_share=0.5)
    found = rules.evidence(sample, {"candidate": weight, "incumbent": np.ones((1_600, 4))}, gate, VOLUME)
    assert found.remedy == "a smaller mix, closer to the log, or horizon 3"


def test_no_weight_at_all_is_no_evidence() -> None:
    sample, _ = make_sample(100, epochs=4)
    found = rules.evidence(sample, {"candidate": np.zeros((100, 4)), "incumbent": np.ones((100, 4))}, Gate(), VOLUME)
    assert found.status == "defer"
    assert "will not settle it" in found.remedy


def test_sanity_is_bonferroni_over_both_policies() -> None:
    sample, log = make_sample(300)
    policy, one = by_row(LOGGING, log), MeanWeight(0, 1, 1.0, 0.9)
    two = {"candidate": (MeanWeight(0, 1, 1.3, 0.004),), "incumbent": (one,)}
    three = two | {"incumbent": (one, one)}
    assert rules.sanity(sample, policy, two, Gate(), enough_evidence=True).status == "reject"
    assert rules.sanity(sample, policy, three, Gate(), enough_evidence=True).status == "pass"
    assert rules.sanity(sample, policy, two, Gate(), enough_evidence=False).status == "pass"


@pytest.mark.parametrize(
    ("placebo", "status"),
    [(None, "defer"), (Placebo(0.5, 0.01), "pass"), (Placebo(0.001, 0.01), "defer"), (Placebo(0.5, 0.06), "defer")],
)
def test_placebo_where_propensities_are_estimated(placebo: Placebo | None, status: str) -> None:
    sample, _ = make_sample(100, logged=False)
    assert rules.placebo_rule(sample, placebo, Gate()).status == status


def test_placebo_is_not_needed_where_decisions_were_logged() -> None:
    assert rules.placebo_rule(make_sample(100)[0], None, Gate()).status == "pass"


@pytest.mark.parametrize(
    ("differences", "status"),
    [
        ({"DR": 1.0, "PDIS": 0.5, "SN-PDIS": 0.1}, "pass"),
        ({"DR": -1.0, "PDIS": -0.5}, "pass"),
        ({"DR": 1.0, "PDIS": -0.5, "SN-PDIS": 0.1}, "defer"),
        ({"PDIS": 0.5, "SN-PDIS": 0.0}, "defer"),
        ({"PDIS": math.nan, "SN-PDIS": math.nan}, "defer"),
    ],
)
def test_agreement(differences: dict[str, float], status: str) -> None:
    assert rules.agreement(differences).status == status


def test_estimated_propensities_are_said() -> None:
    sample, _ = make_sample(100, logged=False)
    found = rules.propensities(sample, Sensitivity(1.4, 1.2, 1.3))
    assert "100.0% of the decisions have estimated propensities" in found.finding
    assert found.figures["gamma_yardstick"] == 1.3
