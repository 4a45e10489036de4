"""The charts of a night's list, functions of what nba_tasks.lists.summarise gives."""

from __future__ import annotations

from collections.abc import Iterator

from nba_tasks.report.chart import Chart, Report, Rows
from nba_tasks.report.numbers import count, percent, plain


def charts_of_list(summary: Report) -> list[Chart]:
    """Every chart of a night's list."""
    return [chart for part in (_actions, _segments, _rules, _limits) for chart in part(summary)]


def _actions(summary: Report) -> Iterator[Chart]:
    found: Rows = summary["actions"]
    if found:
        yield Chart(
            "actions",
            "bars",
            "What is decided",
            "How many of the customers who were due get each action, leaving them alone included.",
            {"rows": [{"label": row["action_id"], "value": row["decisions"]} for row in found], "x": "customers"},
            ("action", "channel", "customers", "allowed for", "expected of the chances", "mean expected value"),
            [
                (
                    row["action_id"], row["channel"] or "–", count(row["decisions"]), count(row["allowed"]),
                    count(row["chances"]), plain(row["expected_value"]),
                )
                for row in found
            ],
        )  # fmt: skip


def _segments(summary: Report) -> Iterator[Chart]:
    found: Rows = summary["segments"]
    if found:
        rows = [(row["feature"].replace("_", " "), row) for row in found]
        yield Chart(
            "segments",
            "bars",
            "Who is contacted",
            "The share of the customers of each kind who are to be contacted tonight.",
            {
                "rows": [
                    {"label": row["label"], "group": group, "value": row["to_send"] / row["decisions"]}
                    for group, row in rows
                ],
                "x": "share to be contacted",
                "percent": True,
            },
            ("kind", "customers", "to be contacted", "share", "mean expected value"),
            [
                (
                    f"{group}: {row['label']}", count(row["decisions"]), count(row["to_send"]),
                    percent(row["to_send"] / row["decisions"], 1), plain(row["expected_value"]),
                )
                for group, row in rows
            ],
        )  # fmt: skip


def _rules(summary: Report) -> Iterator[Chart]:
    found: Rows = summary.get("held_back") or []
    if found:
        actions = list(dict.fromkeys(action for row in found for action in row["actions"]))
        yield Chart(
            "rules",
            "bars",
            "What the rules forbade",
            "How many of the customers who were due each rule kept from at least one action. What several rules "
            "forbid counts with each.",
            {
                "rows": [{"label": row["rule"].replace("_", " "), "value": row["customers"]} for row in found],
                "x": "customers",
            },
            ("rule", "customers", *actions),
            [
                (
                    row["rule"].replace("_", " "), count(row["customers"]),
                    *(count(row["actions"][action]) if action in row["actions"] else "–" for action in actions),
                )
                for row in found
            ],
        )  # fmt: skip


def _limits(summary: Report) -> Iterator[Chart]:
    found: Rows = [row for row in summary.get("limits") or () if row["at_most"]]
    if found:
        yield Chart(
            "limits",
            "bars",
            "What was scarce",
            "How much of each limit is used. Where more was wished than there is, a slot goes to whom it is "
            "worth most.",
            {
                "rows": [
                    {"label": row["name"].replace("_", " "), "value": row["used"] / row["at_most"]} for row in found
                ],
                "x": "share of the limit",
                "percent": True,
            },
            ("limit", "at most", "wished", "used", "one more would be worth"),
            [
                (
                    row["name"].replace("_", " "), count(row["at_most"]), count(row["wished"]), count(row["used"]),
                    plain(row["price"]),
                )
                for row in found
            ],
        )  # fmt: skip
