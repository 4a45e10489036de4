"""What no program can go below: writing the same table once more, copying the same rows, predicting the same matrix."""

from __future__ import annotations

import datetime as dt
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from bench.scale.world import programme_of
from nba_tasks import database, steps
from nba_tasks.policy import ServedPolicy
from nba_tasks.settings import settings


@dataclass
class Timer:
    """Seconds by name."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - begun


def rewrite(table: str) -> float:
    """Seconds to write a warehouse table once more, in one statement."""
    with database.warehouse().begin() as connection:
        begun = time.monotonic()
        connection.exec_driver_sql(f"create table public.rewritten as select * from {database.quote_identifier(table)}")
        seconds = time.monotonic() - begun
        connection.rollback()
    return seconds


def copy_of_source(relations: tuple[str, ...] = ("customers", "contacts", "events", "customer_changes")) -> float:
    """Seconds to copy the CRM's relations into bare tables of the warehouse."""
    with (
        database.engine(settings().url("NBA_CRM_URL")).connect() as crm,
        database.warehouse().begin() as warehouse,
        tempfile.TemporaryFile() as file,
    ):
        begun = time.monotonic()
        for relation in relations:
            columns = crm.execute(
                sa.text(
                    """
                    select string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' order by attnum)
                    from pg_attribute where attrelid = to_regclass(:name) and attnum > 0 and not attisdropped
                    """
                ),
                {"name": relation},
            ).scalar_one()
            warehouse.exec_driver_sql(f"create table public.bare_{relation} ({columns})")
            file.seek(0)
            file.truncate()
            _copy(crm, f"copy {relation} to stdout", file)
            file.seek(0)
            _copy(warehouse, f"copy public.bare_{relation} from stdin", file)
        seconds = time.monotonic() - begun
        warehouse.rollback()
    return seconds


def copy_of_published(scale: float, as_of: dt.date) -> float:
    """Seconds to copy a night's decisions and list into tables with the same keys and indexes."""
    programme = programme_of(scale)
    relations = programme.crm.relations
    with steps.crm(programme).begin() as crm, tempfile.TemporaryFile() as file:
        seconds = 0.0
        for relation, night in (
            (
                relations.decisions,
                f"published_at is not null and decided_at::date between date '{as_of}' - 1 and date '{as_of}'",
            ),
            (relations.campaign_list, f"list_date = date '{as_of}'"),
        ):
            file.seek(0)
            file.truncate()
            _copy(crm, f"copy (select * from {relation} where {night}) to stdout", file)
            file.seek(0)
            crm.exec_driver_sql(f"create table copied_{relation} (like {relation} including all)")
            begun = time.monotonic()
            _copy(crm, f"copy copied_{relation} from stdin", file)
            seconds += time.monotonic() - begun
        crm.rollback()
    return seconds


def predict(scale: float, as_of: dt.date, version: int) -> dict[str, float]:
    """Seconds of the libraries' own `predict` on a night's states: the forests of Q, and the behaviour model."""
    from nba_tasks import registry
    from nba_tasks.learners.behaviour import BehaviourModel
    from nba_tasks.learners.encoding import each_action
    from nba_tasks.learners.forest_q import ForestQ

    with database.warehouse().connect() as connection:
        found = connection.execute(
            sa.text("select state, eligible from nba.scores where as_of = :as_of"), {"as_of": as_of}
        ).all()
    state = np.array([row.state for row in found], dtype=np.float32)
    eligible = (np.array([row.eligible for row in found])[:, None] & (1 << np.arange(4))) != 0
    served = registry.load(programme_of(scale), version).policy
    assert isinstance(served, ServedPolicy)
    q, behaviour = served.q, served.behaviour
    assert isinstance(q, ForestQ)
    assert isinstance(behaviour, BehaviourModel)
    assert behaviour.classifier is not None
    for part in (q.level, q.effect):
        part.forest.forest.n_jobs = -1
    timer = Timer()
    with timer("level of Q"):
        q.level.forest.forest.predict(state)
    with timer("effect of Q"):
        for rows in each_action(state, q.catalogue.features):
            q.effect.forest.forest.predict(rows)
    with timer("behaviour"):
        behaviour.classifier.predict_proba(np.concatenate([state, eligible], axis=1, dtype=np.float32))
    return timer.seconds


def _copy(connection: Connection, statement: str, file: object) -> None:
    raw = connection.connection.driver_connection
    assert raw is not None
    with raw.cursor() as cursor:
        cursor.copy_expert(statement, file)
