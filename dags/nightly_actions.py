"""
### Nightly actions

Decides for every customer who is due tonight and publishes the list: `decisions` (everybody, with all probabilities)
and the campaign table (who is to be contacted), both in one transaction of the CRM.

| task | what it does |
|---|---|
| `plan` | looks up the policy in use; without one it says so and the run ends |
| `score` | one mapped task a shard: state, eligible actions, probabilities of tonight's customers |
| `publish` | checks consent again, draws, writes; a night that is already published is left as it is |
| `expire` | only if something failed: marks earlier lists expired, so that nobody sends yesterday's |

**Dry run** (form) computes everything and writes nothing into the CRM; a run for another date than today always is one.
"""

import datetime as dt
from typing import Any

from airflow.sdk import Param, TriggerRule, dag, get_current_context, task

from nba_tasks.links import ListLink, beside
from nba_tasks.workflow import DEFAULT_ARGUMENTS, SHARD, as_of, as_of_param, history_asset, programme, programmes

FORM = {
    "as_of": as_of_param(),
    "dry_run": Param(
        False,
        type="boolean",
        title="Dry run",
        description_md="Compute the list and its figures, write nothing into the CRM.",
    ),
}


def nightly_actions(name: str) -> Any:
    """The DAG of one programme."""

    @dag(
        dag_id=f"{name}.nightly_actions",
        dag_display_name=f"{name}: nightly actions",
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

            day = as_of(context, programme(name))
            version = steps.plan_night(programme(name), day, dry_run=context["params"]["dry_run"])
            if version is None:
                return None
            return {"as_of": day.isoformat(), "version": version}

        @task
        def shards(planned: dict[str, Any]) -> list[dict[str, Any]]:
            every = range(programme(name).shards)
            return [{"day": planned["as_of"], "version": planned["version"], "shard": shard} for shard in every]

        @task(map_index_template=SHARD)
        def score(day: str, version: int, shard: int) -> int:
            from nba_tasks import steps

            work = steps.score(programme(name), dt.date.fromisoformat(day), version, shard)
            get_current_context()["work"] = str(work)  # type: ignore[typeddict-unknown-key]
            return work.rows

        @task
        def publish(planned: dict[str, Any], **context: Any) -> None:
            from nba_tasks import steps

            steps.publish(
                programme(name),
                dt.date.fromisoformat(planned["as_of"]),
                planned["version"],
                context["run_id"],
                dry_run=context["params"]["dry_run"],
            )

        @task(trigger_rule=TriggerRule.ONE_FAILED, retries=0)
        def expire(**context: Any) -> None:
            from nba_tasks import steps

            day = as_of(context, programme(name))
            steps.expire(programme(name), day, dry_run=context["params"]["dry_run"])

        planned = plan()
        scored = score.expand_kwargs(shards(planned))
        published = publish(planned)
        beside(published, ListLink())
        [planned, scored, published] >> expire()
        scored >> published

    return build()


for _name in programmes():
    nightly_actions(_name)
