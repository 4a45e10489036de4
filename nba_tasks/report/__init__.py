"""The gate's report for people: sentences, tables and pictures, all from the machine report."""

from nba_tasks.report.chart import Chart, Report
from nba_tasks.report.charts import charts_of_gate
from nba_tasks.report.document import markdown, review_body, review_subject
from nba_tasks.report.wording import period

__all__ = ["Chart", "Report", "charts_of_gate", "markdown", "pictures_of", "review_body", "review_subject"]


def pictures_of(report: Report, interval_days: int) -> dict[str, bytes]:
    """Every chart of a gate as a PNG, by its name."""
    from nba_tasks.report.pictures import picture

    over = period(report["judged"]["horizon"], interval_days)
    return {chart.name.replace("-", "_"): picture(chart) for chart in charts_of_gate(report, over)}
