"""What no program can go below: writing the same table once more, copying the same rows, predicting the same matrix."""

from __future__ import annotations

import datetime as dt
import tempfile
from typing import Literal

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from bench.scale.meter import Meter
from bench.scale.record import Taken
from bench.scale.world import programme_of
from nba_tasks import database
from nba_tasks.policy import ServedPolicy
from nba_tasks.settings import settings

Part = Literal["level of Q", "effect of Q", "behaviour"]
PREDICTED: tuple[Part, ...] = ("level of Q", "effect of Q", "behaviour")


def rewrite(meter: Meter, table: str) -> Taken:
    """Writing a warehouse table once more, in one statement."""
    with database.warehouse().begin() as connection:
        with meter.taking() as taken:
            connection.exec_driver_sql(
                f"create table public.rewritten as select * from {database.quote_identifier(table)}"
            )
        connection.rollback()
    return taken


def copy_of_source(
    meter: Meter, relations: tuple[str, ...] = ("customers", "contacts", "events", "customer_changes")
) -> Taken:
    """Copying the CRM's relations into bare tables of the warehouse."""
    with (
        database.engine(settings().url("NBA_CRM_URL")).connect() as crm,
        database.warehouse().begin() as warehouse,
        tempfile.TemporaryFile() as file,
    ):
        with meter.taking() as taken:
            for relation in relations:
                columns = crm.execute(
                    sa.text(
                        """
                        select string_agg(
                            format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' order by attnum)
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
        warehouse.rollback()
    return taken


def copy_of_published(meter: Meter, scale: float, as_of: dt.date) -> Taken:
    """Copying a night's decisions and list into tables with the same keys and indexes."""
    programme = programme_of(scale)
    relations = programme.crm.relations
    total = Taken()
    with database.crm(programme).begin() as crm, tempfile.TemporaryFile() as file:
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
            with meter.taking() as taken:
                _copy(crm, f"copy copied_{relation} from stdin", file)
            total += taken
        crm.rollback()
    return total


def predict(meter: Meter, part: Part, scale: float, as_of: dt.date, version: int) -> Taken:
    """The libraries' own `predict` on a night's states: one of the forests of Q, or the behaviour model."""
    from nba_tasks import registry
    from nba_tasks.learners.behaviour import BehaviourModel
    from nba_tasks.learners.encoding import each_action
    from nba_tasks.learners.forest_q import ForestQ

    state, eligible = _states(as_of)
    served = registry.load(programme_of(scale), version).policy
    assert isinstance(served, ServedPolicy)
    q, behaviour = served.q, served.behaviour
    assert isinstance(q, ForestQ)
    assert isinstance(behaviour, BehaviourModel)
    assert behaviour.classifier is not None
    for forest in (q.level.forest.forest, q.effect.forest.forest):
        forest.n_jobs = -1
    with meter.taking() as taken:
        match part:
            case "level of Q":
                q.level.forest.forest.predict(state)
            case "effect of Q":
                for rows in each_action(state, q.catalogue.features):
                    q.effect.forest.forest.predict(rows)
            case "behaviour":
                behaviour.classifier.predict_proba(np.concatenate([state, eligible], axis=1, dtype=np.float32))
    return taken


def _states(as_of: dt.date) -> tuple[np.ndarray, np.ndarray]:
    """A night's states of shape (n, n_features), and what was eligible."""
    import pyarrow as pa

    from nba_tasks import bulk

    with database.warehouse().connect() as connection:
        features = connection.scalar(sa.text("select cardinality(state) from nba.scores limit 1"))
        names = [f"state[{i + 1}]" for i in range(features)]
        query = f"select eligible, {', '.join(names)} from nba.scores where as_of = :as_of"
        types = {"eligible": pa.int32(), **dict.fromkeys(names, pa.float32())}
        found = bulk.read(connection, query, types, {"as_of": as_of.isoformat()})
    masks = found.column("eligible").to_numpy()
    return bulk.matrix(found, names), (masks[:, None] & (1 << np.arange(4))) != 0


def _copy(connection: Connection, statement: str, file: object) -> None:
    raw = connection.connection.driver_connection
    assert raw is not None
    with raw.cursor() as cursor:
        cursor.copy_expert(statement, file)
