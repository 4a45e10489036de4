"""A gate's report as GitHub Markdown: in full for MLflow, in short for whoever decides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from nba_tasks.report.chart import Chart, Report
from nba_tasks.report.charts import charts_of_gate
from nba_tasks.report.numbers import count, percent
from nba_tasks.report.wording import Check, checklist, headline, period, tiles

HEAVIEST = 0.01
"""The share of windows of which the full report says how much weight they carry."""


def markdown(report: Report, interval_days: int) -> str:
    """The full report.

    Parameters
    ----------
    report : mapping
        The machine report (`nba_tasks/gate/report_schema.json`), also the ledger's column `report`.
    interval_days : int
        Days between decisions.
    """
    over = period(report["judged"]["horizon"], interval_days)
    parts = [_in_short(report, interval_days)]
    parts += [_section(chart, report) for chart in charts_of_gate(report, over)]
    run, dag_run = (report.get("links", {}).get(key) for key in ("mlflow_run_id", "dag_run_id"))
    parts.append([f"MLflow run `{run}`" + (f", training run `{dag_run}`" if dag_run else "")] if run else [])
    return "\n\n".join(line for part in parts for line in part) + "\n"


def review_subject(gate: dict[str, Any]) -> str:
    """One line for the list of required actions."""
    return f"{gate['programme']}: replace policy {gate['incumbent_version']} by {gate['candidate_version']}?"


def review_body(report: Report, interval_days: int) -> str:
    """What a reviewer sees beside the buttons: the verdict in a sentence, the figures that matter, the checklist."""
    return "\n\n".join(_in_short(report, interval_days)) + "\n"


def _in_short(report: Report, interval_days: int) -> list[str]:
    facts = [f"- **{tile.title}:** {tile.value} {tile.meaning}" for tile in tiles(report, interval_days)]
    blocked = [] if report["opened"] else ["**Why the test was not held**", _bullets(report["reasons"])]
    blocked += [] if report["opened"] else ["For information, and no proof, what the gate asks:"]
    rows = [(f"{check.mark} {check.label}", check.title, _found(check)) for check in checklist(report)]
    title = f"# {report['verdict']}: version {report['candidate_version']} against {report['incumbent_version']}"
    return [title, headline(report, interval_days), "\n".join(facts), *blocked, table(("", "rule", "found"), rows)]


def _found(check: Check) -> str:
    remedy = f" **What would help:** {check.remedy}." if check.remedy else ""
    return f"{check.finding}.{remedy}"


def _section(chart: Chart, report: Report) -> list[str]:
    """A chart's title, how to read it, and its figures: as a table, or in short where that would be long."""
    heading = [f"## {chart.title}", chart.explanation]
    match chart.name:
        case "weight-tail":
            return [*heading, _bullets(_tail_in_words(chart.data["lines"]))]
        case "calibration":
            rows = [
                (row["action_id"], f"{100 * row['expected_calibration_error']:.1f} points", count(row["decisions"]))
                for row in report["calibration"]
                if row["bins"]
            ]
            return [*heading, table(("action", "off by, on average", "decisions"), rows)]
        case "mix":  # what stands in the way is among the reasons
            return [*heading, table(chart.columns[:-1], [row[:-1] for row in chart.rows])]
        case "state-map":
            return [*heading, _as_map(chart)]
        case _:
            return [*heading, table(chart.columns, chart.rows)]


def _tail_in_words(lines: Iterable[dict[str, Any]]) -> list[str]:
    """What the heaviest windows carry, for each policy."""
    found = []
    for line in lines:
        windows, weight = min(line["points"], key=lambda point: abs(point[0] - HEAVIEST))
        found.append(f"{line['label']}: the heaviest {percent(windows, 1)} of the windows carry {percent(weight, 1)}")
    return found


def _as_map(chart: Chart) -> str:
    x, y = chart.data["x"], chart.data["y"]
    fields = {(c["x"], c["y"]): f"{c['action_id']} ({percent(c['share'])})" for c in chart.data["cells"]}
    rows = [(label, *(fields.get((i, j), "") for i in range(len(x["ticks"])))) for j, label in enumerate(y["ticks"])]
    return table((f"{y['label']} ↓ {x['label']} →", *x["ticks"]), rows)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A GitHub Markdown table; what would break out of a cell is escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;").replace("\n", " ")


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
