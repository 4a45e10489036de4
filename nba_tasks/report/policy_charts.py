"""The charts of a gate that set policies side by side: what each would have earned, and what the learned one adds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nba_tasks.report.chart import Chart, Report, Rows, in_range, interval
from nba_tasks.report.numbers import count, plain, signed


def values(report: Report, over: str) -> Iterator[Chart]:
    """All policies and baselines."""
    found: Rows = report.get("policies") or _from_estimates(report)
    if not found:
        return
    rows = [{"label": _policy(row), "kind": row["kind"], **interval(row)} for row in found]
    yield Chart(
        "values",
        "forest",
        "What each policy would have earned",
        f"A customer's worth over {over}: the estimate, and the range that the log leaves open. Ranges of two policies "
        "may overlap although one is surely better: both are judged on the same customers, and what they share "
        "cancels in the gain.",
        {"rows": rows, "x": f"earned per customer over {over}"},
        ("policy", "value", "range", "effective windows"),
        [
            (row["label"], plain(row["value"]), in_range(row, plain), count(given.get("effective_size")))
            for row, given in zip(rows, found, strict=True)
        ],
        {
            "candidate": "new policy",
            "incumbent": "policy in use",
            "log": "as it really went",
            "baseline": "for comparison",
        },
    )


POLICIES = {"candidate": "new policy", "incumbent": "policy in use", "as logged": "as it really went"}

LITTLE_EVIDENCE = 0.1
"""Share of all windows: a policy that counts like fewer is marked."""


def _policy(row: Mapping[str, Any]) -> str:
    """A policy's name, and whether little is known of it."""
    known = row.get("effective_share", 1.0) >= LITTLE_EVIDENCE
    name = str(row["policy"])
    return POLICIES.get(name, name) + ("" if known else " (little\u00a0evidence)")


def _from_estimates(report: Report) -> Rows:
    """Candidate, incumbent and log of a report that has no policies of its own."""
    deciding = report["deciding"]
    wanted = ("observed", deciding["estimator"]) if deciding else ()
    return [
        {**row, "kind": row["policy"], "policy": "as logged" if row["policy"] == "log" else row["policy"]}
        for row in report["estimates"]
        if row["estimator"] in wanted and row["policy"] != "difference"
    ]


def ahead(report: Report, over: str) -> Iterator[Chart]:
    """What the learned policy adds to simpler ones."""
    found = report.get("learned_gains")
    if not found:
        return
    rows = [{"label": row["over"], "kind": _sure(row)[0], **interval(row)} for row in found]
    yield Chart(
        "ahead",
        "forest",
        "What the learned policy adds",
        "The learned policy by itself, before it is mixed with the policy in use, beside simpler ones: what it earns "
        "more than each on the same customers. Where the range holds 0 no gain is shown. Nothing here decides.",
        {"rows": rows, "x": f"gain per customer over {over}", "zero": True},
        ("simpler policy", "the learned policy earns", "range", "so"),
        [(row["over"], signed(row["value"]), in_range(row, signed), _sure(row)[1]) for row in found],
        {"candidate": "gain", "incumbent": "loss", "other": "no gain shown"},
    )


def _sure(row: Mapping[str, Any]) -> tuple[str, str]:
    """What a range says of a gain: its colour, and the word; an open end says nothing."""
    if (row["lower"] or 0) > 0:
        return "candidate", "gain"
    return ("incumbent", "loss") if (row["upper"] or 0) < 0 else ("other", "no gain shown")
