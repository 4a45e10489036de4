"""The daily look on real stores: lists that were published, what came of them, and a policy proposed to go."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nba_tasks import ledger, outcomes, publish, registry, review, score, steps, train, trial
from nba_tasks.settings import settings
from tests.databases import TestServer, valid_night
from tests.loop import AS_OF, GATE, Installation, connect, install, sales_channels

FIRST = AS_OF - dt.timedelta(days=21)
NIGHTS = 7


@pytest.fixture(scope="module")
def played(server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Business as usual was published for a week, three weeks ago; a fifth of the customers is in each other arm."""
    made = install(server, sales_channels(gate=GATE | {"horizon": 1}), as_of=FIRST)
    made.as_of = FIRST
    with pytest.MonkeyPatch.context() as patch:
        connect(made, patch, tmp_path_factory.mktemp("outcomes"))
        for shard in steps.plan_training(made.programme, FIRST):
            steps.build_transitions(made.programme, FIRST, shard)
        trial.hold(made.programme, FIRST, train.learn(made.programme, FIRST))
        with made.warehouse.begin() as connection:
            arms = "(array['h', 'b', 's', 's', 's'])[1 + mod(customer_key, 5)]::\"char\""
            connection.exec_driver_sql(f"update history.customers set arm = {arms}")
        version = registry.version_of(made.programme, "version_0")
        assert version is not None
        serve = score.serving(made.programme, version)
        for day in (FIRST + dt.timedelta(days=n) for n in range(NIGHTS)):
            valid_night(made.databases, made.programme, day)
            for shard in range(made.programme.shards):
                score.score_shard(made.warehouse, made.programme, day, shard, serve)
            done = publish.publish(made.crm, made.warehouse, made.programme, day, serve, f"night {day}", today=day)
            assert done.written
        valid_night(made.databases, made.programme, AS_OF)
        for shard in steps.plan_training(made.programme, AS_OF):
            steps.build_transitions(made.programme, AS_OF, shard)
        yield made
    settings.cache_clear()


def test_nothing_published_is_nothing_to_look_at(played: Installation) -> None:
    assert outcomes.look(played.crm, played.programme, FIRST) is None


def test_the_look_counts_what_was_published(played: Installation) -> None:
    found = outcomes.look(played.crm, played.programme, AS_OF)
    assert found is not None
    content = found.content
    decided = dict(
        played.databases.rows(
            """
            select c.arm::text, count(*) from nba.scores as s join history.customers as c using (customer_key)
            join transitions.sales_channels as t using (customer_key, epoch) where t.action is not null group by 1
            """
        )
    )
    arms = {row["arm"]: row for row in content["arms"]}
    assert {row["windows"] for row in arms.values()} == set(decided.values())
    assert arms["served policy"]["windows"] == decided["s"] > 300
    assert arms["holdout"]["harms"]["unsubscribe"]["value"] >= 0
    assert content["nights"] == NIGHTS
    assert content["since"] == FIRST.isoformat()
    assert sum(row["decisions"] for row in content["actions"]) == content["decisions"] == sum(decided.values())
    assert content["promises"] == [], "no gate has judged version 0"
    assert content["differing_share"] == 0
    assert {row["feature"] for row in content["segments"]} >= {"segment", "age_band"}
    # The simulated CRM made its own contacts, not ours.
    assert content["delivery"]["delivered"] == 0 < content["delivery"]["listed"]
    assert any("listed contacts were made" in alert for alert in found.alerts)
    assert any("arms are not of the sizes" in alert for alert in found.alerts), "the file states no arms"
    assert found.demotion is None


def test_a_look_is_kept_once_a_day(played: Installation) -> None:
    for _ in range(2):
        told = steps.look_at_outcomes(played.programme, AS_OF)
    assert told["demotion_id"] is None
    rows = played.databases.rows("select as_of, alerts, content ->> 'decisions' from nba.outcomes")
    assert len(rows) == 1
    assert rows[0][1] == told["alerts"]


def test_late_data_shows(played: Installation) -> None:
    """The state that was decided on is changed by hand in a tenth of the scores."""
    change = "update nba.scores set state[1] = state[1] {} 1 where mod(customer_key, 10) = 0"
    with played.warehouse.begin() as connection:
        connection.exec_driver_sql(change.format("+"))
    found = outcomes.look(played.crm, played.programme, AS_OF)
    with played.warehouse.begin() as connection:
        connection.exec_driver_sql(change.format("-"))
    assert found is not None
    assert found.content["differing_share"] == pytest.approx(0.1, abs=0.04)
    assert any("known otherwise by now" in alert for alert in found.alerts)


def test_a_demotion_is_proposed_once_and_carried_out_by_a_person(
    played: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = ledger.last_gate(played.warehouse, "sales_channels")
    assert gate is not None
    candidate, usual = gate["candidate_version"], gate["incumbent_version"]
    found = outcomes.look(played.crm, played.programme, AS_OF)
    assert found is not None
    worse = replace(found, version=candidate, demotion="it earns 1.00 a window less than business as usual")
    registry.name(played.programme, "champion", candidate)
    registry.name(played.programme, "previous", usual)
    proposal = outcomes.record(played.warehouse, played.programme, AS_OF, worse)
    assert proposal is not None
    assert outcomes.record(played.warehouse, played.programme, AS_OF, worse) is None, "it is open already"
    asked = steps.demotion_report(played.programme, proposal)
    assert asked["route"] == "ask"
    assert f"take version {candidate} out of use" in asked["body"]
    answer: dict[str, Any] = {"chosen_options": ["Reject"], "params_input": {"comment": "a holiday"}}
    steps.answer_demotion(played.programme, proposal, answer)
    assert registry.version_of(played.programme, "champion") == candidate
    next_week, next_month = (AS_OF + dt.timedelta(days=days) for days in (7, 29))
    assert outcomes.record(played.warehouse, played.programme, next_week, worse) is None, "rejected a week ago"
    again = outcomes.record(played.warehouse, played.programme, next_month, worse)
    assert again is not None
    taken = review.decide_demotion(played.warehouse, played.programme, again, approve=True, decided_by="ana")
    assert taken
    assert registry.version_of(played.programme, "champion") == usual
    assert played.databases.rows("select from_version, to_version, decided_by from nba.rollbacks") == [
        (candidate, usual, "ana")
    ]
    assert review.decide_demotion(played.warehouse, played.programme, again, approve=True, decided_by="ana")
    assert steps.demotion_report(played.programme, again)["route"] == "close"


class Recorder:
    """Stands where a notifier should."""


def test_only_a_notifier_is_called(played: Installation, tmp_path: Path) -> None:
    from nba_tasks.workflow import notify

    named = sales_channels(outcomes={"notifier": f"{__name__}.Recorder"})
    with pytest.raises(TypeError, match="is no Airflow notifier"):
        notify(named, {})
    notify(played.programme, {})  # names none: nobody is told
