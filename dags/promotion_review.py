"""
### Promotion review

The only place where the policy in use (`champion`) changes. A gate with the verdict PROMOTE waits here until somebody
approves or rejects it (**Required actions**), or the programme's `auto_promote` answers: it may do so only where every
propensity was logged. DEFER and REJECT cannot be approved; they are closed here, and the incumbent stays.

No answer within the programme's `review.timeout_hours` counts as a rejection. Rejecting changes nothing: the incumbent
goes on. An approval that comes too late (a newer gate was held, or the incumbent has changed) is refused with the
reason in the log of `promote`. To go back to the champion before: `nba rollback PROGRAMME`.
"""

import datetime as dt
from typing import Any

from airflow.sdk import Param, dag, task

from nba_tasks.approval import ANSWER, Approval
from nba_tasks.links import GateLink, MlflowLink, beside, gate_page
from nba_tasks.programme import Programme
from nba_tasks.workflow import DEFAULT_ARGUMENTS, from_event, gate_asset, programme, programmes

FORM = {
    "gate_id": Param(
        None,
        type=["null", "integer"],
        title="Gate",
        description_md="Its number in the ledger. Empty: the gate that started this run, else the newest.",
    ),
    "demotion_id": Param(
        None,
        type=["null", "integer", "string"],
        title="Demotion",
        description_md="A proposal of the outcomes DAG to take the policy in use out of it; instead of a gate.",
    ),
}


def promotion_review(name: str, selected: Programme) -> Any:
    """The DAG of one programme."""

    @dag(
        dag_id=f"{name}.promotion_review",
        dag_display_name=f"{name}: promotion review",
        schedule=[gate_asset(name)],
        catchup=False,
        default_args=DEFAULT_ARGUMENTS,
        params=FORM,
        tags=["next best action", name],
        doc_md=__doc__,
    )
    def build() -> None:
        @task
        def report(**context: Any) -> dict[str, Any]:
            from nba_tasks import steps

            if (proposal := context["params"]["demotion_id"]) is not None:
                return steps.demotion_report(programme(name), int(proposal))
            wanted = context["params"]["gate_id"] or from_event(context, "gate_id")
            found = steps.review_report(programme(name), wanted, context["run_id"])
            return found | {"body": f"[The evidence in full]({gate_page(found['gate_id'])})\n\n{found['body']}"}

        @task.branch
        def route(gate: dict[str, Any]) -> str:
            return str(gate["route"])

        ask = Approval(
            task_id="ask",
            subject="{{ ti.xcom_pull(task_ids='report')['subject'] }}",
            body="{{ ti.xcom_pull(task_ids='report')['body'] }}",
            defaults=Approval.REJECT,
            response_timeout=dt.timedelta(hours=selected.review.timeout_hours),
            assigned_users=[{"id": user, "name": user} for user in selected.review.reviewers] or None,
            params={"comment": Param("", type="string", title="Comment", description_md="Kept in the ledger.")},
        )

        @task
        def approve_automatically(gate: dict[str, Any]) -> None:
            from nba_tasks import steps

            steps.approve_automatically(programme(name), gate["gate_id"])

        @task
        def close(gate: dict[str, Any]) -> None:
            from nba_tasks import steps

            if gate["gate_id"] is not None:
                steps.close_review(programme(name), gate["gate_id"])

        @task
        def promote(gate: dict[str, Any], **context: Any) -> None:
            _answer(name, gate, context["ti"].xcom_pull(task_ids="ask", key=ANSWER))

        @task(trigger_rule="none_failed")
        def reject(gate: dict[str, Any], **context: Any) -> None:
            _answer(name, gate, context["ti"].xcom_pull(task_ids="ask", key=ANSWER))

        gate = report()
        for task_or_operator in (gate, ask):
            beside(task_or_operator, GateLink(), MlflowLink())
        routed = route(gate)
        promoted = promote(gate)
        routed >> [ask, approve_automatically(gate), close(gate)]
        # A rejection skips `promote`; `reject` then writes it down, and does nothing after an approval.
        ask >> promoted >> reject(gate)

    return build()


def _answer(name: str, gate: dict[str, Any], answer: dict[str, Any] | None) -> None:
    from nba_tasks import steps

    if gate["gate_id"] is None:
        steps.answer_demotion(programme(name), gate["demotion_id"], answer)
    else:
        steps.answer_review(programme(name), gate["gate_id"], answer)


for _name, _programme in programmes().items():
    promotion_review(_name, _programme)
