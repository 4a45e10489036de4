"""
### Outcomes

Looks every day at what the published lists really earned: each arm's value with its interval, whether the gate kept its
promise, harms, what was delivered, and whether customers, data or actions have drifted from what the policy was judged
on. The figures go to `nba.outcomes`.

| task | what it does |
|---|---|
| `plan`, `transitions` | bring the transitions up to date, by shard |
| `look` | computes the figures, keeps them, and says what somebody should look at |
| `alert` | tells whom the programme's file names (`outcomes.notifier`) |
| `demote` | only where the policy in use surely earns less or harms more than the one before: asks the review |

The look takes the next step of a roll-out, too, where the programme's file leaves that to clean nights. **Repeating a
run** is safe: it replaces the day's row.
"""

import datetime as dt
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import dag, get_current_context, task

from nba_tasks.workflow import (
    DEFAULT_ARGUMENTS,
    SHARD,
    as_of,
    as_of_param,
    history_asset,
    notify,
    programme,
    programmes,
)


def outcomes(name: str) -> Any:
    """The DAG of one programme."""

    @dag(
        dag_id=f"{name}.outcomes",
        dag_display_name=f"{name}: outcomes",
        schedule=[history_asset(name)],
        catchup=False,
        max_active_runs=1,
        default_args=DEFAULT_ARGUMENTS,
        params={"as_of": as_of_param()},
        tags=["next best action", name],
        doc_md=__doc__,
    )
    def build() -> None:
        @task
        def plan(**context: Any) -> list[dict[str, Any]]:
            from nba_tasks import steps

            day = as_of(context, programme(name))
            shards = steps.plan_training(programme(name), day)
            return [{"day": day.isoformat(), "shard": shard} for shard in shards]

        @task(map_index_template=SHARD)
        def transitions(day: str, shard: int) -> None:
            from nba_tasks import steps

            work = steps.build_transitions(programme(name), dt.date.fromisoformat(day), shard)
            get_current_context()["work"] = str(work)  # type: ignore[typeddict-unknown-key]

        @task
        def look(planned: Any, **context: Any) -> dict[str, Any]:
            from nba_tasks import steps

            day = dt.date.fromisoformat(planned[0]["day"])
            return steps.look_at_outcomes(programme(name), day, context["run_id"])

        @task
        def alert(found: Any, **context: Any) -> None:
            if found["alerts"]:
                notify(programme(name), context)

        @task.short_circuit
        def demotion(found: Any) -> Any:
            return found["demotion_id"]

        planned = plan()
        built = transitions.expand_kwargs(planned)
        found = look(planned)
        built >> found
        alert(found)
        demote = TriggerDagRunOperator(
            task_id="demote",
            trigger_dag_id=f"{name}.promotion_review",
            conf={"demotion_id": "{{ ti.xcom_pull(task_ids='demotion') }}"},
        )
        demotion(found) >> demote

    return build()


for _name in programmes():
    outcomes(_name)
