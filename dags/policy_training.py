"""
### Policy training

Learns a new policy from the history and tests it against the one in use. Starts when new history arrives, at most once
a week; by hand at any time (**Trigger**, with the form).

| task | what it does |
|---|---|
| `plan` | decides whether it is time, and prepares the transitions table |
| `transitions` | one mapped task a shard: cuts the history into one row per customer and epoch |
| `learn` | fits the model of business as usual and the Q-function; logs both to MLflow |
| `gate` | chooses how far to step from the incumbent, tests the candidate on unseen customers, writes the ledger |

The verdict is **PROMOTE**, **DEFER** (not enough evidence yet; the report says how much more it takes) or **REJECT**.
It only opens the promotion review; nothing is put to use here. **If a task fails**, clear it: finished shards are kept.
"""

import datetime as dt
from typing import Any

from airflow.sdk import Metadata, Param, dag, get_current_context, task

from nba_tasks.links import GateLink, MlflowLink, beside
from nba_tasks.workflow import (
    DEFAULT_ARGUMENTS,
    SHARD,
    as_of,
    as_of_param,
    from_event,
    gate_asset,
    history_asset,
    programme,
    programmes,
)

FORM = {
    "as_of": as_of_param(),
    "seed": Param(
        0,
        type="integer",
        minimum=0,
        title="Seed",
        description_md="Of everything random in learning; the same seed and history give the same policy.",
    ),
    "days_between": Param(
        7,
        type="integer",
        minimum=1,
        title="Days between trainings",
        description_md="A run that new history started does nothing if the last gate is more recent than this.",
    ),
}


def policy_training(name: str) -> Any:
    """The DAG of one programme."""

    @dag(
        dag_id=f"{name}.policy_training",
        dag_display_name=f"{name}: policy training",
        schedule=[history_asset(name)],
        catchup=False,
        max_active_runs=1,
        default_args=DEFAULT_ARGUMENTS,
        params=FORM,
        tags=["next best action", name],
        doc_md=__doc__,
    )
    def build() -> None:
        @task.short_circuit
        def plan(**context: Any) -> dict[str, Any] | None:
            from nba_tasks import steps

            by_event = from_event(context, "as_of") is not None
            day = as_of(context, programme(name))
            wait = context["params"]["days_between"] if by_event else None
            shards = steps.plan_training(programme(name), day, days_between=wait)
            return {"as_of": day.isoformat(), "shards": shards} if shards else None

        @task
        def shards(planned: dict[str, Any]) -> list[dict[str, Any]]:
            return [{"day": planned["as_of"], "shard": shard} for shard in planned["shards"]]

        @task(map_index_template=SHARD)
        def transitions(day: str, shard: int) -> None:
            from nba_tasks import steps

            work = steps.build_transitions(programme(name), dt.date.fromisoformat(day), shard)
            get_current_context()["work"] = str(work)  # type: ignore[typeddict-unknown-key]

        @task
        def learn(planned: dict[str, Any], **context: Any) -> str:
            from nba_tasks import steps

            return steps.learn(programme(name), dt.date.fromisoformat(planned["as_of"]), seed=context["params"]["seed"])

        @task(outlets=[gate_asset(name)])
        def gate(planned: dict[str, Any], mlflow_run: str, **context: Any) -> Any:
            from nba_tasks import steps

            day = dt.date.fromisoformat(planned["as_of"])
            gate_id = steps.gate(programme(name), day, mlflow_run, dag_run_id=context["run_id"])
            yield Metadata(gate_asset(name), extra={"gate_id": gate_id, "as_of": planned["as_of"]})

        planned = plan()
        built = transitions.expand_kwargs(shards(planned))
        learned = learn(planned)
        built >> learned
        beside(learned, MlflowLink())
        beside(gate(planned, learned), GateLink(), MlflowLink())

    return build()


for _name in programmes():
    policy_training(_name)
