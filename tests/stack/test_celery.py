"""Beyond one machine: the same DAGs on Celery with two workers, one of them killed in the middle of a shard."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

from nba_tasks import database, ledger
from nba_tasks.programme import Programme
from nba_tasks.settings import Settings
from nba_tasks.simulators.crm import simulate_to_crm
from nba_tasks.stack.airflow_api import AirflowClient, Run
from nba_tasks.stack.postgres import Server
from nba_tasks.stack.processes import Service, session_members, stop_all
from nba_tasks.stack.services import ADMIN, Stack, only_one
from tests.loop import sales_channels
from tests.stack.test_stack import free_port

REDIS = shutil.which("redis-server")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(REDIS is None, reason="Debian's redis-server is not installed")]

CUSTOMERS, SEED = 2_000, 3
WORKERS = ("worker-1", "worker-2")
LOST_AFTER = 20
"""Seconds without a sign of life after which a task counts as lost."""


class CeleryStack(Stack):
    """The stack as it stands on several machines: tasks run by Celery's workers, told by Redis."""

    redis_socket: Path

    def environment(self, server: Server) -> dict[str, str]:
        """What the programs get, with Celery as executor."""
        return super().environment(server) | {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CELERY__BROKER_URL": f"redis+socket://{self.redis_socket}",
            "AIRFLOW__CELERY__RESULT_BACKEND": "db+" + server.database_url("airflow"),
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(LOST_AFTER),
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
        }


@dataclass
class Cluster:
    """The running stack and its workers."""

    stack: CeleryStack
    programme: Programme
    airflow: AirflowClient
    workers: dict[str, Service]
    today: dt.date
    urls: dict[str, str]

    def run(self, name: str) -> Run:
        """Start a DAG and wait until it has ended well."""
        started = self.start(name)
        return self.airflow.wait(started, lambda run: None, 600)

    def start(self, name: str) -> Run:
        dag = f"{self.programme.programme}.{name}"
        self.airflow.unpause(dag)
        return self.airflow.trigger(dag, {"as_of": str(self.today)})

    @property
    def warehouse(self) -> sa.Engine:
        return database.engine(self.urls["NBA_WAREHOUSE_URL"])

    @property
    def crm(self) -> sa.Engine:
        return database.engine(self.urls["NBA_CRM_URL"])

    def published(self) -> list[Any]:
        """The night's decisions, whole."""
        with self.crm.connect() as connection:
            return list(
                connection.execute(
                    sa.text(
                        "select customer_id, action_id, eligible_actions, probabilities, expected_values"
                        " from decisions where programme is not null order by 1"
                    )
                )
            )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A stack on Celery, with a history that was pulled and a policy of business as usual."""
    programmes = tmp_path_factory.mktemp("programmes")
    programme = sales_channels(shards=4, publish={"serve_version_0": True}, review={})
    (programmes / "sales_channels.yaml").write_text(
        yaml.safe_dump(programme.model_dump(mode="json", exclude_none=True))
    )
    home = tmp_path_factory.mktemp("celery")
    stack = CeleryStack(
        Settings(home=home, programmes=programmes, airflow_port=free_port(), mlflow_port=free_port()),
    )
    stack.redis_socket = home / "redis.sock"
    redis = subprocess.Popen(
        [str(REDIS), "--port", "0", "--unixsocket", str(stack.redis_socket), "--save", "", "--dir", str(home)],
        stdout=subprocess.DEVNULL,
    )
    workers: dict[str, Service] = {}
    with only_one(home):
        try:
            server = stack.start_database()
            urls = stack.urls(server)
            database.migrate(database.engine(urls["NBA_WAREHOUSE_URL"]))
            today = dt.datetime.now(programme.grid.zone).date()
            simulate_to_crm(programme.programme, database.engine(urls["NBA_CRM_URL"]), today, CUSTOMERS, SEED)
            stack.start_programs(server)
            for name in WORKERS:
                command = [sys.executable, "-m", "airflow", "celery", "worker", "--concurrency", "1"]
                command += ["--celery-hostname", f"{name}@here", "--skip-serve-logs", "--without-gossip"]
                workers[name] = Service(name, command, stack.environment(server), home)
                workers[name].start()
            airflow = AirflowClient(stack.airflow_url, ADMIN, stack.secrets.admin_password)
            made = Cluster(stack, programme, airflow, workers, today, urls)
            for name in ("contact_history", "policy_training"):
                made.run(name)
            yield made
        finally:
            stop_all(worker.pid_file for worker in workers.values())
            stack.stop()
            redis.terminate()
            redis.wait()


def all_but_one(cluster: Cluster, night: Run, task: str, seconds: float = 180) -> None:
    """Wait until every shard but one is done, which leaves one worker with work."""
    deadline = time.monotonic() + seconds
    while True:
        states = {found.name: found.state for found in cluster.airflow.look(night).tasks if found.task_id == "score"}
        done = [state for name, state in states.items() if name != task]
        if states.get(task) == "running" and done and set(done) == {"success"}:
            return
        assert time.monotonic() < deadline, states
        time.sleep(0.5)


def kill_the_one_at_work(cluster: Cluster) -> None:
    """Kill the worker that runs a task, and the task with it: a machine that is gone."""
    deadline = time.monotonic() + 30
    while True:
        idle, at_work = sorted((session_members(worker.pid_file) for worker in cluster.workers.values()), key=len)
        if len(idle) < len(at_work):  # the task's own process; that of the other worker's last task has ended
            break
        assert time.monotonic() < deadline, "no worker has forked a task"
        time.sleep(0.5)
    for process in at_work:
        os.kill(process.pid, signal.SIGKILL)


def test_a_worker_killed_in_a_shard_loses_and_doubles_nothing(cluster: Cluster) -> None:
    gate = ledger.last_gate(cluster.warehouse, "sales_channels")
    assert gate is not None
    with cluster.warehouse.begin() as connection:
        # Whoever comes to score shard 2 waits here: the middle of a shard, for as long as it takes to strike.
        database.lock(connection, "score", "sales_channels", str(cluster.today), str(gate["incumbent_version"]), "2")
        night = cluster.start("nightly_actions")
        all_but_one(cluster, night, "score[2]")
        kill_the_one_at_work(cluster)
    ended = cluster.airflow.wait(night, lambda run: None, 600)
    tries = {task.name: task.try_number for task in ended.tasks if task.task_id == "score"}
    assert tries == {"score[0]": 1, "score[1]": 1, "score[2]": 2, "score[3]": 1}, "the other worker did it again"
    disturbed = cluster.published()
    assert len({row.customer_id for row in disturbed}) == len(disturbed) > 100

    with cluster.crm.begin() as connection:
        connection.exec_driver_sql("delete from campaign_list; delete from publications")
        connection.exec_driver_sql("delete from decisions where programme is not null")
    with cluster.warehouse.begin() as connection:
        connection.exec_driver_sql("delete from nba.scored_shards; delete from nba.scores")
    cluster.run("nightly_actions")
    assert cluster.published() == disturbed
