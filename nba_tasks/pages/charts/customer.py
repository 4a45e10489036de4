"""The charts of one customer."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from nba_tasks.pages.rendering import day, moment
from nba_tasks.report.chart import Chart
from nba_tasks.report.numbers import percent, plain

Row = Mapping[str, Any]


def choice(actions: Mapping[int, str], score: Row | None, decision: Row | None) -> list[Chart]:
    """Value and chance of every action on that night, as published, else as scored; those without a chance as well."""
    rows = _published(decision) if decision else _scored(actions, score) if score else []
    if not rows:
        return []
    taken = decision["action_id"] if decision else None
    ordered = sorted(rows, key=lambda row: -(row[1] or 0))
    kept_from = _kept_from(actions, score, {action for action, *_ in rows}) if score else []
    return [
        Chart(
            "choice",
            "bars",
            "What could have been chosen",
            "Each action's chance on that night, and what the customer is expected to be worth from then on. The draw "
            "among them was at random with just these chances; from that the next gate learns.",
            {
                "rows": [
                    {
                        "label": action,
                        "value": chance,
                        "chosen": action == taken,
                        "note": "" if value is None else f"worth {plain(value)}",
                    }
                    for action, chance, value in ordered
                ]
                + [{"label": action, "value": 0.0, "chosen": False, "note": why} for action, _, why in kept_from],
                "x": "chance",
                "percent": True,
            },
            ("action", "chance", "expected value", ""),
            [
                (action, percent(chance, 1), plain(value), "chosen" if action == taken else "")
                for action, chance, value in ordered
            ]
            + [(action, percent(0.0, 1), plain(value), why) for action, value, why in kept_from],
        )
    ]


Odds = tuple[str, float, float | None]
"""An action, its chance, and the customer's value after it."""


def _published(decision: Row) -> list[Odds]:
    values = decision["expected_values"] or [None] * len(decision["eligible_actions"])
    return list(zip(decision["eligible_actions"], decision["probabilities"], values, strict=True))


def _scored(actions: Mapping[int, str], score: Row) -> list[Odds]:
    return [
        (actions[index], chance, score["expected_value"][index])
        for index, chance in enumerate(score["probability"])
        if score["eligible"] & (1 << index)
    ]


def _kept_from(actions: Mapping[int, str], score: Row, possible: set[str]) -> list[tuple[str, float | None, str]]:
    """Actions without a chance, what they would be worth, and what kept them out."""

    def why(index: int) -> str:
        if not score["eligible"] & (1 << index):
            return "not allowed"
        if score["probability"][index] > 0:
            return "no longer possible when the list was made"
        return "too seldom done to such customers"

    return [
        (actions[index], value, why(index))
        for index, value in enumerate(score["expected_value"])
        if actions[index] not in possible
    ]


def timeline(
    happened: Sequence[Row], decisions: Mapping[dt.date, Row], span: tuple[dt.date, dt.date], zone: ZoneInfo
) -> Chart:
    """Contacts, events and decisions."""
    rows = [
        {
            "moment": row["moment"].isoformat(),
            "when": moment(row["moment"], zone.key),
            "kind": row["kind"],
            "lane": row["what"].replace("_", " "),
            "value": "" if row["value"] is None else plain(row["value"]),
        }
        for row in happened
    ]
    rows += [
        {
            "moment": row["decided_at"].isoformat(),
            "when": day(night),
            "kind": "decision",
            "lane": "decision",
            "value": row["action_id"],
        }
        for night, row in decisions.items()
        if span[0] <= night <= span[1]
    ]
    rows.sort(key=lambda row: row["moment"], reverse=True)
    order = {"decision": 0, "contact": 1, "event": 2}
    lanes = sorted({(order[row["kind"]], row["lane"]) for row in rows})
    return Chart(
        "timeline",
        "timeline",
        "What happened",
        f"Contacts, what the customer did, and decisions, from {day(span[0])} to {day(span[1])}.",
        {
            "rows": rows,
            "lanes": [lane for _, lane in lanes],
            "span": [span[0].isoformat(), (span[1] + dt.timedelta(days=1)).isoformat()],
        },
        ("when", "kind", "what", ""),
        [(row["when"], row["kind"], row["lane"], row["value"]) for row in rows],
        {"incumbent": "decision", "candidate": "contact", "log": "what the customer did"},
    )
