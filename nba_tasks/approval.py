"""The question that the promotion review puts to a person."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator

ANSWER = "answer"
"""Key of the XCom that holds what was answered, by whom and why."""


class Approval(ApprovalOperator):
    """Airflow's approval, which keeps a rejection as well.

    On a rejection the operator skips what comes next by an exception, so that what it would have returned is lost; who
    rejected, and why, must reach the ledger.
    """

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Keep the answer, then go on as Airflow does."""
        kept = {key: event.get(key) for key in ("chosen_options", "params_input", "responded_by_user")}
        context["ti"].xcom_push(ANSWER, kept)
        return super().execute_complete(context, event)
