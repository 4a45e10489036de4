"""Whatever the catalogue, the rules, the limits, the arms and the policies: no published list breaks any of them."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nba_tasks import publish, score
from nba_tasks.arms import NAMES
from nba_tasks.batches import read_batch
from nba_tasks.dataset import BoolArray, FloatArray
from nba_tasks.eligibility import in_force
from nba_tasks.policy import apply_rules
from nba_tasks.policy_store import StoredPolicy
from nba_tasks.programme import NO_ACTION, Consent, Programme, Suppression
from nba_tasks.shape import Shape
from nba_tasks.transitions import shape_of
from tests.databases import TestServer, valid_night
from tests.histories import Author, Witness
from tests.test_transitions_oracle import Warehouse, programmes
from tests.transitions_oracle import Customer, Story, Told, _View

EXAMPLES, CUSTOMERS = 20, 60


@dataclass(frozen=True)
class Whims:
    """A policy without reasons: any probabilities, some of them 0."""

    seed: int

    def probabilities(self, state: FloatArray, eligible: BoolArray) -> NDArray[np.float64]:
        random = np.random.default_rng([self.seed, len(state)])
        wished = random.gamma(0.5, size=eligible.shape) * (random.random(eligible.shape) < 0.7)
        return apply_rules(wished, eligible)


@st.composite
def limited(draw: st.DrawFn) -> Programme:
    """A programme with arms, and now and then with limits."""
    content = draw(programmes()).model_dump()
    limits = st.none() | st.integers(0, 4)
    for channel in content["channels"].values():
        channel["daily_limit"] = draw(limits)
    arms = {"holdout": draw(st.sampled_from([0, 0.2])), "business_as_usual": draw(st.sampled_from([0, 0.3]))}
    changes = {"arms": arms, "publish": {"budget": draw(st.none() | st.floats(0, 6))}}
    return Programme.model_validate(content | changes)


def as_tonight_asks(customer: Customer, programme: Programme) -> Customer:
    """The customer of whom consent, and lists that forbid contacts, were always known as they are now."""
    now = [
        Told(column, dt.datetime(1900, 1, 1, tzinfo=dt.UTC), 0, customer.columns.get(column))
        for column in programme.flags
    ]
    return replace(customer, told=[*(told for told in customer.told if told.column not in programme.flags), *now])


def allowed(story: Story, customer: Customer) -> set[str]:
    """What the rules allow tonight, from their definition: the state is what was known before, consent what is now."""
    before, now = _View(story, customer), _View(story, as_tonight_asks(customer, story.programme))
    epoch = (story.as_of - before.start(0)).days // story.programme.grid.interval_days
    assert before.start(epoch) == story.as_of, "nobody is decided for on another day than their own"
    rules = [rule for rule in story.programme.rules if in_force(rule, story.as_of)]
    return {
        action.action_id
        for action in story.actions
        if before._active(action, story.as_of, tonight=True)
        and all(
            (now if isinstance(rule, Consent | Suppression) else before)._allows(rule, action, epoch, tonight=True)
            for rule in rules
        )
    }


def check(story: Story, shape: Shape, decisions: list[dict[str, Any]], listed: list[dict[str, Any]]) -> None:
    """Every decision and the list as a whole."""
    programme = story.programme
    customers = {customer.customer_id: customer for customer in story.customers}
    assert len({d["customer_id"] for d in decisions}) == len(decisions), "one decision each"
    scarce = programme.publish.budget is not None or any(c.daily_limit is not None for c in programme.channels.values())
    for decision in decisions:
        may = allowed(story, customers[decision["customer_id"]])
        chances = dict(zip(decision["eligible_actions"], decision["probabilities"], strict=True))
        assert abs(sum(chances.values()) - 1) < 1e-9
        assert min(chances.values()) > 0
        assert decision["action_id"] in chances
        if decision["arm"] == NAMES["h"]:
            assert set(chances) == {NO_ACTION}
        elif not may or scarce:  # nothing is allowed, or no slot may be left: nothing is done
            assert set(chances) <= may | {NO_ACTION}
        else:
            assert set(chances) <= may
    sent = [d for d in decisions if d["action_id"] != NO_ACTION]
    key = ("decision_id", "customer_id", "action_id")
    assert sorted(tuple(d[k] for k in key) for d in sent) == sorted(tuple(d[k] for k in key) for d in listed)
    actions = {a.action_id: a for a in shape.actions}
    for name, channel in programme.channels.items():
        if channel.daily_limit is not None:
            assert sum(actions[d["action_id"]].channel == name for d in sent) <= channel.daily_limit
    if programme.publish.budget is not None:
        assert sum(actions[d["action_id"]].cost for d in sent) <= programme.publish.budget + 1e-6


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
@given(programme=limited(), seed=st.integers(0, 2**32), days=st.integers(40, 70))
def test_no_list_breaks_a_rule_a_limit_or_an_arm(
    server: TestServer, programme: Programme, seed: int, days: int
) -> None:
    """Two publish at once, and one tries again: one list comes of it."""
    as_of = programme.grid.anchor + dt.timedelta(days=days)
    crm = Author(programme, [as_of], seed, integer_ids=False).write(CUSTOMERS)[0]
    warehouse = Warehouse(server.databases(), programme)
    warehouse.create(integer_ids=False)
    warehouse.fill(crm)
    story = Witness(programme).story(crm, 0, as_of, dt.datetime.now(dt.UTC))
    assume(story.log_start is not None and story.log_start < as_of)
    valid_night(warehouse.databases, programme, as_of)
    with warehouse.databases.warehouse.connect() as connection:
        shape = shape_of(connection, programme, read_batch(connection, programme, as_of))
    ids = tuple(action.action_id for action in shape.actions)
    served, usual = (StoredPolicy(Whims(seed + i), programme.feature_names, ids) for i in range(2))
    serve = score.Serving(2, served, usual)
    for shard in range(programme.shards):
        score.score_shard(warehouse.databases.warehouse, programme, as_of, shard, serve)

    def run(name: str) -> publish.Publication:
        databases = warehouse.databases
        return publish.publish(databases.crm, databases.warehouse, programme, as_of, serve, name, today=as_of)

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(run, ("one", "other")))
    assert sorted(done.written for done in both) == [False, True]
    assert not run("again").written
    with warehouse.databases.crm.connect() as connection:
        decisions, listed = (
            [dict(row._mapping) for row in connection.execute(sa.text(f"select * from {relation}"))]
            for relation in ("decisions where programme is not null", "campaign_list")
        )
    for engine in (warehouse.databases.crm, warehouse.databases.warehouse):
        engine.dispose()
    assert (len(decisions), len(listed)) == (both[0].decisions, both[0].to_send)
    check(story, shape, decisions, listed)
