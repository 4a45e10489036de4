"""Three DAGs for the tests of the stack: one starts another through an asset, one fails."""

import sys

from airflow.sdk import DAG, Asset, task

READY = Asset("ready")


@task(outlets=[READY])
def publish(params: dict[str, object] | None = None) -> object:
    return (params or {}).get("as_of")


@task
def shard(number: int) -> int:
    assert {"mlflow", "pandas", "sklearn"} <= set(sys.modules), "every task pays for these imports"
    return number


@task
def fail() -> None:
    raise ValueError("seven sheep are missing")


with DAG("first", schedule=None, params={"as_of": "never"}):
    publish()

with DAG("second", schedule=[READY]):
    shard.expand(number=[1, 2, 3])

with DAG("broken", schedule=None):
    fail()
