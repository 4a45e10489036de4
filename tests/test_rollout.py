"""The roll-out on real stores: who is reached, what the lists say, what holds it back, and who takes the next step."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from nba_tasks import audit, ledger, outcomes, publish, registry, review, rollout, rollout_steps, score
from nba_tasks.arms import PREVIOUS, SERVED
from nba_tasks.batches import read_batch
from nba_tasks.hashing import uniforms
from nba_tasks.outcomes import Outcome
from nba_tasks.programme import Programme
from tests.loop import AS_OF, Installation

SHARE = 30


def rolled(made: Installation, **changes: Any) -> Programme:
    """The programme with a roll-out of two steps."""
    content = made.programme.model_dump() | {"rollout": {"steps": [SHARE, 100], **changes}}
    return Programme.model_validate(content)


def rows(made: Installation, query: str) -> list[Any]:
    with made.crm.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]


@pytest.fixture
def begun(trained: Installation, versions: tuple[int, int], night: Callable[..., Any]) -> Iterator[Programme]:
    """The candidate was approved, for three of ten customers; `night` leaves the CRM without publications."""
    programme = rolled(trained)
    with trained.warehouse.begin() as connection:
        before = connection.exec_driver_sql("select gate_id, verdict from nba.gates").all()
        connection.exec_driver_sql("update nba.gates set verdict = 'PROMOTE'")
    gate = ledger.last_gate(trained.warehouse, "sales_channels")
    assert gate is not None
    for _ in range(2):  # a repeated approval begins no second roll-out
        review.decide(trained.warehouse, programme, gate["gate_id"], approve=True, decided_by="ann")
    yield programme
    with trained.warehouse.begin() as connection:
        for gate_id, verdict in before:
            connection.exec_driver_sql(f"update nba.gates set verdict = '{verdict}' where gate_id = {gate_id}")
        connection.exec_driver_sql("delete from nba.rollouts")


def publish_night(made: Installation, programme: Programme, version: int) -> publish.Publication:
    """Score and publish the night as the steps do."""
    serve = score.serving(programme, version, rollout.step_on(made.warehouse, programme, version, AS_OF))
    for shard in range(programme.shards):
        score.score_shard(made.warehouse, programme, AS_OF, shard, serve)
    return publish.publish(made.crm, made.warehouse, programme, AS_OF, serve, "a run", today=AS_OF)


def progress(made: Installation, programme: Programme, version: int) -> rollout.Progress:
    with made.warehouse.connect() as connection:
        batch = read_batch(connection, programme, AS_OF)
        found = rollout.progress(connection, programme, batch, version, [AS_OF], {})
    assert found is not None
    return found


def test_the_first_step_reaches_its_share_and_the_rest_keep_to_the_policy_before(
    trained: Installation, begun: Programme, versions: tuple[int, int]
) -> None:
    usual, candidate = versions
    done = publish_night(trained, begun, candidate)
    assert done.written
    assert done.policy_version == candidate
    decided = rows(trained, "select customer_id, arm, policy_version from decisions where programme is not null")
    order = uniforms("sales_channels", "rollout", f"{begun.salt}|{candidate}", [row[0] for row in decided])
    expected = [
        ("served policy", str(candidate)) if u < SHARE / 100 else ("previous policy", str(usual)) for u in order
    ]
    assert [row[1:] for row in decided] == expected
    assert 0.2 < np.mean(order < SHARE / 100) < 0.4
    listed = rows(
        trained,
        "select distinct d.arm, l.policy_version::text from decisions as d join campaign_list as l using (decision_id)",
    )
    assert sorted(listed) == sorted(set(expected))


def test_everybody_is_decided_for_exactly_as_by_the_policy_of_their_arm(
    trained: Installation, begun: Programme, versions: tuple[int, int]
) -> None:
    usual, candidate = versions

    def scores(serve: score.Serving) -> dict[int, tuple[Any, ...]]:
        for shard in range(begun.shards):
            score.score_shard(trained.warehouse, begun, AS_OF, shard, serve)
        found = trained.databases.rows(
            "select customer_key, arm::text, probability, expected_value::text from nba.scores"
            f" where policy_version = {serve.version}"
        )
        return {row[0]: row[1:] for row in found}

    alone = {PREVIOUS: scores(score.serving(begun, usual)), SERVED: scores(score.serving(begun, candidate))}
    step = rollout.step_on(trained.warehouse, begun, candidate, AS_OF)
    mixed = scores(score.serving(begun, candidate, step))
    assert {row[0] for row in mixed.values()} == set(alone)
    for key, (arm, probability, values) in mixed.items():
        before = alone[arm][key]
        assert (probability, values) == (before[1], before[2])


SPEAKS = "programme is not null and reason like '%; speaks for it: %'"


def test_a_customer_s_decision_names_the_policy_that_took_it(
    trained: Installation, begun: Programme, versions: tuple[int, int]
) -> None:
    usual, candidate = versions
    publish_night(trained, begun, candidate)
    customer = dict(rows(trained, "select arm, min(customer_id) from decisions where programme is not null group by 1"))
    spoken_for = dict(rows(trained, f"select arm, count(*) from decisions where {SPEAKS} group by 1"))
    assert spoken_for["served policy"] > 0, "what moved a choice is said where the learned policy chose"
    assert "holdout" not in spoken_for

    def told(arm: str) -> str:
        return "\n".join(audit.why(trained.crm, trained.warehouse, begun, AS_OF, customer[arm]))

    assert f"version {usual}, before the roll-out of version {candidate} reached this customer" in told(
        "previous policy"
    )
    assert f"policy: version {candidate}, learned from" in told("served policy")
    assert "state: " in told("previous policy")


def test_the_next_step_begins_tomorrow_once_a_list_was_seen(
    trained: Installation, begun: Programme, versions: tuple[int, int]
) -> None:
    candidate = versions[1]
    found = progress(trained, begun, candidate)
    assert (found.step.share, found.following, found.nights) == (SHARE, 100, 1)
    unseen = rollout.Progress(found.step, found.following, 0, found.harms)
    with (
        trained.warehouse.begin() as connection,
        pytest.raises(rollout.RolloutError, match=r"no list was published yet with the step to 30%"),
    ):
        rollout.widen(connection, begun, unseen, "ann", AS_OF)
    with trained.warehouse.begin() as connection:
        step = rollout.widen(connection, begun, found, "ann", AS_OF, "quiet nights")
    assert step.begins_on == AS_OF + dt.timedelta(days=1)
    tonight = rollout.step_on(trained.warehouse, begun, candidate, AS_OF)
    assert tonight is not None
    assert tonight.share == SHARE
    assert rollout.step_on(trained.warehouse, begun, candidate, AS_OF + dt.timedelta(days=1)) is None
    with (
        trained.warehouse.begin() as connection,
        pytest.raises(rollout.RolloutError, match="has gone on in the meantime"),
    ):
        rollout.widen(connection, begun, found, "bob", AS_OF)
    with trained.warehouse.connect() as connection:
        batch = read_batch(connection, begun, AS_OF)
        assert rollout.progress(connection, begun, batch, candidate, [AS_OF], {}) is None, "it has come to its end"


def test_harms_are_counted_by_arm_and_surely_more_of_them_hold_it_back(
    trained: Installation, begun: Programme, versions: tuple[int, int]
) -> None:
    """Complaints of the night's own week are added by hand: of each customer who is reached, and of none other."""
    candidate = versions[1]
    publish_night(trained, begun, candidate)
    week = AS_OF + dt.timedelta(days=7)
    with trained.warehouse.begin() as connection:
        batch = read_batch(connection, begun, AS_OF)
        later = type(batch)(batch.programme_id, batch.batch_id, week)
        quiet = rollout.progress(connection, begun, later, candidate, [AS_OF], {})
        connection.exec_driver_sql(
            f"""
            insert into history.events (occurred_at, customer_key, batch_id, digest, programme_id, event_type,
                event_id, loaded_at)
            select date '{AS_OF}' + interval '3 days', customer_key, {batch.batch_id}, 0, programme_id, 'complaint',
                'by hand ' || customer_key, now()
            from nba.scores where arm = 's' and policy_version = {candidate}
            """
        )
        loud = rollout.progress(connection, begun, later, candidate, [AS_OF], {})
        connection.exec_driver_sql("delete from history.events where starts_with(event_id, 'by hand')")
    assert quiet is not None
    assert loud is not None
    assert [harm.events + harm.previous_events for harm in quiet.harms] == [0, 0], "nothing is known of that week yet"
    assert not quiet.alarms
    scored = dict(
        trained.databases.rows(
            f"select arm::text, count(*) from nba.scores where policy_version = {candidate} group by 1"
        )
    )
    (alarm,) = loud.alarms
    assert (alarm.harm, alarm.events, alarm.decisions) == ("complaint", scored["s"], scored["s"])
    assert (alarm.previous_events, alarm.previous_decisions) == (0, scored["p"])
    assert alarm.tolerated == pytest.approx(1.2)
    with (
        trained.warehouse.begin() as connection,
        pytest.raises(rollout.RolloutError, match=r"stays at 30%: complaint: .* Take it out of use"),
    ):
        rollout.widen(connection, begun, loud, "ann", AS_OF)
    assert not loud.clean(rolled(trained, clean_nights=1))


def test_clean_nights_take_the_step_where_the_file_says_so(
    trained: Installation, begun: Programme, versions: tuple[int, int]
) -> None:
    candidate = versions[1]
    found = progress(trained, begun, candidate)
    for wanted, clean in ((None, False), (2, False), (1, True)):
        assert found.clean(rolled(trained, clean_nights=wanted)) is clean
    willing = rolled(trained, clean_nights=1)
    rollout_steps.go_on(rolled(trained, clean_nights=2), AS_OF, found, AS_OF)
    rollout_steps.go_on(willing, AS_OF, found, AS_OF + dt.timedelta(days=1))
    assert progress(trained, begun, candidate).step == found.step, "a look for a past night takes none"
    loud = rollout.Harm("complaint", 9, 10, 0, 10, 1.2, alarming=True)
    content = {"arms": [], "promises": [], "rollout": replace(found, harms=(loud,)).to_dict()}
    outcomes.record(trained.warehouse, willing, AS_OF, Outcome(candidate, content, (), None, None))
    rollout_steps.go_on(willing, AS_OF, found, AS_OF)
    assert progress(trained, begun, candidate).step == found.step, "an alarm has gone away, but the night was not clean"
    with trained.warehouse.begin() as connection:
        connection.exec_driver_sql("delete from nba.outcomes")
    rollout_steps.go_on(willing, AS_OF, found, AS_OF)
    with trained.warehouse.connect() as connection:
        newest = rollout.newest(connection, "sales_channels", candidate)
    assert newest is not None
    assert (newest.share, newest.decided_by) == (100, rollout.CLEAN)


def test_a_policy_that_was_put_to_use_at_once_has_no_roll_out(
    trained: Installation, night: Callable[..., Any], versions: tuple[int, int]
) -> None:
    rollout.begin(trained.warehouse, trained.programme, versions[1], versions[0], "ann")
    assert rollout.step_on(trained.warehouse, trained.programme, versions[1], AS_OF) is None
    assert rollout_steps.under_way(trained.programme) is None
    with pytest.raises(rollout.RolloutError, match="has no roll-out under way"):
        rollout_steps.widen(trained.programme, "ann")


def test_a_champion_that_is_put_back_serves_everybody(
    trained: Installation, begun: Programme, versions: tuple[int, int]
) -> None:
    """The candidate was at 30% when another took its place (version 0, for want of a third), and was taken back."""
    registry.name(begun, "champion", versions[0])
    registry.name(begun, "previous", versions[1])
    review.roll_back(trained.warehouse, begun, decided_by="ann", expected=versions[0])
    assert registry.version_of(begun, "champion") == versions[1]
    assert rollout.step_on(trained.warehouse, begun, versions[1], AS_OF) is None
    with trained.warehouse.begin() as connection:
        connection.exec_driver_sql("delete from nba.rollbacks")


def test_scores_of_a_roll_out_that_has_ended_are_not_published(
    trained: Installation, begun: Programme, versions: tuple[int, int]
) -> None:
    step = rollout.step_on(trained.warehouse, begun, versions[1], AS_OF)
    for shard in range(begun.shards):
        score.score_shard(trained.warehouse, begun, AS_OF, shard, score.serving(begun, versions[1], step))
    serve = score.serving(begun, versions[1])
    with pytest.raises(publish.PublishError, match="now it serves everybody"):
        publish.publish(trained.crm, trained.warehouse, begun, AS_OF, serve, "a run", today=AS_OF)


def test_a_person_takes_the_step_they_saw(trained: Installation, begun: Programme, versions: tuple[int, int]) -> None:
    publish_night(trained, begun, versions[1])
    registry.name(begun, "champion", versions[1])
    with pytest.raises(rollout.RolloutError, match=r"at 30% now: look again"):
        rollout_steps.widen(begun, "ann", expected=10)
    step = rollout_steps.widen(begun, "ann", "fine", expected=SHARE)
    assert step.share == 100


def test_tolerated_is_the_wider_margin(trained: Installation) -> None:
    """20%, or 5 in 10,000 beyond the rate that the gate found of the policy before: 25 against 20 is 1.25 times."""
    rare = {"rules": [{"rule": "harm:complaint", "figures": {"incumbent_rate": 0.002}}]}
    assert rollout.tolerated_ratio(trained.programme, rare, "complaint") == pytest.approx(1.25)
    assert rollout.tolerated_ratio(trained.programme, rare, "unsubscribe") == pytest.approx(1.2)
    often = {"rules": [{"rule": "harm:complaint", "figures": {"incumbent_rate": 0.1}}]}
    assert rollout.tolerated_ratio(trained.programme, often, "complaint") == pytest.approx(1.2)
