"""
### Gate: what if?

Judges the candidate of a gate again with other thresholds, to see what they would have said. **Nothing here can be
approved**: the answer is kept beside the gate, is shown on its page, and the promotion review never reads it.

Start it by hand (**Trigger**, with the form). It works for the newest gates, as long as their transitions have not been
built anew. Do not lower a threshold in the programme file because a what-if passed: the error rates hold for thresholds
that were fixed before the data were seen.
"""

from typing import Any

from airflow.sdk import Param, dag, task

from nba_tasks.links import GateLink, beside
from nba_tasks.workflow import DEFAULT_ARGUMENTS, programme, programmes

THRESHOLDS = {
    "horizon": ("Decisions in a window", "integer"),
    "alpha": ("Error rate of a promotion without a gain", "number"),
    "margin": ("Gain a window that must be exceeded", "number"),
    "min_effective_size": ("Effective windows asked for", "number"),
    "min_effective_share": ("Effective windows asked for, as a share of all", "number"),
    "max_weight_share": ("Largest share of the weight in one window", "number"),
    "harm_relative": ("Rise of a harm allowed, as a share of the incumbent's rate", "number"),
    "harm_absolute": ("Rise of a harm allowed, per decision", "number"),
    "harm_min_events": ("Effective events of a harm asked for", "number"),
}


def gate_what_if(name: str) -> Any:
    """The DAG of one programme."""

    @dag(
        dag_id=f"{name}.gate_what_if",
        dag_display_name=f"{name}: gate, what if",
        schedule=None,
        catchup=False,
        max_active_runs=1,
        default_args=DEFAULT_ARGUMENTS | {"retries": 0},
        params={
            "gate_id": Param(
                None,
                type=["null", "integer"],
                title="Gate",
                description_md="Its number in the ledger. Empty: the newest.",
            ),
            **{
                key: Param(
                    None,
                    type=["null", kind],
                    title=title,
                    description_md=f"`gate.{key}`. Empty: as the programme file has it.",
                )
                for key, (title, kind) in THRESHOLDS.items()
            },
        },
        tags=["next best action", name],
        doc_md=__doc__,
    )
    def build() -> None:
        @task
        def judge(**context: Any) -> int:
            from nba_tasks import what_if

            given = context["params"]
            changed = {key: given[key] for key in THRESHOLDS if given[key] is not None}
            asked_by = context["dag_run"].triggering_user_name or "unknown"
            return what_if.ask(programme(name), given["gate_id"], changed, asked_by, context["run_id"])

        beside(judge(), GateLink())

    return build()


for _name in programmes():
    gate_what_if(_name)
