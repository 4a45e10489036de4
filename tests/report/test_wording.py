"""The sentences about a gate: true to its figures, whole for every outcome."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nba_tasks.report import wording
from nba_tasks.report.numbers import percent, plain, signed

RULES = ("evidence", "sanity", "placebo", "value", "harm:complaint", "tail", "agreement", "propensities")
numbers = st.floats(-50, 50, allow_nan=False).map(lambda number: round(number, 4))


def report(verdict: str = "PROMOTE", opened: bool = True, **statuses: str) -> dict[str, Any]:
    """A gate's report as far as sentences read it; `statuses` by rule, `harm` for the harm rule."""
    given = {rule: statuses.get(rule.split(":")[0], "pass") for rule in RULES}
    return {
        "verdict": verdict,
        "opened": opened,
        "mix": 0.25,
        "rules": [
            {
                "rule": rule,
                "status": status,
                "finding": "this was found",
                "remedy": "" if status == "pass" else "wait",
                "figures": {"logged_share": 1.0},
            }
            for rule, status in given.items()
        ],
        "judged": {"horizon": 4, "customers": 5679, "windows": 30634, "logged_share": 1.0},
        "deciding": {"estimate": 0.1194, "lower": 0.0874, "upper": 0.1513, "alpha": 0.0304, "k": 1, "margin": 0.0},
    }


def test_a_promote_says_gain_period_and_confidence() -> None:
    assert wording.headline(report(), 7) == (
        "The new policy is better: with it a customer would have been worth about 0.119 more over 4 weeks than with "
        "the one in use, and with 96.9% confidence at least 0.0874 more."
    )
    known = report() | {"policies": [{"kind": "incumbent", "value": 0.597}]}
    assert "about 0.119 (20%) more over 4 weeks" in wording.headline(known, 7)


def test_a_deferred_gain_says_what_is_still_possible() -> None:
    found = report("DEFER", value="defer")
    found["deciding"] |= {"lower": -0.02}
    said = wording.headline(found, 10)
    assert "over 40 days" in said
    assert "worth 0.119 more" in said
    assert "than with the one in use" in said
    assert "from −0.02 to +0.151" in said
    found["deciding"] |= {"estimate": -0.01}
    assert "worth 0.01 less" in wording.headline(found, 10)


def test_a_deferred_harm_is_named() -> None:
    assert "complaint rises by more than you allow" in wording.headline(report("DEFER", harm="defer"), 7)


def test_rejections_say_why() -> None:
    assert "more harm than you allow (complaint)" in wording.headline(report("REJECT", harm="reject"), 7)
    assert "no estimate from it can be trusted" in wording.headline(report("REJECT", sanity="reject"), 7)
    losing = report("REJECT", value="reject")
    losing["deciding"] |= {"estimate": -0.3, "lower": -0.5, "upper": -0.1}
    said = "about 0.3 less over 4 weeks than with the one in use, and surely no more than −0.1."
    assert said in wording.headline(losing, 7)
    losing["deciding"] |= {"estimate": 0.3, "upper": 0.8, "margin": 1.0}
    assert "no more than +0.8, less than the 1 that you ask for" in wording.headline(losing, 7)


@given(st.floats(1e-12, 0.5))
def test_no_test_is_sure(alpha: float) -> None:
    said = wording.confidence(alpha)
    assert float(said.removesuffix("%")) <= 100 * (1 - alpha) + 1e-9
    assert float(said.removesuffix("%")) < 100


def test_the_confidence_of_later_candidates_is_told_apart() -> None:
    shares = [6 * 0.05 / (3.141592653589793**2 * k**2) for k in range(1, 21)]
    assert [wording.confidence(alpha) for alpha in shares[:3]] == ["96.9%", "99.24%", "99.66%"]
    assert len({wording.confidence(alpha) for alpha in shares}) == len(shares)


def test_what_was_not_held_or_cannot_be_trusted_proves_nothing() -> None:
    for nothing in (report("DEFER", opened=False), report("REJECT", sanity="reject")):
        assert "Surely at least" not in [tile.title for tile in wording.tiles(nothing, 7)]
    assert "Surely at least" in [tile.title for tile in wording.tiles(report(), 7)]


def test_estimated_chances_are_for_a_person_to_judge() -> None:
    found = report()
    assert wording.checklist(found)[-1].label == "met"
    found["rules"][-1]["figures"] = {"logged_share": 0.2}
    assert wording.checklist(found)[-1].label == "for you to judge"


def test_a_gate_that_was_not_opened_and_one_without_propensities() -> None:
    assert "was not held" in wording.headline(report("DEFER", opened=False), 7)
    assert "cannot be used" in wording.headline(report("REJECT") | {"deciding": None}, 7)


@given(
    opened=st.booleans(),
    statuses=st.dictionaries(st.sampled_from([r.split(":")[0] for r in RULES]), st.sampled_from(["defer", "reject"])),
    figures=st.tuples(numbers, numbers, numbers),
    interval=st.integers(1, 60),
)
def test_every_outcome_gets_one_whole_sentence(
    opened: bool, statuses: dict[str, str], figures: tuple[float, float, float], interval: int
) -> None:
    worst = "REJECT" if "reject" in statuses.values() else "DEFER" if statuses else "PROMOTE"
    found = report(worst if opened else "DEFER", opened, **statuses)
    found["deciding"] |= dict(zip(("lower", "estimate", "upper"), sorted(figures), strict=True))
    said = wording.headline(found, interval)
    assert re.fullmatch(r"[A-Z].*\.", said)
    assert not re.search(r"None|nan|{|}|\(\)", said)


def test_the_checklist_keeps_every_rule_in_order() -> None:
    found = wording.checklist(report("DEFER", value="defer"))
    assert [check.status for check in found] == ["pass"] * 3 + ["defer"] + ["pass"] * 4
    assert found[4].title == "No more harm: complaint"
    assert all(check.question for check in found)
    assert found[3].remedy == "wait"
    unknown = wording.checklist({"rules": [{"rule": "new_rule", "status": "pass", "finding": "x", "remedy": ""}]})
    assert unknown[0].title == "New rule"


@pytest.mark.parametrize(
    ("horizon", "interval", "said"), [(4, 7, "4 weeks"), (1, 7, "1 week"), (1, 10, "10 days"), (1, 1, "1 day")]
)
def test_periods(horizon: int, interval: int, said: str) -> None:
    assert wording.period(horizon, interval) == said


@given(st.floats(-1e12, 1e12) | st.sampled_from([float("nan"), float("inf"), float("-inf")]) | st.none())
def test_every_number_can_be_shown(value: float | None) -> None:
    for form in (plain, signed, percent):
        said = form(value)
        assert said
        assert "nan" not in said
        assert "inf" not in said
        json.dumps(said)


def test_signs_are_typographic_and_never_doubled() -> None:
    assert [signed(v) for v in (0.5, -0.5, 0.0, 12345.0)] == ["+0.5", "−0.5", "0", "+12,345"]
