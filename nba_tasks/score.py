"""Score: tonight's due customers, shard by shard, from state to the exact probability of every action."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Engine

from nba_tasks import bulk, database, registry
from nba_tasks.arms import BUSINESS_AS_USUAL, HOLDOUT, PREVIOUS, SERVED
from nba_tasks.batches import read_batch
from nba_tasks.dataset import BoolArray, FloatArray, IntArray
from nba_tasks.eligibility import held_back
from nba_tasks.policy import Floats, apply_rules, carve_out, explore
from nba_tasks.policy_store import StoredPolicy
from nba_tasks.programme import Programme
from nba_tasks.reasons import FEATURES, moved_most
from nba_tasks.rollout import Step
from nba_tasks.shape import Shape
from nba_tasks.transitions import bulk_reading, epoch_parameters, read_members, shape_of


@dataclass(frozen=True)
class Before:
    """The policy that a roll-out replaces, and how far it has come.

    Attributes
    ----------
    version : int
    policy : StoredPolicy
    reached : float
        Share of the served customers whom the roll-out has reached.
    """

    version: int
    policy: StoredPolicy
    reached: float


@dataclass(frozen=True)
class Serving:
    """The policies of a night.

    Attributes
    ----------
    version : int
        What is served, as a version of the registered model.
    served, version_0 : StoredPolicy
        The policy, and business as usual for the arm that keeps to it.
    startup : float
        Share of version 0's decisions that start-up mode draws evenly among allowed actions.
    before : Before or None
        While the served policy is rolled out: whoever it has not reached yet keeps to the policy before.
    """

    version: int
    served: StoredPolicy
    version_0: StoredPolicy
    startup: float = 0.0
    before: Before | None = None

    @property
    def starting_up(self) -> str | None:
        """The arm whose decisions start-up mode randomises: that of version 0, also while it is being replaced."""
        return None if not self.startup else PREVIOUS if self.before else SERVED

    @property
    def policies(self) -> dict[str, StoredPolicy]:
        """Who decides in each arm that is contacted."""
        found = {BUSINESS_AS_USUAL: self.version_0, SERVED: self.served}
        return found | ({PREVIOUS: self.before.policy} if self.before else {})

    def arms(self, arm: NDArray[np.str_], order: FloatArray) -> NDArray[np.str_]:
        """The night's arms from the customers' own, of shape (n,): a roll-out reaches first who is low in `order`."""
        if self.before is None:
            return arm
        return np.where((arm == SERVED) & (order >= self.before.reached), PREVIOUS, arm)

    def values(self, shape: Shape, state: FloatArray, arm: NDArray[np.str_]) -> FloatArray:
        """Expected values of shape (n, n_actions): the served policy's, or those of the one before where it decides."""

        def of(policy: StoredPolicy, state: FloatArray) -> FloatArray:
            return policy.values(state, len(shape.actions), shape.likes(len(policy.actions)))

        if self.before is None:
            return of(self.served, state)
        found = np.empty((len(state), len(shape.actions)), dtype=np.float32)
        rolled = arm == PREVIOUS
        for policy, rows in ((self.served, ~rolled), (self.before.policy, rolled)):
            if rows.any():
                found[rows] = of(policy, state[rows])
        return found

    def new(self, shape: Shape, arm: NDArray[np.str_], eligible: BoolArray) -> BoolArray:
        """New actions that get their carve-out, of shape (n, n_actions): wherever the policy in use or before decides.

        Not in the arm of business as usual, which would not be that otherwise; nor in start-up mode, which draws among
        all allowed actions anyway.
        """
        found = np.zeros(eligible.shape, dtype=np.bool_)
        for code, policy in self.policies.items():
            if code not in (BUSINESS_AS_USUAL, self.starting_up) and shape.programme.layers.carve_out:
                found[arm == code] = policy.newcomers(shape)
        return found & eligible

    def probabilities(
        self,
        shape: Shape,
        state: FloatArray,
        eligible: BoolArray,
        arm: NDArray[np.str_],
        values: FloatArray | None = None,
    ) -> Floats:
        """What each customer's arm gets: no action, or what its policy says; shape (n, n_actions).

        Parameters
        ----------
        values : array of shape (n, n_actions), optional
            What `values` gave for these states.
        """
        found = np.zeros(eligible.shape)
        found[arm == HOLDOUT, 0] = 1.0
        new = self.new(shape, arm, eligible)
        # No policy chooses what is new; where nothing else is allowed, the new actions share the whole.
        asked = np.asarray((eligible & ~new).any(axis=1))
        found[~asked] = apply_rules(found[~asked], new[~asked])
        for code, policy in self.policies.items():
            if (rows := (arm == code) & asked).any():
                known = None if values is None else values[rows]
                found[rows] = policy.probabilities(state[rows], eligible[rows] & ~new[rows], known)
        if (explored := arm == self.starting_up).any():
            found[explored] = explore(found[explored], eligible[explored], self.startup)
        return carve_out(found, new & asked[:, None], shape.programme.layers.carve_out)

    def moved(
        self, state: FloatArray, eligible: BoolArray, arm: NDArray[np.str_], values: FloatArray, action: IntArray
    ) -> NDArray[np.int16]:
        """What moved each draw, see `reasons.moved_most`; a choice is among actions that its policy knows."""
        found = np.full((len(state), FEATURES), -1, dtype=np.int16)
        rolled = arm == PREVIOUS
        for policy, rows in ((self.served, ~rolled), (self.before.policy if self.before else self.served, rolled)):
            if rows.any():
                known = np.arange(eligible.shape[1]) < len(policy.actions)
                found[rows] = moved_most(policy.lead, state[rows], eligible[rows] & known, values[rows], action[rows])
        return found


def version_to_serve(programme: Programme) -> int | None:
    """The champion; without one, version 0 where the programme asks for it or starts up, else None."""
    champion = registry.version_of(programme, "champion")
    if champion is None and (programme.publish.serve_version_0 or programme.startup.explore):
        return registry.version_of(programme, "version_0")
    return champion


def serving(programme: Programme, version: int, step: Step | None = None) -> Serving:
    """The policies of a night on which a version is served.

    Parameters
    ----------
    step : Step, optional
        How far its roll-out has come; None: it serves everybody.

    Raises
    ------
    RegistryError
        The programme has no version 0: it was never trained.
    """
    version_0 = registry.version_of(programme, "version_0")
    if version_0 is None:
        raise registry.RegistryError(f"{programme.programme} has no version 0: run its policy training DAG first")
    served = registry.load_once(programme, version)
    if version != version_0:
        usual = registry.load_once(programme, version_0)
        if step is None:
            return Serving(version, served, usual)
        first = step.previous_version == version_0
        before = usual if first else registry.load_once(programme, step.previous_version)
        return Serving(
            version,
            served,
            usual,
            startup=programme.startup.explore if first else 0.0,
            before=Before(step.previous_version, before, step.share / 100),
        )
    # A champion that was rolled back to version 0 is business as usual by choice: nothing is started up.
    starts_up = registry.version_of(programme, "champion") is None
    return Serving(version, served, served, startup=programme.startup.explore if starts_up else 0.0)


def unpack(masks: NDArray[np.integer], n_actions: int) -> BoolArray:
    """Eligible masks as a bool array of shape (n, n_actions)."""
    return np.asarray((masks.astype(np.int64)[:, None] & (np.int64(1) << np.arange(n_actions))) != 0)


def permitted(eligible: BoolArray, arm: NDArray[np.str_]) -> BoolArray:
    """Eligible actions of shape (n, n_actions), after two rules above all others.

    Nobody in the holdout arm is contacted, and whoever is allowed nothing at all (`no_action` being switched off) is
    left alone.
    """
    left_alone = (arm == HOLDOUT) | ~eligible.any(axis=1)
    only_no_action = np.arange(eligible.shape[1]) == 0
    return np.asarray(np.where(left_alone[:, None], only_no_action, eligible), dtype=bool)


def scored_as_now(warehouse: Engine, programme: Programme, as_of: dt.date, version: int) -> bool:
    """Whether the programme file as it is now would score a night with a version as it was scored."""
    with warehouse.connect() as connection:
        batch = read_batch(connection, programme, as_of)
        found = connection.scalars(
            sa.text(
                """
                select distinct fingerprint from nba.scored_shards
                where programme_id = :programme_id and as_of = :as_of and policy_version = :version
                """
            ),
            {"programme_id": batch.programme_id, "as_of": as_of, "version": version},
        ).all()
        return set(found) == {shape_of(connection, programme, batch).fingerprint(tonight=True)}


def score_shard(warehouse: Engine, programme: Programme, as_of: dt.date, shard: int, serve: Serving) -> int:
    """Score the due customers of one shard into `nba.scores`, in one transaction that replaces an earlier try.

    Scores of another policy version stay: a second run of the date with that version does not touch this one's.

    Returns
    -------
    int
        Customers scored.
    """
    with warehouse.begin() as connection:
        database.lock(connection, "score", programme.programme, str(as_of), str(serve.version), str(shard))
        batch = read_batch(connection, programme, as_of)
        shape = shape_of(connection, programme, batch)
        serve.served.require_features(programme.feature_names)
        key: dict[str, Any] = {
            "programme_id": batch.programme_id,
            "as_of": as_of,
            "policy_version": serve.version,
            "shard": shard,
        }
        for table in ("nba.scores", "nba.scored_shards"):
            connection.execute(
                sa.text(
                    f"delete from {table} where programme_id = :programme_id and as_of = :as_of"
                    " and policy_version = :policy_version and shard = :shard"
                ),
                key,
            )
        names = shape.names(tonight=True) | {"rolled_out": serve.before is not None}
        parameters = epoch_parameters(connection, programme, batch, shard) | {
            "programme": programme.programme,
            "rollout_salt": f"{programme.salt}|{serve.version}",  # other customers come first each time
        }
        bulk_reading(connection)
        read_members(connection, parameters, names)
        query = database.statement("transitions/tonight", **names)
        due = bulk.read(connection, query, _columns(shape), parameters)
        if due.num_rows:
            bulk.write(connection, "nba.scores", _scores(due, shape, serve) | key)
        rules = held_back(shape.conditions, shape.actions, as_of, due.column("conditions").to_numpy())
        connection.execute(
            sa.text(
                """
                insert into nba.scored_shards
                    (programme_id, as_of, policy_version, shard, fingerprint, customers, held_back)
                values
                    (:programme_id, :as_of, :policy_version, :shard, :fingerprint, :customers,
                     cast(:held_back as jsonb))
                """
            ),
            key
            | {"fingerprint": shape.fingerprint(tonight=True), "customers": due.num_rows}
            | {"held_back": json.dumps(rules)},
        )
        return int(due.num_rows)


def _columns(shape: Shape) -> dict[str, pa.DataType]:
    """The columns of `sql/transitions/tonight.sql`, in order."""
    types = {"smallint": pa.int16(), "real": pa.float32()}
    return {
        "customer_key": pa.int32(),
        "customer_id": pa.string(),
        "arm": pa.string(),
        "epoch": pa.int32(),
        "eligible": pa.int32(),
        "conditions": pa.int64(),
        "rollout": pa.float64(),
        **{feature.column: types[feature.type] for feature in shape.features},
    }


def _scores(due: pa.Table, shape: Shape, serve: Serving) -> dict[str, Any]:
    """The columns of `nba.scores` for customers who are due."""
    n_actions = len(shape.actions)
    state = bulk.matrix(due, [f.column for f in shape.features])
    arm = serve.arms(due.column("arm").to_numpy().astype(str), due.column("rollout").to_numpy())
    eligible = permitted(unpack(due.column("eligible").to_numpy(), n_actions), arm)
    values = serve.values(shape, state, arm)
    probability = apply_rules(serve.probabilities(shape, state, eligible, arm, values), eligible)
    return {
        "customer_key": due.column("customer_key"),
        "epoch": due.column("epoch"),
        "arm": pa.array(arm, pa.string()),
        "eligible": (eligible * (1 << np.arange(n_actions))).sum(axis=1),
        "state": bulk.array_literals(state),
        "expected_value": bulk.array_literals(values),
        "probability": bulk.array_literals(probability),
    }
