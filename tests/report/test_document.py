from __future__ import annotations

import re
from typing import Any

import pytest

from nba_tasks.gate.exhibits import Exhibits
from nba_tasks.report import markdown, review_body, review_subject
from nba_tasks.report.document import table
from nba_tasks.report.numbers import count, percent, plain, signed
from nba_tasks.report.wording import headline, period
from tests.gate.reports import make_report
from tests.tiny_mdp import LOGGING, WORSE


@pytest.fixture(scope="module")
def promoted() -> dict[str, Any]:
    return make_report(1_500)


def tables(text: str) -> list[list[str]]:
    """The lines of every table."""
    return [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]


def test_the_headline_says_gain_and_certainty(promoted: dict[str, Any]) -> None:
    deciding = promoted["deciding"]
    assert promoted["verdict"] == "PROMOTE"
    said = headline(promoted, 7)
    assert f"about {plain(deciding['estimate'])} (" in said
    assert "%) more over 4 weeks" in said
    assert f"96.9% confidence at least {plain(deciding['lower'])} more" in said


def test_every_verdict_has_its_sentence(promoted: dict[str, Any]) -> None:
    rejected = make_report(1_500, Exhibits(), 0.5 * LOGGING + 0.5 * WORSE)
    assert headline(rejected, 7).startswith(
        "The new policy must not be used: with it a customer would have been worth about"
    )
    assert headline(make_report(20, Exhibits()), 1).startswith("Not enough evidence yet")
    assert headline(promoted | {"verdict": "DEFER", "opened": False}, 7).startswith("The test was not held")
    assert headline(promoted | {"deciding": None}, 7).startswith("Nothing could be judged")


def test_the_full_report_has_every_part(promoted: dict[str, Any]) -> None:
    text = markdown(promoted, 7)
    assert text.startswith("# PROMOTE: version 2 against 1\n")
    titles = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert titles == [
        "What each policy would have earned", "What the learned policy adds", "The gain, estimated in different ways",
        "How sure the gain is, if one assumes less",
        "What would change, outcome by outcome", "Who gains", "What customers would receive",
        "What the learned policy prefers where", "How far to step", "How many customers carry the evidence",
        "Whether the model of past choices is right", "What exploring would cost",
    ]  # fmt: skip
    assert "| tiredness: rested |" in text
    assert "MLflow run `run`" in text


@pytest.mark.parametrize("n", [1, 2, 200])
def test_tables_are_github_tables_without_html_or_pictures(n: int) -> None:
    report = make_report(n)
    for text in (markdown(report, 7), review_body(report, 7)):
        assert "](data:" not in text
        assert not re.search(r"<[a-z/!]", text)
        for lines in tables(text):
            cells = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
            assert len(cells) == 1, lines[0]
            assert re.fullmatch(r"\|( --- \|)+", lines[1])


def test_what_would_break_out_of_a_cell_is_escaped() -> None:
    assert table(("a",), [("x | <b>y\nz",)]).splitlines()[2] == r"| x \| &lt;b>y z |"


def test_the_reviewers_body_is_short_and_names_every_rule(promoted: dict[str, Any]) -> None:
    body = review_body(promoted, 7)
    assert len(body) < 3_000
    assert body.startswith("# PROMOTE: version 2 against 1\n")
    assert len(tables(body)[0]) == 2 + len(promoted["rules"])
    subject = review_subject({"programme": "shop", "incumbent_version": 1, "candidate_version": 2})
    assert subject == "shop: replace policy 1 by 2?"


def test_a_closed_gate_says_why(promoted: dict[str, Any]) -> None:
    body = review_body(promoted | {"verdict": "DEFER", "opened": False, "reasons": ["at λ = 0.5: too little"]}, 7)
    assert "**Why the test was not held**\n\n- at λ = 0.5: too little" in body


@pytest.mark.parametrize(("days", "words"), [(7, "4 weeks"), (1, "4 days"), (14, "8 weeks")])
def test_a_window_in_words(days: int, words: str) -> None:
    assert period(4, days) == words


def test_numbers_are_read_without_exponents() -> None:
    assert [plain(v) for v in (0.0, 1234.5, -0.01234, 0.0000234, None, float("inf"))] == [
        "0", "1,234", "−0.0123", "0.000023", "–", "–",
    ]  # fmt: skip
    assert (signed(2.0), signed(-2.0), signed(0.0)) == ("+2", "−2", "0")
    assert (percent(-0.051, 1), count(12345.6), count(None)) == ("−5.1%", "12,346", "–")
