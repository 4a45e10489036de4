"""
### Contact history

Copies what happened up to last midnight from the CRM into the warehouse, checks it, and tells the other DAGs.

| task | what it does |
|---|---|
| `pull` | copies new and changed days into staging; the first run of a date pins what it may know |
| `validate` | checks every relation with Great Expectations; bad rows go to `nba.quarantine`, and are retried nightly |
| `expire` | only if something failed: marks earlier lists expired, so that nobody sends yesterday's |
| `merge` | adds the good rows to the history and publishes the asset that starts training and tonight's list |

**If `validate` fails**, its log lists the reasons in plain words and nothing has entered the history. Mend the source,
then clear the task `pull` of this run. **Repeating a run** is safe: the same date gives the same tables.
"""

import datetime as dt
from typing import Any

from airflow.sdk import CronTriggerTimetable, Metadata, TriggerRule, dag, task

from nba_tasks.links import ValidationLink, beside
from nba_tasks.workflow import DEFAULT_ARGUMENTS, as_of, as_of_param, history_asset, programme, programmes


def contact_history(name: str, zone: str) -> Any:
    """The DAG of one programme."""

    @dag(
        dag_id=f"{name}.contact_history",
        dag_display_name=f"{name}: contact history",
        # Not at once when it is switched on: the first scheduled night is the next one.
        schedule=CronTriggerTimetable("0 2 * * *", timezone=zone, run_immediately=dt.timedelta(0)),
        catchup=False,
        max_active_runs=1,
        default_args=DEFAULT_ARGUMENTS,
        params={"as_of": as_of_param()},
        tags=["next best action", name],
        doc_md=__doc__,
    )
    def build() -> None:
        @task
        def pull(**context: Any) -> str:
            from nba_tasks import steps

            day = as_of(context, programme(name))
            steps.pull(programme(name), day)
            return day.isoformat()

        @task
        def validate(day: str, **context: Any) -> None:
            from nba_tasks import steps

            steps.validate(programme(name), dt.date.fromisoformat(day), context["run_id"])

        @task(outlets=[history_asset(name)])
        def merge(day: str) -> Any:
            from nba_tasks import steps

            steps.merge(programme(name), dt.date.fromisoformat(day))
            yield Metadata(history_asset(name), extra={"as_of": day})

        @task(trigger_rule=TriggerRule.ONE_FAILED, retries=0)
        def expire(**context: Any) -> None:
            from nba_tasks import steps

            steps.expire(programme(name), as_of(context, programme(name)))

        day = pull()
        validated, merged = validate(day), merge(day)
        beside(validated, ValidationLink())
        validated >> merged
        [day, validated, merged] >> expire()

    return build()


for _name, _programme in programmes().items():
    contact_history(_name, _programme.grid.business_timezone)
