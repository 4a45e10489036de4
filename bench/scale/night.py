"""The product's own steps, as the DAGs' tasks call them: each runs in a process of its own and returns its rows."""

from __future__ import annotations

import datetime as dt
import os
from typing import Any

import sqlalchemy as sa

from bench.scale.world import programme_of
from nba_tasks import database, steps, transitions
from nba_tasks.batches import read_batch


def scalar(query: str, **parameters: Any) -> int:
    """One number from the warehouse."""
    with database.warehouse().connect() as connection:
        return int(connection.scalar(sa.text(query), parameters) or 0)


def heap(table: str) -> int:
    """Bytes of a partitioned table's rows, without indexes."""
    return scalar(
        "select sum(pg_relation_size(relid)) from pg_partition_tree(cast(:table as regclass)) where isleaf", table=table
    )


def pull(scale: float, as_of: dt.date) -> int:
    """Copy what is new in the CRM into staging."""
    batch_id = steps.pull(programme_of(scale), as_of)
    query = "select (select sum(value::bigint) from jsonb_each_text(rows)) from nba.batches where batch_id = :batch_id"
    return scalar(query, batch_id=batch_id)


def validate(scale: float, as_of: dt.date) -> int:
    """Check it."""
    steps.validate(programme_of(scale), as_of, "bench")
    query = """
        select (select sum(value::bigint) from jsonb_each_text(rows)) from nba.batches
        where as_of = :as_of and validated_at is not null
    """
    return scalar(query, as_of=as_of)


def merge(scale: float, as_of: dt.date) -> int:
    """Make it history."""
    steps.merge(programme_of(scale), as_of)
    query = "select (select sum(value::bigint) from jsonb_each_text(rows)) from nba.batches where as_of = :as_of"
    return scalar(query, as_of=as_of)


def plan(scale: float, as_of: dt.date) -> int:
    """Prepare the transitions table."""
    return len(transitions.prepare(database.warehouse(), programme_of(scale), as_of))


def build(scale: float, as_of: dt.date, shard: int) -> int:
    """Build one shard."""
    return transitions.build_shard(database.warehouse(), programme_of(scale), as_of, shard).rows


def learn(scale: float, as_of: dt.date, note: str) -> int:
    """Load the sample and learn from it; the run's id goes into a file."""
    from pathlib import Path

    from nba_tasks import registry, train

    run_id = train.learn(programme_of(scale), as_of)
    Path(note).write_text(run_id)
    return int(registry.client().get_run(run_id).data.params["rows"])


def gate(scale: float, as_of: dt.date, note: str) -> int:
    """Judge the candidate, then put it to use as a reviewer would, whatever the verdict: scoring needs a policy."""
    from pathlib import Path

    from nba_tasks import ledger, registry, trial

    programme = programme_of(scale)
    gate_id = trial.hold(programme, as_of, Path(note).read_text())
    with database.warehouse().connect() as connection:
        held = ledger.gate(connection, programme, gate_id)
    registry.name(programme, "champion", held["candidate_version"])
    print(f"gate: {held['verdict']}, {held['windows']} windows of {held['customers']} customers", flush=True)
    return int(held["windows"]) * programme.gate.horizon


def score(scale: float, as_of: dt.date, version: int, shard: int) -> int:
    """Score one shard's due customers."""
    return steps.score(programme_of(scale), as_of, version, shard).rows


def publish(scale: float, as_of: dt.date, version: int) -> int:
    """Draw and write the list; time is simulated, so that tonight is the bench's date."""
    from nba_tasks import publish as publishing
    from nba_tasks import score as scoring

    programme = programme_of(scale)
    serve = scoring.serving(programme, version)
    done = publishing.publish(
        database.crm(programme), database.warehouse(), programme, as_of, serve, f"bench {os.getpid()}", today=as_of
    )
    assert done.written, "the night was published before"
    return done.decisions


def champion(scale: float) -> int:
    """The version in use."""
    from nba_tasks import registry

    version = registry.version_of(programme_of(scale), "champion")
    assert version is not None
    return version


def everybody_is_due(scale: float, as_of: dt.date) -> int:
    """Shift every customer's grid so that an epoch starts on `as_of`, as with `stagger: off`: a list of everybody."""
    grid = programme_of(scale).grid
    with database.warehouse().begin() as connection:
        batch = read_batch(connection, programme_of(scale), as_of)
        done = connection.execute(
            sa.text("update history.customers set offset_days = :offset where programme_id = :programme_id"),
            {"offset": (as_of - grid.anchor).days % grid.interval_days, "programme_id": batch.programme_id},
        )
    return int(done.rowcount)
