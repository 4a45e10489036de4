"""The gate's report for people: one sentence, the rules, the figures, and two pictures."""

from __future__ import annotations

import io
from typing import Any

SENTENCES = {
    "PROMOTE": "The new policy earns more than the one in use; every rule of the gate is met.",
    "DEFER": "There is not enough evidence yet to replace the policy in use.",
    "REJECT": "The new policy must not replace the one in use.",
}
MARKS = {"pass": "✓", "defer": "…", "reject": "✗"}


def markdown(content: dict[str, Any]) -> str:
    """The report as GitHub Markdown.

    Parameters
    ----------
    content : dict
        What `nba_tasks.trial.Held.to_dict` gives (also the ledger's column `report`).
    """
    lines = [
        f"# {content['verdict']}: version {content['candidate_version']} against {content['incumbent_version']}",
        "",
        SENTENCES[content["verdict"]],
        "",
        *_headline(content),
        "",
        *_reasons(content),
        "## Rules",
        "",
        "| | rule | found |",
        "|---|---|---|",
        *(f"| {MARKS[r['status']]} | {r['rule']} | {r['finding']} |" for r in content["rules"]),
        "",
        *_estimates(content),
        *_outcomes(content),
    ]
    return "\n".join(lines)


def _headline(content: dict[str, Any]) -> list[str]:
    judged, deciding = content["judged"], content["deciding"]
    if deciding is None:
        return []
    confidence = f"{1 - deciding['alpha']:.1%}"
    return [
        f"- **Gain per window** of {judged['horizon']} decisions: {_number(deciding['estimate'])}, with {confidence} "
        f"confidence at least {_number(deciding['lower'])} ({deciding['estimator']}, attempt {deciding['k']} against "
        "this incumbent)",
        f"- **Judged on** {judged['windows']:,} windows of {judged['customers']:,} customers nobody learned from; "
        f"{judged['logged_share']:.0%} of their decisions have a logged propensity",
        f"- **The new policy's share** (λ): {content['mix']:.0%}; the rest goes on as before",
    ]


def _reasons(content: dict[str, Any]) -> list[str]:
    if not content["reasons"]:
        return []
    title = "## Why not" if content["opened"] else "## Why the gate was not opened"
    return [title, "", *(f"- {reason}" for reason in content["reasons"]), ""]


def _estimates(content: dict[str, Any]) -> list[str]:
    rows = [
        f"| {f['estimator']} | {f['policy']} | {_number(f['value'])} | {_number(f['lower'])} … {_number(f['upper'])} |"
        for f in content["estimates"]
    ]
    return ["## Values per window", "", "| estimator | policy | value | interval |", "|---|---|---|---|", *rows, ""]


def _outcomes(content: dict[str, Any]) -> list[str]:
    rows = [
        f"| {f['outcome']} | {_number(f['value'])} | {_number(f['lower'])} … {_number(f['upper'])} |"
        for f in content["outcomes"]
        if f["policy"] == "difference"
    ]
    return [
        "## Change per window, each outcome by itself",
        "",
        "| outcome | change | interval |",
        "|---|---|---|",
        *rows,
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}" if abs(value) < 100 else f"{value:+,.0f}"


def review_subject(gate: dict[str, Any]) -> str:
    """One line for the list of required actions."""
    return f"{gate['programme']}: replace policy {gate['incumbent_version']} by {gate['candidate_version']}?"


def review_body(gate: dict[str, Any]) -> str:
    """What a reviewer sees beside the buttons."""
    return markdown(gate["report"])


def figures(content: dict[str, Any]) -> dict[str, bytes]:
    """The report's pictures as PNG, by name."""
    found = {"mix": _mix_figure(content)} if content["choice"]["forecasts"] else {}
    return found | ({"values": _values_figure(content)} if content["estimates"] else {})


def _values_figure(content: dict[str, Any]) -> bytes:
    """Every estimator's opinion of the difference, with its interval."""
    from matplotlib.figure import Figure

    rows = [f for f in content["estimates"] if f["policy"] == "difference"][::-1]
    figure = Figure(figsize=(7, 0.5 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    for position, row in enumerate(rows):
        if row["value"] is not None and row["lower"] is not None:
            axes.plot([row["lower"], row["upper"]], [position] * 2, color="#4477aa", lw=2)
            axes.plot(row["value"], position, "o", color="#4477aa")
    axes.axvline(0, color="#888888", lw=1)
    axes.set_yticks(range(len(rows)), [row["estimator"] for row in rows])
    axes.set_xlabel("gain per window over the incumbent")
    axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def _mix_figure(content: dict[str, Any]) -> bytes:
    """What the select split promises of every share of the new policy."""
    from matplotlib.figure import Figure

    forecasts = content["choice"]["forecasts"]
    mixes = [f["mix"] for f in forecasts]
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(mixes, [f["estimate"] for f in forecasts], color="#4477aa", label="estimated gain")
    axes.plot(mixes, [f["predicted_lower"] for f in forecasts], color="#ee6677", label="predicted lower bound")
    axes.axvline(content["mix"], color="#888888", lw=1, ls="--", label="chosen")
    axes.axhline(0, color="#888888", lw=1)
    axes.set_xlabel("share of the new policy (λ)")
    axes.set_ylabel("gain per window")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return _png(figure)


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
