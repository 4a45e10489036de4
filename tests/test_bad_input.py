"""Bad input on its way through learning and the gate: a verdict, or an error that says where it is and what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from bench.study_loop import catalogue_of, programme_of, split_customers
from nba_tasks import report
from nba_tasks.critics import Loss
from nba_tasks.dataset import DatasetError, IntArray, Transitions
from nba_tasks.gate import GateError, judge
from nba_tasks.gate.schema import checked
from nba_tasks.learners.behaviour import BehaviourModel
from nba_tasks.loading import Loaded, Split
from nba_tasks.policy import ServedPolicy
from nba_tasks.programme import Programme
from nba_tasks.simulators import testbed
from nba_tasks.train import fit
from nba_tasks.trial import Held, Side, judge_candidate
from tests.gate.cases import SMALL, make_sample

Splits = dict[Split, Loaded]
Change = Callable[[Transitions], Transitions]

SPLITS: tuple[Split, ...] = ("learn", "select", "gate")


@cache
def programme(horizon: int = 4) -> Programme:
    """The testbed's, with few trees."""
    found = programme_of("testbed")
    learning = found.learning.model_copy(update={"trees": 4, "refits": 1, "max_sweeps": 4})
    return found.model_copy(update={"learning": learning, "gate": found.gate.model_copy(update={"horizon": horizon})})


@cache
def log() -> Transitions:
    """400 customers."""
    return testbed.to_transitions(testbed.simulate(400, 1))


def dealt(change: Change = lambda data: data) -> Splits:
    """A log by splits."""
    data = change(log())
    return split_customers(programme(), data, np.full(len(data), testbed.EPOCHS - 1))


def changed(splits: Splits, split: Split, change: Change) -> Splits:
    """The same with one split changed, whose rows stay."""
    return {**splits, split: replace(splits[split], transitions=change(splits[split].transitions))}


def kept(splits: Splits, split: Split, rows: Callable[[Transitions], IntArray]) -> Splits:
    """The same with some of the rows of one split."""
    data, chosen = splits[split].transitions, rows(splits[split].transitions)
    return {**splits, split: Loaded(data.rows(chosen), splits[split].last_epoch[chosen])}


def judged(splits: Splits, horizon: int = 4) -> Held:
    """What training and the gate do, up to what is written."""
    asked, catalogue = programme(horizon), catalogue_of(programme(), testbed.catalogue(), testbed.AS_OF)
    data = splits["learn"].transitions
    data.check()
    behaviour, fitted = fit(asked, data, catalogue, seed=0)
    served = ServedPolicy(behaviour, fitted.q, behaviour, support=asked.layers.support, mix=1.0, epsilon=0.0)
    sides = {split: Side.of(loaded, horizon, served) for split, loaded in splits.items()}
    return judge_candidate(asked, catalogue, served, sides)


def deferred(held: Held, *, drawn: bool = False) -> str:
    """The report, in every form that a training writes, of a gate that was not passed for a reason that is given."""
    assert held.outcome != "PROMOTE"
    assert held.reasons
    content = checked(held.to_dict(2, 1) | {"links": {"mlflow_run_id": "run", "dag_run_id": None}})
    assert not drawn or report.pictures_of(content, 25)
    return report.markdown(content, 25)


def with_propensity(value: float) -> Change:
    """One decision in ten logged with this probability."""

    def change(data: Transitions) -> Transitions:
        tenth = (np.arange(len(data)) % 10 == 0) & ~data.open
        return replace(data, propensity=np.where(tenth, value, data.propensity))

    return change


@pytest.mark.parametrize("value", [0.0, -0.1, 1.5, np.inf])
def test_learning_refuses_unusable_propensities(value: float) -> None:
    with pytest.raises(DatasetError, match=r"customer \d+, epoch \d+ .* outside \(0, 1\]; mend the decisions"):
        judged(changed(dealt(), "learn", with_propensity(value)))


@pytest.mark.parametrize("value", [0.0, np.inf])
def test_the_gate_is_not_opened_on_a_select_split_with_unusable_propensities(value: float) -> None:
    held = judged(changed(dealt(), "select", with_propensity(value)))
    assert not held.opened
    assert held.choice.forecasts == ()
    assert "on the select split, " in held.reasons[0]
    assert "no usable propensity (missing, 0 or above 1). What would help: repair" in deferred(held)


@pytest.mark.parametrize("value", [0.0, -0.1, 1.5])
def test_the_gate_rejects_unusable_propensities(value: float) -> None:
    held = judged(changed(dealt(), "gate", with_propensity(value)))
    assert held.verdict.verdict == "REJECT"
    assert held.verdict.deciding is None
    assert held.ledger_row()["delta"] is None
    assert "no usable propensity" in deferred(held)


@pytest.mark.parametrize("split", SPLITS)
def test_absent_propensities_are_estimated_and_a_person_must_decide(split: Split) -> None:
    held = judged(changed(dealt(), split, with_propensity(np.nan)))
    assert held.verdict.needs_person == (split == "gate")
    deferred(held)


def test_a_log_of_a_single_action() -> None:
    """Nothing is known of any other: the candidate has no weight."""

    def always_the_first_offer(data: Transitions) -> Transitions:
        return replace(data, action=data.eligible_logged.argmax(axis=1), propensity=np.ones(len(data)))

    held = judged(dealt(always_the_first_offer))
    assert held.outcome == "DEFER"
    deferred(held, drawn=True)


@pytest.mark.parametrize("logged", [True, False])
def test_deterministic_behaviour(logged: bool) -> None:
    def by_visits(data: Transitions) -> Transitions:
        last = data.eligible_logged.shape[1] - 1 - data.eligible_logged[:, ::-1].argmax(axis=1)
        many = data.state[:, 1] > np.median(data.state[:, 1])
        action = np.where(many, last, data.eligible_logged.argmax(axis=1))
        return replace(data, action=action, propensity=np.full(len(data), 1.0 if logged else np.nan))

    held = judged(dealt(by_visits))
    assert held.verdict.needs_person != logged
    deferred(held, drawn=True)


@pytest.mark.parametrize("mask", ["eligible_logged", "eligible_target"])
@pytest.mark.parametrize("split", ["learn", "gate"])
def test_no_eligible_action(split: Split, mask: str) -> None:
    def forbid(data: Transitions) -> Transitions:
        third = np.arange(len(data)) == 3
        return replace(data, **{mask: getattr(data, mask) & ~third[:, None]})

    with pytest.raises(DatasetError, match="leave no action; keep no_action in the catalogue or loosen a rule"):
        judged(changed(dealt(), split, forbid))


@pytest.mark.parametrize("split", SPLITS)
def test_one_customer(split: Split) -> None:
    held = judged(kept(dealt(), split, lambda data: np.flatnonzero(data.customer == data.customer[0])))
    if split == "gate":
        assert held.verdict.deciding is not None
        assert held.verdict.deciding.lower == -np.inf
    assert held.outcome == "DEFER"
    deferred(held)


@pytest.mark.parametrize("split", SPLITS)
def test_nobody(split: Split) -> None:
    with pytest.raises(DatasetError, match="too few customers for the splits"):
        judged(kept(dealt(), split, lambda data: np.zeros(0, dtype=np.int64)))


def test_nothing_but_open_rows() -> None:
    data = log().rows(log().epoch == 0)
    waiting = replace(data, action=np.full(len(data), -1), done=np.zeros(len(data), dtype=bool))
    with pytest.raises(DatasetError, match="no epoch settled yet"):
        waiting.check()


def test_everybody_leaves_at_once() -> None:
    def lost(data: Transitions) -> Transitions:
        first = data.rows(data.epoch == 0)
        ended = np.ones(len(first), dtype=bool)
        return replace(first, done=ended, lost=ended)

    held = judged(dealt(lost))
    assert held.verdict.judged.decisions == held.verdict.judged.windows
    deferred(held, drawn=True)


def test_horizon_1() -> None:
    held = judged(dealt(), horizon=1)
    assert held.verdict.judged.decisions == held.verdict.judged.windows
    deferred(held)


def test_a_horizon_beyond_the_log() -> None:
    with pytest.raises(GateError, match=r"no complete window of 9 decisions .* shorten gate.horizon"):
        judged(dealt(), horizon=9)


@pytest.mark.parametrize("amount", [0.0, 0.1])
def test_a_constant_reward_is_no_gain(amount: float) -> None:
    """Rounding must not look like a gain, however many windows there are."""
    held = judged(dealt(lambda data: replace(data, reward=np.full(len(data), amount))))
    deciding = held.verdict.deciding
    assert deciding is not None
    assert (deciding.estimate, deciding.lower, deciding.upper) == (0, 0, 0)
    assert next(rule for rule in held.verdict.rules if rule.rule == "value").status == "defer"
    deferred(held)


def test_rounding_alone_is_never_promoted() -> None:
    """The candidate is the incumbent but for the last digits."""
    sample, _ = make_sample(2_000)
    nearly = sample.incumbent * (1 + 1e-13)
    verdict = judge(sample, nearly, SMALL, bootstrap_replicates=0)
    assert verdict.deciding is not None
    assert verdict.deciding.lower == 0
    assert verdict.verdict == "DEFER"


def test_a_customer_in_two_splits() -> None:
    splits = dealt()
    learn, gate = splits["learn"], splits["gate"]
    rows = learn.transitions.customer == learn.transitions.customer[0]
    names = [field.name for field in fields(Transitions) if field.name != "outcome_names"]
    guest = learn.transitions.rows(rows)
    both: dict[str, Any] = {
        name: np.concatenate([getattr(guest, name), getattr(gate.transitions, name)]) for name in names
    }
    data = replace(gate.transitions, **both)
    order = np.lexsort((data.epoch, data.customer))
    ends = np.concatenate([learn.last_epoch[rows], gate.last_epoch])
    with pytest.raises(GateError, match=r"1 customer\(s\) are in both the learn and the gate split, e.g. \d+"):
        judged({**splits, "gate": Loaded(data.rows(order), ends[order])})


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(
    ("column", "what"),
    [("state", "give the feature a `missing` value"), ("reward", "mend the events"), ("outcomes", "mend the events")],
)
def test_numbers_that_are_none(split: Split, column: str, what: str) -> None:
    def spoil(data: Transitions) -> Transitions:
        spoilt: Any = getattr(data, column).astype(np.float64)
        spoilt[5] = np.nan
        return replace(data, **{column: spoilt})

    with pytest.raises(DatasetError, match=r"customer \d+, epoch \d+ \(the first of 1 rows\).*" + what):
        judged(changed(dealt(), split, spoil))


def test_an_action_that_was_chosen_once() -> None:
    """With a thousand decisions and more, a part of them is set aside to stop by: one decision has no two parts."""
    data = testbed.to_transitions(testbed.simulate(400, 1))
    everything = np.ones_like(data.eligible_logged)
    action = np.random.default_rng(0).integers(0, 2, len(data))
    action[5] = 3
    model = BehaviourModel.fit(replace(data, action=action, eligible_logged=everything), seed=0)
    found = model.probabilities(data.state, everything)
    assert found[:, 3] == pytest.approx(1e-4)
    assert found[:, :2].min() > 0.01


def test_a_customer_s_worth_that_is_endless() -> None:
    asked = programme().model_copy(
        update={"reward": programme().reward.model_copy(update={"lost_customer_value": None})}
    )
    with pytest.raises(DatasetError, match=r"set reward\.lost_customer_value, or a smaller discount"):
        Loss.of(asked, replace(log(), lost=np.zeros(len(log()), dtype=bool)))
