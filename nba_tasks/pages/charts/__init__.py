"""The charts that only the pages show; a gate's are those of its report."""

from nba_tasks.pages.charts.customer import choice, timeline
from nba_tasks.pages.charts.night import charts_of_list

__all__ = ["charts_of_list", "choice", "timeline"]
