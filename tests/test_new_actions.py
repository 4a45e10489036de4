"""An action added to the catalogue, and one retired: what the lists of the nights after do with them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from nba_tasks import ledger, publish, registry, score, steps, train, trial
from nba_tasks.batches import read_batch
from nba_tasks.settings import settings
from nba_tasks.shape import Shape
from nba_tasks.transitions import shape_of
from tests.databases import TestServer, valid_night
from tests.loop import AS_OF, GATE, Installation, connect, install, sales_channels

NEXT, AFTER = (AS_OF + dt.timedelta(days=n) for n in (1, 2))
SHARE = 0.05


@pytest.fixture(scope="module")
def grown(server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Trained; then a voucher by e-mail comes into the catalogue, and half of the customers are business as usual."""
    made = install(server, sales_channels(gate=GATE | {"horizon": 1}))
    with pytest.MonkeyPatch.context() as patch:
        connect(made, patch, tmp_path_factory.mktemp("grown"))
        for shard in steps.plan_training(made.programme, AS_OF):
            steps.build_transitions(made.programme, AS_OF, shard)
        trial.hold(made.programme, AS_OF, train.learn(made.programme, AS_OF))
        made.databases.run(
            "insert into actions select (jsonb_populate_record(a, jsonb_build_object('action_id', 'voucher', 'cost',"
            " cost + 0.1))).* from actions as a where action_id = 'email'"
        )
        with made.warehouse.begin() as connection:
            arms = "(array['b', 's'])[1 + mod(customer_key, 2)]::\"char\""
            connection.exec_driver_sql(f"update history.customers set arm = {arms}")
        valid_night(made.databases, made.programme, NEXT)
        yield made
    settings.cache_clear()


def candidate(made: Installation) -> score.Serving:
    gate = ledger.last_gate(made.warehouse, "sales_channels")
    assert gate is not None
    return score.serving(made.programme, gate["candidate_version"])


def shape_on(made: Installation, night: dt.date) -> Shape:
    with made.warehouse.connect() as connection:
        return shape_of(connection, made.programme, read_batch(connection, made.programme, night))


def listed(made: Installation, night: dt.date, serve: score.Serving) -> list[dict[str, Any]]:
    """The night's decisions, published."""
    for shard in range(made.programme.shards):
        score.score_shard(made.warehouse, made.programme, night, shard, serve)
    done = publish.publish(made.crm, made.warehouse, made.programme, night, serve, f"run {night}", today=night)
    assert done.written
    with made.crm.connect() as connection:
        query = sa.text("select * from decisions where decision_id like :night order by 1")
        return [dict(row._mapping) for row in connection.execute(query, {"night": f"sales_channels/{night}/%"})]


def chance(decision: dict[str, Any], action: str) -> float:
    return float(dict(zip(decision["eligible_actions"], decision["probabilities"], strict=True)).get(action, 0.0))


def test_a_new_action_gets_its_share_and_a_value_from_its_likes_at_once(grown: Installation) -> None:
    serve = candidate(grown)
    decisions = listed(grown, NEXT, serve)
    served = [d for d in decisions if d["arm"] == "served policy"]
    may = [d for d in served if chance(d, "email") > 0]
    assert len(may) > 20
    assert {round(chance(d, "voucher"), 12) for d in may} == {SHARE}
    assert [chance(d, "voucher") for d in decisions if d["arm"] == "business as usual"] == [0.0] * (
        len(decisions) - len(served)
    )
    values = [dict(zip(d["eligible_actions"], d["expected_values"], strict=True)) for d in may]
    voucher, email, nothing = (np.array([v[name] for v in values]) for name in ("voucher", "email", "no_action"))
    assert np.isfinite(voucher).all()
    # Nothing but its cost tells it from e-mail: what is expected of both goes together.
    assert np.corrcoef(voucher - nothing, email - nothing)[0, 1] > 0.5
    summary = grown.databases.rows(f"select summary from nba.lists where list_date = '{NEXT}'")[0][0]
    assert summary["little_evidence"] == ["voucher"]


def test_who_got_it_is_told_that_it_is_new(grown: Installation) -> None:
    """Many draws: whoever draws the voucher is told why."""
    serve, shape = candidate(grown), shape_on(grown, NEXT)
    arm = np.array(["s", "b"])
    eligible = np.ones((2, len(shape.actions)), dtype=bool)
    index = next(a.index for a in shape.actions if a.action_id == "voucher")
    assert serve.new(shape, arm, eligible).tolist() == [[i == index for i in range(len(shape.actions))], [False] * 5]


def test_the_gate_of_the_next_training_knows_it_and_leaves_the_carve_out_aside(grown: Installation) -> None:
    for shard in steps.plan_training(grown.programme, NEXT):
        steps.build_transitions(grown.programme, NEXT, shard)
    gate_id = trial.hold(grown.programme, NEXT, train.learn(grown.programme, NEXT))
    gate = ledger.last_gate(grown.warehouse, "sales_channels")
    assert gate is not None
    assert gate["gate_id"] == gate_id
    stored = registry.load(grown.programme, gate["candidate_version"])
    assert stored.actions[-1] == "voucher"
    assert stored.evidence[-1] == 0
    shape = shape_on(grown, NEXT)
    assert stored.newcomers(shape).tolist() == [False] * 4 + [True], "it has still no data"
    assert not any("never acts" in reason for reason in gate["report"]["reasons"])


def test_enough_decisions_end_the_carve_out(grown: Installation) -> None:
    shape, serve = shape_on(grown, NEXT), candidate(grown)
    known = type(serve.served)(serve.served.policy, serve.served.features, (), evidence=(9, 9, 9, 9, 500))
    assert not known.newcomers(shape).any()
    fewer = replace(known, evidence=(9, 9, 9, 9, 499))
    assert fewer.newcomers(shape).tolist() == [False] * 4 + [True], "the others were there from the start"
    before_evidence_was_kept = replace(known, actions=tuple(a.action_id for a in shape.actions), evidence=())
    assert not before_evidence_was_kept.newcomers(shape).any()


def test_where_only_the_new_action_is_allowed_it_is_given(grown: Installation) -> None:
    serve, shape = candidate(grown), shape_on(grown, NEXT)
    state = np.zeros((2, len(shape.features)), dtype=np.float32)
    eligible = np.array([[False] * 4 + [True], [True] * 5])
    found = serve.probabilities(shape, state, eligible, np.array(["s", "s"]))
    assert found[0].tolist() == [0, 0, 0, 0, 1]
    assert found[1, -1] == SHARE
    assert found[1].sum() == pytest.approx(1)


def test_scarce_slots_do_not_flow_to_what_is_new(grown: Installation) -> None:
    """Calls for a tenth of those who would get one: the voucher keeps its share for everybody, none flows to it."""
    serve = candidate(grown)
    content = grown.programme.model_dump()
    channels = content["channels"] | {"email": content["channels"]["email"] | {"daily_limit": 6}}
    scarce = type(grown.programme).model_validate(content | {"channels": channels})
    for shard in range(scarce.shards):
        score.score_shard(grown.warehouse, scarce, NEXT, shard, serve)
    publish.publish(grown.crm, grown.warehouse, scarce, NEXT, serve, "scarce", dry_run=True, today=NEXT)
    (summary,) = grown.databases.rows("select summary from nba.lists where run_id = 'scarce'")[0]
    rows = {row["action_id"]: row for row in summary["actions"]}
    assert rows["voucher"]["chances"] <= SHARE * rows["voucher"]["allowed"] + 1e-9


def test_a_retired_action_disappears_the_same_night(grown: Installation) -> None:
    grown.databases.run(f"update actions set active_to = timestamptz '{AFTER} 00:00+02' where action_id = 'voucher'")
    valid_night(grown.databases, grown.programme, AFTER)
    decisions = listed(grown, AFTER, candidate(grown))
    assert len(decisions) > 50
    assert not any("voucher" in d["eligible_actions"] for d in decisions)
    assert any(chance(d, "email") > 0 for d in decisions)
