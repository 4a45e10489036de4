"""The charts that only the pages show: what they draw and what their tables say agree."""

from __future__ import annotations

from nba_tasks.pages.charts import charts_of_list, choice

NIGHT = {
    "actions": [],
    "segments": [],
    "limits": [
        {"name": "phone_slots", "at_most": 40.0, "wished": 55.5, "used": 40.0, "price": 1.25},
        {"name": "budget", "at_most": 0.0, "wished": 0.0, "used": 0.0, "price": None},
    ],
}


def test_a_limit_is_shown_as_the_share_that_is_used() -> None:
    (chart,) = charts_of_list(NIGHT)
    assert chart.data["rows"] == [{"label": "phone slots", "value": 1.0}]
    assert list(chart.rows) == [("phone slots", "40", "56", "40", "1.25")]


def test_a_list_of_earlier_days_knows_no_limits() -> None:
    assert charts_of_list({"actions": [], "segments": []}) == []


def test_the_choice_shows_best_chance_first_and_last_what_had_none() -> None:
    score = {"eligible": 0b1101, "probability": [0.25, 0.0, 0.75, 0.0], "expected_value": [1.5, 9.0, 2.0, 1.0]}
    (chart,) = choice({0: "no_action", 1: "email", 2: "mail", 3: "call"}, score, None)
    assert [(row["label"], row["value"], row["note"]) for row in chart.data["rows"]] == [
        ("mail", 0.75, "worth 2"),
        ("no_action", 0.25, "worth 1.5"),
        ("call", 0.0, "worth 1"),
        ("email", 0.0, "not allowed"),
    ]
    assert chart.rows[-1] == ("email", "0.0%", "9", "not allowed")
    assert chart.rows[0] == ("mail", "75.0%", "2", "")


def test_the_choice_of_a_policy_that_knows_no_values() -> None:
    decision = {
        "action_id": "mail", "eligible_actions": ["mail", "no_action"], "probabilities": [0.4, 0.6],
        "expected_values": None,
    }  # fmt: skip
    (chart,) = choice({}, None, decision)
    assert [(row["label"], row["chosen"], row["note"]) for row in chart.data["rows"]] == [
        ("no_action", False, ""),
        ("mail", True, ""),
    ]


def test_what_kept_an_action_out_is_told() -> None:
    score = {"eligible": 0b1011, "probability": [0.5, 0.3, 0.0, 0.2], "expected_value": [1.0, 2.0, 3.0, 4.0]}
    score |= {"probability": [0.5, 0.3, 0.0, 0.0]}
    decision = {
        "action_id": "no_action",
        "eligible_actions": ["no_action"],
        "probabilities": [1.0],
        "expected_values": [1.0],
    }
    (chart,) = choice({0: "no_action", 1: "email", 2: "mail", 3: "call"}, score, decision)
    assert {row["label"]: row["note"] for row in chart.data["rows"]} == {
        "no_action": "worth 1",
        "email": "no longer possible when the list was made",
        "mail": "not allowed",
        "call": "too seldom done to such customers",
    }


def test_nobody_decided_and_nobody_scored() -> None:
    assert choice({}, None, None) == []
