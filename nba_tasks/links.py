"""Links beside a task in Airflow's UI, to what its run made: the gate, MLflow, the list."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import attrs
from airflow.sdk import BaseOperatorLink
from airflow.sdk.configuration import conf

from nba_tasks.pages import PREFIX


@attrs.define(init=False)
class RunLink(BaseOperatorLink):
    """A link that the pages resolve when it is followed: what it leads to need not exist when the task starts."""

    name = "Run"
    leads_to = ""

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The address of what the task's run made."""
        return _page(f"runs/{ti_key.dag_id}/{quote(ti_key.run_id, safe='')}/{self.leads_to}")


class GateLink(RunLink):
    """To the gate's page."""

    name = "Gate"
    leads_to = "gate"


class MlflowLink(RunLink):
    """To the run in MLflow."""

    name = "MLflow run"
    leads_to = "mlflow"


class ListLink(RunLink):
    """To the night's list."""

    name = "Action list"
    leads_to = "list"


class ValidationLink(RunLink):
    """To Great Expectations' report of what was pulled."""

    name = "Validation report"
    leads_to = "validation"


def gate_page(gate_id: int) -> str:
    """The address of a gate's page."""
    return _page(f"gates/{gate_id}")


def _page(path: str) -> str:
    base = str(conf.get("api", "base_url", fallback="") or "").rstrip("/")
    return f"{base}{PREFIX}/{path}"


def beside(task: Any, *links: RunLink) -> None:
    """Show links beside a task of a DAG."""
    getattr(task, "operator", task).operator_extra_links = links
