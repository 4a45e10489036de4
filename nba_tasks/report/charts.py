"""The charts of a gate, functions of its report. A report of an earlier version lacks some parts; they are left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nba_tasks.report.chart import INTERVAL, Chart, Report, Rows, in_range, interval
from nba_tasks.report.numbers import count, percent, plain, signed
from nba_tasks.report.policy_charts import ahead, values


def charts_of_gate(report: Report, over: str) -> list[Chart]:
    """Every chart that the report has figures for; `over` says how long a window lasts."""
    return [chart for part in PARTS for chart in part(report, over)]


METHODS = {
    "IS": "weighting whole windows (IS)",
    "WIS": "the same, normalised (WIS)",
    "PDIS": "weighting decisions (PDIS)",
    "SN-PDIS": "the same, normalised (SN-PDIS)",
    "DM": "a model alone (DM)",
    "DR": "model and weighting (DR)",
    "WDR": "the same, normalised (WDR)",
}


def _gain(report: Report, over: str) -> Iterator[Chart]:
    """Every estimator's opinion of the gain."""
    found = [row for row in report["estimates"] if row["policy"] == "difference"]
    if not found:
        return
    decides = report["deciding"]["estimator"]
    rows = [
        {
            "label": METHODS.get(row["estimator"], row["estimator"])
            + (": decides" if row["estimator"] == decides else ""),
            "kind": "candidate" if row["estimator"] == decides else "other",
            **interval(row),
        }
        for row in found
    ]
    yield Chart(
        "gain",
        "forest",
        "The gain, estimated in different ways",
        "Each method errs in its own way. Which one decides was fixed before anybody looked; the others must agree "
        "with it on who is ahead.",
        {"rows": rows, "x": f"gain per customer over {over}", "zero": True},
        ("method", "gain", "range"),
        [(row["label"], signed(row["value"]), in_range(row, signed)) for row in rows],
    )


def _bounds(report: Report, over: str) -> Iterator[Chart]:
    """How sure the gain is, by bounds that assume less and less."""
    deciding, robust = report["deciding"], report.get("robust")
    if not deciding or not robust:
        return
    value = deciding["estimate"]
    found = [("all looks at once (confidence sequence)", "sequence", value, deciding["sequence"])]
    if deciding["bound"] == "t":
        found.insert(0, ("one look (t, corrected for skewness)", "t", value, (deciding["lower"], deciding["upper"])))
    if report["bootstrap"]:
        found.append(("customers drawn again (BCa bootstrap)", "bootstrap", value, report["bootstrap"]))
    robust_name = "all looks, whatever the tails (betting)"
    found.append((robust_name, "robust", robust["estimate"], (robust["lower"], robust["upper"])))
    rows = [
        {
            "label": label + (": decides" if name == deciding["bound"] else ""),
            "kind": "candidate" if name == deciding["bound"] else "other",
            "value": estimate,
            "lower": low,
            "upper": high,
        }
        for label, name, estimate, (low, high) in found
    ]
    side, resampled = percent(deciding["alpha"], 2), percent(deciding["family_alpha"] / 2, 2)
    yield Chart(
        "bounds",
        "forest",
        "How sure the gain is, if one assumes less",
        f"The same gain between other bounds. Each end errs with at most {side} (the bootstrap's with {resampled}). "
        "The fewer assumptions, the wider: the last holds for any size of order and weight, judges one window of each "
        f"customer, and takes a decision's reward to lie between {plain(robust['lowest_reward'])} and "
        f"{plain(robust['highest_reward'])}, the range among customers who do not judge. Which one decides was fixed "
        "beforehand.",
        {"rows": rows, "x": f"gain per customer over {over}", "zero": True},
        ("bound", "gain", "range"),
        [(row["label"], signed(row["value"]), in_range(row, signed)) for row in rows],
    )


def _outcomes(report: Report, over: str) -> Iterator[Chart]:
    """Each objective by itself, as a share of what the incumbent has of it."""
    by_name: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in report["outcomes"]:
        by_name.setdefault(row["outcome"], {})[row["policy"]] = row
    rows, table = [], []
    for name, found in by_name.items():
        change, base = found["difference"], found["incumbent"]["value"]
        label = name.replace("_", " ")
        table.append(
            (label, plain(base), plain(found["candidate"]["value"]), signed(change["value"]), in_range(change, signed))
        )
        if base:
            scaled = {key: None if change[key] is None else change[key] / abs(base) for key in INTERVAL}
            rows.append({"label": label, "kind": "candidate", **scaled})
    if table:
        yield Chart(
            "outcomes",
            "forest",
            "What would change, outcome by outcome",
            f"Change per customer over {over}, as a share of what the policy in use brings. Left of 0: less of it.",
            {"rows": rows, "x": "change against the policy in use", "zero": True, "percent": True},
            ("outcome", "policy in use", "new policy", "change", "range"),
            table,
        )


def _segments(report: Report, over: str) -> Iterator[Chart]:
    """The gain by segment."""
    found: Rows = report.get("segments") or ()
    if not found:
        return
    rows = [
        {
            "label": row["label"],
            "group": row["feature"].replace("_", " "),
            "kind": "candidate",
            "value": row["estimate"],
            "lower": row["lower"],
            "upper": row["upper"],
        }
        for row in found
    ]
    yield Chart(
        "segments",
        "forest",
        "Who gains",
        "The gain among customers of each kind. Each range holds by itself: of many, a few miss the truth by chance.",
        {"rows": rows, "x": f"gain per customer over {over}", "zero": True},
        ("kind", "customers", "gain", "range"),
        [
            (f"{row['group']}: {row['label']}", count(given["customers"]), signed(row["value"]), in_range(row, signed))
            for row, given in zip(rows, found, strict=True)
        ],
    )


def _action_mix(report: Report, over: str) -> Iterator[Chart]:
    """How often each action is taken, before and after."""
    found: Rows = report.get("action_mix") or ()
    if not found:
        return
    series = {"log": "as it really went", "incumbent": "policy in use", "candidate": "new policy"}
    yield Chart(
        "action-mix",
        "shares",
        "What customers would receive",
        "How often each action is chosen. The way from the policy in use to the new one is what you approve.",
        {
            "rows": [{"label": row["action_id"], **{key: row.get(key) for key in series}} for row in found],
            "series": series,
            "x": "share of decisions",
        },
        ("action", *series.values()),
        [(row["action_id"], *(percent(row.get(key), 1) for key in series)) for row in found],
        series,
    )


def _weight_tail(report: Report, over: str) -> Iterator[Chart]:
    """How evenly the evidence is spread."""
    tail: Mapping[str, Rows] = {who: points for who, points in (report.get("weight_tail") or {}).items() if points}
    if not tail:
        return
    names = {"candidate": "new policy", "incumbent": "policy in use"}
    lines = [
        {"kind": who, "label": names.get(who, who), "points": [[p["windows"], p["weight"]] for p in points]}
        for who, points in tail.items()
    ]
    yield Chart(
        "weight-tail",
        "lines",
        "How many customers carry the evidence",
        "Windows of the log that look like the policy's own choices count more. If a small part of them carries most "
        "of the weight, the estimate hangs on few people.",
        {
            "lines": lines, "x": "share of windows, heaviest first", "y": "share of the weight that they carry",
            "percent": True, "diagonal": True,
        },
        ("policy", "heaviest windows", "carry of the weight"),
        [
            (str(line["label"]), percent(x, 1), percent(y, 1))
            for line in lines
            for x, y in line["points"]
        ],
        names,
    )  # fmt: skip


def _calibration(report: Report, over: str) -> Iterator[Chart]:
    """Whether predicted propensities come true."""
    found: Rows = [row for row in report.get("calibration") or () if row["bins"]]
    if not found:
        return
    yield Chart(
        "calibration",
        "calibration",
        "Whether the model of past choices is right",
        "Where the model says that an action is chosen one time in five, was it? Points on the diagonal say yes.",
        {"panels": [{"label": _calibrated(row), "bins": row["bins"]} for row in found]},
        ("action", "predicted", "observed", "range", "decisions"),
        [
            (
                row["action_id"], percent(each["predicted"], 1), percent(each["observed"], 1),
                in_range(each, lambda value: percent(value, 1)), count(each["decisions"]),
            )
            for row in found
            for each in row["bins"]
        ],
    )  # fmt: skip


def _calibrated(row: Mapping[str, Any]) -> str:
    """An action, and how far the model of it is off."""
    return f"{row['action_id']}: off by {100 * row['expected_calibration_error']:.1f} points"


def _by_epsilon(report: Report, over: str) -> Iterator[Chart]:
    """What exploring costs."""
    found: Rows = report.get("value_by_epsilon") or ()
    if not found:
        return
    yield Chart(
        "value-by-epsilon",
        "band",
        "What exploring would cost",
        "The more decisions are left to chance (ε), the more the next policy can learn, and the less this one earns.",
        {
            "rows": [
                {"x": row["epsilon"], "value": row["value"], "lower": row["lower"], "upper": row["upper"]}
                for row in found
            ],
            "x": "share of decisions left to chance (ε)",
            "y": f"earned per customer over {over}",
        },
        ("ε", "value", "range", "effective windows"),
        [
            (percent(row["epsilon"]), plain(row["value"]), in_range(row, plain), count(row.get("effective_size")))
            for row in found
        ],
    )


def _mix(report: Report, over: str) -> Iterator[Chart]:
    """How far to step."""
    found: Rows = report["choice"]["forecasts"]
    if not found:
        return
    yield Chart(
        "mix",
        "mix",
        "How far to step",
        "What the customers kept for this choice promise of every share of the new policy: its gain, and what the test "
        "is likely to prove. A larger step may gain more and is harder to prove.",
        {
            "rows": [
                {"x": row["mix"], "value": row["estimate"], "lower": row["predicted_lower"], "power": row["power"]}
                for row in found
            ],
            "chosen": report["mix"] if report["opened"] else None,
            "x": "share of the new policy (λ)",
            "y": f"gain per customer over {over}",
        },
        ("share", "gain", "likely to be proved", "chance to pass", "in the way"),
        [
            (
                percent(row["mix"]), signed(row["estimate"]), signed(row["predicted_lower"]),
                percent(row["power"]), "; ".join(row["obstacles"]) or "nothing",
            )
            for row in found
        ],
        {"candidate": "gain", "log": "likely to be proved"},
    )  # fmt: skip


def _state_map(report: Report, over: str) -> Iterator[Chart]:
    """Which action where."""
    found = report.get("state_map")
    if not found or not found["cells"]:
        return
    x, y = found["x"], found["y"]
    names = {axis: found[axis]["feature"].replace("_", " ") for axis in ("x", "y")}
    yield Chart(
        "state-map",
        "map",
        "What the learned policy prefers where",
        f"Customers by {names['x']} and {names['y']}, the two features that move its choice most: the action that it "
        "prefers most often there, and how much it expects to earn from then on (the stronger the colour, the more). "
        + (
            f"It is shown unmixed: {percent(report['mix'])} of the decisions would follow it, the rest go on as before."
            if report["mix"] < 1
            else "But for a little exploration every decision would follow it."
        ),
        {
            "x": {"label": names["x"], "ticks": x["labels"]},
            "y": {"label": names["y"], "ticks": y["labels"]},
            "cells": found["cells"],
        },
        (names["x"], names["y"], "decisions", "action", "its share", "expected value"),
        [
            (
                str(x["labels"][cell["x"]]), str(y["labels"][cell["y"]]), count(cell["decisions"]),
                cell["action_id"], percent(cell["share"]), plain(cell["value"]),
            )
            for cell in found["cells"]
        ],
    )  # fmt: skip


PARTS = (
    values, ahead, _gain, _bounds, _outcomes, _segments, _action_mix, _state_map, _mix, _weight_tail,
    _calibration, _by_epsilon,
)  # fmt: skip
