"""The gate step: choose the mix, judge the candidate on customers it has never seen, write the ledger."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from sqlalchemy.engine import Connection

from nba_tasks import ledger, registry, report
from nba_tasks.average_night import AverageNight, evenly, rows_now, scaled
from nba_tasks.candidate import Trial
from nba_tasks.capacity import Limit, Prices
from nba_tasks.database import warehouse
from nba_tasks.dataset import BoolArray, Catalogue, FloatArray, Transitions
from nba_tasks.estimators import Critic
from nba_tasks.exhibition import Evaluated, exhibits
from nba_tasks.gate import MixChoice, Sample, Verdict, check_splits
from nba_tasks.gate.exhibits import Exhibits
from nba_tasks.gate.placebo import BeforeContact
from nba_tasks.gate.plain import plain
from nba_tasks.gate.schema import checked
from nba_tasks.learners.look_alikes import LookAlikes
from nba_tasks.loading import Loaded, Split, load, with_before_contact
from nba_tasks.policy import Floats, ServedPolicy
from nba_tasks.policy_store import StoredPolicy, values_of
from nba_tasks.programme import Programme
from nba_tasks.tonight import limits_of
from nba_tasks.train import Source, learned, reading
from nba_tasks.windows import Windows, cut_windows

log = logging.getLogger("nba_tasks")


@dataclass(frozen=True)
class Side:
    """One split as a gate looks at it: its windows, and every policy's probabilities on its rows.

    `incumbent` is what would be published; `incumbent_wished` is it before the prices of scarce slots and money, which
    come last, behind the mix. `night` gives the prices; None where nothing is limited.
    """

    data: Transitions
    windows: Windows
    q: Floats
    behaviour_target: Floats
    behaviour_logged: Floats
    incumbent: Floats
    incumbent_wished: Floats
    incumbent_value: FloatArray
    before_contact: BeforeContact | None = None
    night: AverageNight | None = None

    @classmethod
    def of(cls, loaded: Loaded, horizon: int, served: ServedPolicy) -> Side:
        """Evaluate the models on a split's rows, where nothing is limited.

        Raises
        ------
        DatasetError
            The rows hold what no figure may be computed from; unusable propensities are left to the gate.
        """
        data = loaded.transitions
        data.check(propensities=False)
        data.require_choice()
        target, logged = data.eligible_target, data.eligible_logged
        behaviour = served.behaviour.probabilities(data.state, target)
        # Before anything was promoted the incumbent is the behaviour model, and without new rules the masks are equal.
        first, same = served.incumbent is served.behaviour, np.array_equal(target, logged)
        incumbent = behaviour if first else served.incumbent.probabilities(data.state, target)
        return cls(
            data=data,
            windows=cut_windows(data, horizon, loaded.last_epoch),
            q=np.asarray(served.q.values(data.state), dtype=np.float64),
            behaviour_target=behaviour,
            behaviour_logged=behaviour if same else served.behaviour.probabilities(data.state, logged),
            incumbent=incumbent,
            incumbent_wished=incumbent,
            incumbent_value=values_of(served.incumbent, data.state, data.n_actions),
            before_contact=loaded.before_contact,
        )

    def with_night(self, night: AverageNight) -> Side:
        """The same split where slots or money are limited."""
        wished, value = self.incumbent_wished, self.incumbent_value
        return replace(self, night=night, incumbent=night.of_incumbent.within(wished, value))

    def candidate(self, served: ServedPolicy, mix: float, q: FloatArray | None = None) -> Floats:
        """The candidate's probabilities at a mix; given `q` (n, n_actions), greedy on these values, at its prices."""
        return self.candidates(served, q)(mix)

    def candidates(self, served: ServedPolicy, q: FloatArray | None = None) -> Callable[[float], Floats]:
        """The same as a function of the mix."""
        values, night = self.q if q is None else q, self.night
        mixtures = served.mixtures(values, self.behaviour_target, self.incumbent_wished, self.data.eligible_target)
        if night is None:
            return mixtures
        return lambda mix: night.of_candidate(served, mix).within(mixtures(mix), values)

    def critic(self, values: FloatArray, probabilities: Floats) -> Critic:
        """A model's values of shape (horizon, n, n_actions), by steps to go, as the critic of a policy."""
        return Critic.of(lambda steps_to_go: values[steps_to_go - 1], probabilities, self.data.action, self.windows)

    def sample(self, programme: Programme, charge: Floats | float) -> Sample:
        """The split's windows with everything that does not depend on the candidate."""
        return Sample.of(
            self.data,
            self.windows,
            behaviour=self.behaviour_logged,
            incumbent=self.incumbent,
            discount=programme.learning.discount,
            harms=programme.harms,
            lost_charge=charge,
        )


def hold(programme: Programme, as_of: dt.date, run_id: str, dag_run_id: str | None = None) -> int:
    """Choose the mix on the select split, judge the candidate on the gate split, register it and write the ledger.

    Returns
    -------
    int
        The gate's id in the ledger. A run that was judged before keeps its gate.
    """
    with reading(programme, as_of) as (connection, source):
        if (before := ledger.gate_of_run(connection, run_id)) is not None:
            log.info("this run was judged before: gate %s", before)
            return before
        found = learned(run_id)
        loaded = load_splits(connection, source, source.shape.new(found.evidence))
    incumbent_version = registry.incumbent(programme)
    assert incumbent_version is not None, "learning registers version 0"
    with warehouse().connect() as connection:
        k = ledger.attempts(connection, programme, incumbent_version) + 1
    incumbent = registry.load(programme, incumbent_version)
    incumbent.require_features(programme.feature_names)
    # The mix is chosen below; every other layer stands.
    layers = programme.layers
    served = ServedPolicy(incumbent, found.q, found.behaviour, support=layers.support, mix=1.0, epsilon=layers.epsilon)
    sides = sides_of(programme, loaded, served, limits_of(source.shape))
    held = judge_candidate(programme, source.catalogue, served, sides, k, found.look_alikes)
    with registry.run(programme, "", {}, run_id=run_id):
        role = f"candidate against {incumbent_version}: mix {held.policy.mix}, {layers}"
        stored = StoredPolicy(held.policy, programme.feature_names, source.catalogue.ids, held.prices, found.evidence)
        version = registry.register(programme, stored, role)
        registry.name(programme, "challenger", version)
        links = {"mlflow_run_id": run_id, "dag_run_id": dag_run_id}
        content = checked(held.to_dict(version, incumbent_version) | {"links": links})
        days = programme.grid.interval_days
        registry.log_report(content, report.markdown(content, days), report.pictures_of(content, days))
        registry.log_figures(held.metrics() | {f"share_of_{split}_read": side.share for split, side in loaded.items()})
    with warehouse().begin() as connection:
        row = held.ledger_row() | {
            "programme_id": source.batch.programme_id,
            "as_of": as_of,
            "batch_id": source.batch.batch_id,
            "candidate_version": version,
            "incumbent_version": incumbent_version,
            "attempt": k if held.opened else None,
            "report": content,
            "fingerprint": source.fingerprint(),
            "mlflow_run_id": run_id,
            "dag_run_id": dag_run_id,
        }
        gate_id = ledger.record(connection, row)
    log.info("gate %s: %s\n%s", gate_id, held.verdict.verdict, "\n".join(held.reasons))
    return gate_id


def load_splits(connection: Connection, source: Source, new: BoolArray) -> dict[Split, Loaded]:
    """The three splits as a gate takes them, of `gate.max_customers` each; the learn split teaches its critics.

    Parameters
    ----------
    new : bool array of shape (n_actions,)
        Actions too new to be learned from: no policy may choose them.
    """
    programme, shape = source.shape.programme, source.shape
    most = [n for n in (programme.learning.max_customers, programme.gate.max_customers) if n is not None]
    customers = {"learn": min(most, default=None)}
    loaded: dict[Split, Loaded] = {
        split: load(connection, shape, split, customers.get(split, programme.gate.max_customers))
        for split in get_args(Split)
    }
    loaded = {split: replace(part, transitions=part.transitions.without(new)) for split, part in loaded.items()}
    if loaded["gate"].undecided.any():
        for split in ("learn", "gate"):
            loaded[split] = with_before_contact(connection, shape, split, loaded[split])
    return loaded


@dataclass(frozen=True)
class Held:
    """A gate that was held: the candidate as it would be published, and what was found.

    `opened` is False where no mix promised to pass: the figures are then shown for information, the verdict is DEFER,
    and the attempt spends nothing. `prices` are those of scarce slots and money, fixed at this training.
    """

    policy: ServedPolicy
    choice: MixChoice
    verdict: Verdict
    opened: bool
    lost_customer_value: float
    exhibits: Exhibits
    prices: Prices | None = None

    @property
    def reasons(self) -> tuple[str, ...]:
        return self.verdict.reasons if self.opened else self.choice.reasons

    def to_dict(self, version: int, incumbent_version: int) -> dict[str, Any]:
        """The machine-readable report."""
        return {
            "candidate_version": version,
            "incumbent_version": incumbent_version,
            "mix": self.policy.mix,
            "opened": self.opened,
            "lost_customer_value": self.lost_customer_value,
            "prices": self.prices.of_limits if self.prices else {},
            "choice": plain(self.choice),
            **self.verdict.to_dict(),
            **plain(self.exhibits),
            # Of a gate that was not opened: what the verdict says is for information only.
            "verdict": self.outcome,
            "reasons": list(self.reasons),
        }

    @property
    def outcome(self) -> str:
        return self.verdict.verdict if self.opened else "DEFER"

    def ledger_row(self) -> dict[str, Any]:
        """The ledger's columns that the verdict gives."""
        deciding, judged = self.verdict.deciding, self.verdict.judged
        values = {f.policy: f.value for f in self.verdict.estimates if deciding and f.estimator == deciding.estimator}
        evidence = next((r.figures for r in self.verdict.rules if r.rule == "evidence"), {})
        share = judged.logged_share
        return {
            "alpha": deciding.alpha if deciding and self.opened else None,
            "mix": self.policy.mix,
            "value_incumbent": values.get("incumbent"),
            "value_candidate": values.get("candidate"),
            "delta": deciding.estimate if deciding else None,
            "lower_bound": deciding.lower if deciding else None,
            "upper_bound": deciding.upper if deciding else None,
            "effective_size": evidence.get("candidate_effective_size"),
            "windows": judged.windows,
            "customers": judged.customers,
            "verdict": self.outcome,
            "propensities": "logged" if share == 1 else "estimated" if share == 0 else "mixed",
        }

    def metrics(self) -> dict[str, float]:
        """What MLflow charts over runs."""
        return {k: float(v) for k, v in self.ledger_row().items() if isinstance(v, (int, float)) and np.isfinite(v)}


def sides_of(
    programme: Programme, loaded: Mapping[Split, Loaded], served: ServedPolicy, limits: Sequence[Limit] = ()
) -> dict[Split, Side]:
    """The splits as a gate looks at them.

    Parameters
    ----------
    limits : sequence of Limit
        Of one night and all of its customers (`tonight.limits_of`).
    """
    sides = {split: Side.of(part, programme.gate.horizon, served) for split, part in loaded.items()}
    now = {split: rows_now(side.data) for split, side in sides.items()}
    grid = programme.grid
    there = sum(len(rows) / loaded[split].share for split, rows in now.items())
    due = there / (grid.interval_days if grid.stagger else 1)
    if not limits or not len(now["learn"]):
        return sides
    learn, rows = sides["learn"], evenly(now["learn"])
    night = AverageNight(
        q=learn.q[rows],
        behaviour=learn.behaviour_target[rows],
        incumbent=learn.incumbent_wished[rows],
        incumbent_value=learn.incumbent_value[rows],
        eligible=learn.data.eligible_target[rows],
        limits=scaled(limits, len(rows), due),
        even_share=programme.layers.even_share,
    )
    return {split: side.with_night(night) for split, side in sides.items()}


def judge_candidate(
    programme: Programme,
    catalogue: Catalogue,
    served: ServedPolicy,
    sides: Mapping[Split, Side],
    k: int = 1,
    look_alikes: LookAlikes | None = None,
) -> Held:
    """Choose λ on the select split, judge on the gate split, and put beside it what the report shows.

    Parameters
    ----------
    served, sides, k
        See `Trial`.
    look_alikes : LookAlikes, optional
        To be shown beside the candidate.

    Raises
    ------
    GateError
        A customer is in two splits, or a split has no complete window.
    """
    check_splits(**{split: np.unique(side.data.customer) for split, side in sides.items()})
    trial = Trial(programme, catalogue, served, sides, k)
    policy = served.with_mix(trial.mix)
    shown = exhibits(
        programme,
        catalogue,
        policy,
        look_alikes,
        select=Evaluated(sides["select"], trial.choosing, trial.foreseen.values_at(trial.mix)),
        judged=Evaluated(sides["gate"], trial.judged, trial.modelled.values_at(trial.mix)),
        critics=trial.modelled(trial.mix),
    )
    opened = trial.choice.mix is not None
    return Held(policy, trial.choice, trial.verdict, opened, trial.loss.value, shown, trial.prices)
