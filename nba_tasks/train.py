"""Learn: the behaviour model, the Q-function, and version 0, from the learn split."""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from sqlalchemy.engine import Connection

from nba_tasks import registry
from nba_tasks import transitions as table
from nba_tasks.batches import Batch, read_batch
from nba_tasks.database import warehouse
from nba_tasks.dataset import Catalogue, Transitions
from nba_tasks.learners.artefacts import load_json, save_json
from nba_tasks.learners.behaviour import BehaviourModel
from nba_tasks.learners.bellman import FittedQ
from nba_tasks.learners.forest_q import ForestQ, fit_q
from nba_tasks.learners.look_alikes import LookAlikes
from nba_tasks.loading import load
from nba_tasks.policy import Floats, supported
from nba_tasks.policy_store import StoredPolicy
from nba_tasks.programme import Programme
from nba_tasks.shape import Shape

log = logging.getLogger("nba_tasks")


@dataclass(frozen=True)
class Source:
    """What a training reads: the batch, and the shape that it gives the transitions."""

    batch: Batch
    shape: Shape

    @cached_property
    def catalogue(self) -> Catalogue:
        return self.shape.catalogue()

    def fingerprint(self) -> dict[str, str]:
        """What identifies the data of a run."""
        settings = self.shape.programme.model_dump_json()
        return {
            "programme": self.shape.programme.programme,
            "as_of": self.batch.as_of.isoformat(),
            "batch_id": str(self.batch.batch_id),
            "rows_from": self.shape.fingerprint(),
            "programme_file": hashlib.sha256(settings.encode()).hexdigest()[:16],
        }


@contextmanager
def reading(programme: Programme, as_of: dt.date) -> Iterator[tuple[Connection, Source]]:
    """A connection and what a training of `as_of` reads over it; the transitions stay as they are until the end.

    Raises
    ------
    BatchError, TransitionsError
        The date's history is missing, or the table of transitions.
    """
    with warehouse().connect() as connection:
        batch = read_batch(connection, programme, as_of)
        table.hold(connection, programme, batch)
        yield connection, Source(batch, table.shape_of(connection, programme, batch))


def learn(programme: Programme, as_of: dt.date, *, seed: int = 0) -> str:
    """Fit the behaviour model and the Q-function on the learn split; register version 0 on the first time.

    Returns
    -------
    str
        The MLflow run that holds both models.
    """
    settings = programme.learning
    if (incumbent := registry.incumbent(programme)) is not None:
        # The gate will evaluate it on these states: say at once that it cannot.
        registry.load(programme, incumbent).require_features(programme.feature_names)
    with reading(programme, as_of) as (connection, source):
        loaded = load(connection, source.shape, "learn", settings.max_customers)
    data = loaded.transitions
    data = data.without(source.shape.new(data.decisions_for()))
    data.check()
    customers = len(np.unique(data.customer))
    log.info("learning from %s epochs of %s customers (%.0f%%)", f"{len(data):,}", f"{customers:,}", 100 * loaded.share)
    with registry.run(programme, f"{as_of}", source.fingerprint()) as run_id:
        registry.log_parameters(
            settings.model_dump() | {"seed": seed, "rows": len(data), "customers": customers, "share": loaded.share}
        )
        behaviour, fitted = fit(programme, data, source.catalogue, seed, _report_sweep)
        log.info("%s after %s sweeps", "converged" if fitted.converged else "not converged", len(fitted.residuals))
        registry.log_series("bellman_residual", fitted.residuals.tolist())
        with tempfile.TemporaryDirectory() as folder:
            behaviour.save(Path(folder) / "behaviour")
            fitted.q.save(Path(folder) / "q")
            LookAlikes.fit(fitted.q, data, settings.discount).save(Path(folder) / "look_alikes")
            save_json({"decisions": list(data.decisions_for())}, Path(folder) / "evidence.json")
            registry.log_folder(Path(folder), "learned")
        if registry.version_of(programme, "version_0") is None:
            stored = StoredPolicy(
                behaviour, programme.feature_names, source.catalogue.ids, evidence=data.decisions_for()
            )
            version = registry.register(programme, stored, "version 0")
            registry.name(programme, "version_0", version)
            log.info("business as usual is registered as version %s", version)
    return run_id


def fit(
    programme: Programme,
    data: Transitions,
    catalogue: Catalogue,
    seed: int,
    on_sweep: Callable[[int, float], None] | None = None,
) -> tuple[BehaviourModel, FittedQ[ForestQ]]:
    """The behaviour model and the Q-function of a learn split, as the programme's file asks for them.

    Raises
    ------
    DatasetError
        The rules leave a customer no action.
    """
    data.require_choice()
    behaviour = BehaviourModel.fit(data, seed=seed)
    likely = behaviour.probabilities(data.state, data.eligible_target)
    return behaviour, fit_values(programme, data, catalogue, likely, seed, on_sweep)


def fit_values(
    programme: Programme,
    data: Transitions,
    catalogue: Catalogue,
    likely: Floats,
    seed: int,
    on_sweep: Callable[[int, float], None] | None = None,
) -> FittedQ[ForestQ]:
    """The Q-function alone, given the behaviour model's probabilities `likely` of shape (n, n_actions)."""
    settings = programme.learning
    return fit_q(
        data,
        catalogue,
        discount=settings.discount,
        trees=settings.trees,
        min_samples_leaf=settings.min_samples_leaf,
        refits=settings.refits,
        max_sweeps=settings.max_sweeps,
        tolerance=settings.tolerance,
        trace=settings.trace,
        supported=supported(likely, data.eligible_target, programme.layers.support),
        seed=seed,
        grow_rows=settings.grow_rows,
        on_sweep=on_sweep,
    )


def _report_sweep(sweep: int, residual: float) -> None:
    if sweep <= 5 or sweep % 10 == 0:  # the first ones are slow and worth watching
        log.info("sweep %s: Bellman residual %.4f", sweep, residual)


@dataclass(frozen=True)
class Learned:
    """What a training learned: the Q-function, the behaviour model, and what the policy will be compared with.

    `evidence` counts the decisions for each action that taught it.
    """

    q: ForestQ
    behaviour: BehaviourModel
    look_alikes: LookAlikes
    evidence: tuple[int, ...]


def learned(run_id: str) -> Learned:
    """The models that `learn` logged to a run."""
    with tempfile.TemporaryDirectory() as folder:
        found = registry.fetch(run_id, "learned", Path(folder))
        q = ForestQ.load(found / "q")
        return Learned(
            q,
            BehaviourModel.load(found / "behaviour"),
            LookAlikes.load(found / "look_alikes", q),
            tuple(load_json(found / "evidence.json")["decisions"]),
        )
