"""From a pulled history to a published list, by the same functions that the DAGs' tasks call; all stores are real."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import sqlalchemy as sa

from nba_tasks import ledger, policy_store, publish, registry, review, score, steps, train, trial
from nba_tasks.policy import PolicyError, ServedPolicy
from tests.databases import TestServer, killed_at
from tests.loop import AS_OF, Installation, connect, install, sales_channels

GATE = {"horizon": 2, "min_effective_size": 100, "harm_min_events": 0, "min_power": 0.01, "select_headroom": 1}
"""Thresholds that 1,500 customers can meet: this file is about the machinery; tests/gate is about the statistics."""


@pytest.fixture(scope="module")
def trained(server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation whose gate was held, and version 0 registered."""
    made = install(server, sales_channels(gate=GATE))
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        connect(made, patch, folder)
        for shard in steps.plan_training(made.programme, AS_OF):
            steps.build_transitions(made.programme, AS_OF, shard)
        run = train.learn(made.programme, AS_OF)
        gate_id = trial.hold(made.programme, AS_OF, run)
        assert trial.hold(made.programme, AS_OF, run) == gate_id, "a retried gate keeps its row"
        yield made


@pytest.fixture
def night(trained: Installation) -> Callable[..., publish.Publication]:
    """Score and publish with version 0, into a CRM without publications."""
    with trained.crm.begin() as connection:
        publish.ensure_tables(connection, trained.programme)
        connection.exec_driver_sql("delete from campaign_list; delete from decisions where programme is not null")
        connection.exec_driver_sql("delete from publications")
    version = registry.version_of(trained.programme, "version_0")
    assert version is not None
    serve = score.serving(trained.programme, version)

    def run(today: dt.date = AS_OF, *, scored: bool = False, **options: Any) -> publish.Publication:
        for shard in [] if scored else range(trained.programme.shards):
            score.score_shard(trained.warehouse, trained.programme, AS_OF, shard, serve)
        return publish.publish(
            trained.crm, trained.warehouse, trained.programme, AS_OF, serve, "a run", today=today, **options
        )

    return run


def rows(made: Installation, query: str) -> list[Any]:
    with made.crm.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]


def test_the_gate_is_in_the_ledger_and_in_mlflow(trained: Installation) -> None:
    gate = ledger.last_gate(trained.warehouse, "sales_channels")
    assert gate is not None
    assert gate["verdict"] in {"PROMOTE", "DEFER", "REJECT"}
    assert gate["propensities"] == "logged"
    assert gate["windows"] > 1_000
    assert gate["lower_bound"] < gate["delta"] < gate["upper_bound"]
    assert trained.databases.rows("select count(*) from nba.gates") == [(1,)]
    assert registry.version_of(trained.programme, "challenger") == gate["candidate_version"]
    assert registry.version_of(trained.programme, "champion") is None
    run = registry.client().get_run(gate["mlflow_run_id"])
    assert run.data.tags["batch_id"] == "1"
    assert run.data.params["discount"] == "0.95"
    assert run.data.metrics["delta"] == pytest.approx(gate["delta"])
    assert len(registry.client().get_metric_history(run.info.run_id, "bellman_residual")) > 3
    found = {Path(file.path).name for file in registry.client().list_artifacts(run.info.run_id, "gate")}
    assert found == {"report.json", "report.md", "mix.png", "values.png"}


def test_the_registered_model_is_the_policy_that_was_judged(trained: Installation, tmp_path: Path) -> None:
    """MLflow's own loader (models-from-code, pickles off), the store's loader and the arrays agree."""
    gate = ledger.last_gate(trained.warehouse, "sales_channels")
    assert gate is not None
    stored = registry.load(trained.programme, gate["candidate_version"])
    assert isinstance(stored.policy, ServedPolicy)
    assert stored.policy.mix == gate["mix"]
    data = trained.load("gate").transitions
    mine = stored.probabilities(data.state, data.eligible_target)
    import pandas as pd

    frame = pd.DataFrame(data.state, columns=list(stored.features))
    frame["eligible"] = (data.eligible_target * (1 << np.arange(data.n_actions))).sum(axis=1)
    model = mlflow.pyfunc.load_model(f"models:/sales_channels/{gate['candidate_version']}")
    np.testing.assert_allclose(model.predict(frame).to_numpy(), mine, atol=1e-12)
    policy_store.save(stored, tmp_path / "again")
    again = policy_store.load(tmp_path / "again").probabilities(data.state, data.eligible_target)
    np.testing.assert_array_equal(again, mine)
    np.testing.assert_allclose(mine.sum(axis=1), 1, atol=1e-12)
    assert (mine[~data.eligible_target] == 0).all()


def test_every_due_customer_gets_one_decision(trained: Installation, night: Callable[..., Any]) -> None:
    published = night()
    assert published.written
    due = trained.databases.rows(
        f"""
        select c.customer_id from history.customers as c join history.customer_versions as v using (customer_key)
        where (date '{AS_OF}' - date '2024-01-01' - c.offset_days) % 7 = 0
          and not exists (select from history.events as e where e.customer_key = c.customer_key
                          and e.event_type = 'unsubscribe')
          and (v.created_at at time zone 'Europe/Berlin')::date < date '{AS_OF}'
        """
    )
    decided = rows(trained, "select customer_id from decisions where programme = 'sales_channels'")
    assert sorted(decided) == sorted(due)
    assert len(decided) == published.decisions > 100
    odd = rows(
        trained,
        """
        select count(*) from decisions where programme is not null and (
            abs((select sum(p) from unnest(probabilities) as p) - 1) > 1e-9
            or cardinality(probabilities) <> cardinality(eligible_actions)
            or exists (select from unnest(probabilities) as p where p <= 0 or p > 1)
            or action_id <> all (eligible_actions) or reason is null or arm <> 'served policy')
        """,
    )
    assert odd == [(0,)]
    listed = rows(trained, "select decision_id, customer_id, action_id from campaign_list")
    sent = rows(
        trained,
        "select decision_id, customer_id, action_id from decisions"
        " where programme is not null and action_id <> 'no_action'",
    )
    assert sorted(listed) == sorted(sent)
    assert len(listed) == published.to_send > 10


def test_a_published_night_is_immutable_and_drawn_once(trained: Installation, night: Callable[..., Any]) -> None:
    first = night()
    before = (
        rows(trained, "select * from decisions order by 1"),
        rows(trained, "select * from campaign_list order by 1"),
    )
    again = night()
    assert not again.written
    assert (again.decisions, again.to_send) == (first.decisions, first.to_send)
    assert before == (
        rows(trained, "select * from decisions order by 1"),
        rows(trained, "select * from campaign_list order by 1"),
    )


def test_a_past_or_dry_night_writes_nothing(trained: Installation, night: Callable[..., Any]) -> None:
    for options in ({"today": AS_OF + dt.timedelta(days=1)}, {"dry_run": True}):
        assert not night(**options).written
        assert rows(trained, "select count(*) from campaign_list") == [(0,)]
        assert rows(trained, "select count(*) from decisions where programme is not null") == [(0,)]


def test_consent_withdrawn_after_scoring_is_respected(trained: Installation, night: Callable[..., Any]) -> None:
    """Everybody takes back consent to e-mail between scoring and publishing: redrawn, nobody dropped, none mailed."""
    with trained.crm.begin() as connection:
        connection.exec_driver_sql("create table kept as select customer_id, consent_email, closed_at from customers")
        connection.exec_driver_sql("update customers set consent_email = false")
        connection.exec_driver_sql("update customers set closed_at = now() - interval '1 hour' where customer_id = '1'")
    try:
        published = night()
    finally:
        with trained.crm.begin() as connection:
            connection.exec_driver_sql(
                "update customers as c set consent_email = k.consent_email, closed_at = k.closed_at from kept as k"
                " where k.customer_id = c.customer_id; drop table kept"
            )
    assert published.changed_since_scoring > 100
    assert rows(trained, "select count(*) from campaign_list where channel = 'email'") == [(0,)]
    assert rows(
        trained, "select count(*) from decisions where programme is not null and 'email' = any (eligible_actions)"
    ) == [(0,)]
    assert published.to_send > 0


def test_arms_get_what_they_are_for(trained: Installation, night: Callable[..., Any]) -> None:
    """Arms are stored per customer; here a fifth is put into each by hand."""
    with trained.warehouse.begin() as connection:
        connection.exec_driver_sql(
            "update history.customers set arm = (array['h', 'b', 's', 's', 's'])[1 + mod(customer_key, 5)]::\"char\""
        )
    try:
        night()
    finally:
        with trained.warehouse.begin() as connection:
            connection.exec_driver_sql("update history.customers set arm = 's'")
    arms = dict(rows(trained, "select arm, count(*) from decisions where programme is not null group by arm"))
    assert set(arms) == {"holdout", "business as usual", "served policy"}
    assert rows(trained, "select distinct action_id, probabilities from decisions where arm = 'holdout'") == [
        ("no_action", [1.0])
    ]


def test_publishing_killed_at_every_statement_publishes_all_or_nothing(
    trained: Installation, night: Callable[..., Any]
) -> None:
    assert not night(dry_run=True).written  # scores; the children only publish, since OpenMP does not survive a fork
    statement, killed = 1, True
    while killed:
        killed = killed_at(statement, lambda: night(scored=True), trained.crm, trained.warehouse)
        counts = rows(
            trained,
            """
            select (select count(*) from publications), (select count(*) from campaign_list) > 0,
                (select count(*) from decisions where programme is not null) > 0
            """,
        )
        assert counts in ([(0, False, False)], [(1, True, True)])
        if counts[0][0]:
            break
        statement += 2
    assert statement > 10, "nothing was ever killed"
    after_kills = rows(
        trained, "select decision_id, action_id, probabilities from decisions where programme is not null order by 1"
    )
    with trained.crm.begin() as connection:
        connection.exec_driver_sql("delete from campaign_list; delete from publications")
        connection.exec_driver_sql("delete from decisions where programme is not null")
    night()
    assert after_kills == rows(
        trained, "select decision_id, action_id, probabilities from decisions where programme is not null order by 1"
    )


def test_a_failed_night_expires_the_lists_before(trained: Installation, night: Callable[..., Any]) -> None:
    night()
    assert rows(trained, "select * from campaign_list_tonight") == [], "its day is over"
    with trained.crm.begin() as connection:
        connection.exec_driver_sql("update publications set valid_until = now() + interval '1 hour'")
    assert len(rows(trained, "select * from campaign_list_tonight")) > 10
    assert publish.expire(trained.crm, trained.programme, AS_OF + dt.timedelta(days=1), "the night failed") == 1
    assert rows(trained, "select * from campaign_list_tonight") == []
    assert rows(trained, "select expired_reason from publications") == [("the night failed",)]


def test_without_a_champion_nothing_is_planned_unless_version_0_is_asked_for(
    trained: Installation, night: Callable[..., Any]
) -> None:
    assert registry.version_of(trained.programme, "champion") is None
    assert steps.plan_night(trained.programme, AS_OF) is None
    asking = type(trained.programme).model_validate(
        trained.programme.model_dump() | {"publish": {"serve_version_0": True}}
    )
    assert steps.plan_night(asking, AS_OF) == registry.version_of(asking, "version_0")
    assert night().written
    assert steps.plan_night(asking, AS_OF) is None, "the list is out: a rerun leaves it and its scores alone"


def decided(made: Installation, verdict: str, **changes: Any) -> int:
    """A copy of the ledger's gate with another verdict, as the newest gate."""
    gate = ledger.last_gate(made.warehouse, "sales_channels")
    assert gate is not None
    columns = {
        name: gate[name]
        for name in gate
        if name not in ("gate_id", "programme", "decision", "decided_by", "decided_at", "comment")
    }
    columns |= {"verdict": verdict, "attempt": None, "candidate_version": gate["candidate_version"] + 100, **changes}
    with made.warehouse.begin() as connection:
        return ledger.record(connection, columns | {"report": json.dumps(columns["report"])})


@pytest.fixture
def versions(trained: Installation) -> Iterator[tuple[int, int]]:
    """Version 0 and the candidate; the registry and the ledger are put back after the test."""
    gate = ledger.last_gate(trained.warehouse, "sales_channels")
    assert gate is not None
    yield gate["incumbent_version"], gate["candidate_version"]
    for alias in ("champion", "previous"):
        if registry.version_of(trained.programme, alias) is not None:
            registry.client().delete_registered_model_alias("sales_channels", alias)
    with trained.warehouse.begin() as connection:
        connection.exec_driver_sql(f"delete from nba.gates where gate_id <> {gate['gate_id']}")
        connection.exec_driver_sql("update nba.gates set decision = null, decided_by = null, decided_at = null")


def test_only_an_approved_promote_moves_the_champion(trained: Installation, versions: tuple[int, int]) -> None:
    incumbent, candidate = versions
    for verdict in ("DEFER", "REJECT"):
        gate_id = decided(trained, verdict)
        with pytest.raises(review.ReviewError, match=f"ended in {verdict}"):
            review.decide(trained.warehouse, trained.programme, gate_id, approve=True, decided_by="ann")
        with trained.warehouse.begin() as connection:
            connection.exec_driver_sql(f"delete from nba.gates where gate_id = {gate_id}")
    rejected = decided(trained, "PROMOTE")
    review.decide(trained.warehouse, trained.programme, rejected, approve=False, decided_by="ann", comment="not now")
    assert registry.incumbent(trained.programme) == incumbent
    with pytest.raises(review.ReviewError, match="was rejected by ann"):
        review.decide(trained.warehouse, trained.programme, rejected, approve=True, decided_by="bob")
    with trained.warehouse.begin() as connection:
        connection.exec_driver_sql(f"delete from nba.gates where gate_id = {rejected}")
        connection.exec_driver_sql("update nba.gates set verdict = 'PROMOTE'")
    gate = ledger.last_gate(trained.warehouse, "sales_channels")
    assert gate is not None
    for _ in range(2):  # a repeated approval is the same approval
        made = review.decide(trained.warehouse, trained.programme, gate["gate_id"], approve=True, decided_by="ann")
        assert made.champion_version == candidate
    assert registry.version_of(trained.programme, "previous") == incumbent


def test_an_overtaken_or_outdated_approval_is_refused(trained: Installation, versions: tuple[int, int]) -> None:
    older = decided(trained, "PROMOTE")
    newer = decided(trained, "PROMOTE", candidate_version=999)
    with pytest.raises(review.ReviewError, match=f"overtaken by gate {newer}"):
        review.decide(trained.warehouse, trained.programme, older, approve=True, decided_by="ann")
    outdated = decided(trained, "PROMOTE", candidate_version=1000, incumbent_version=77)
    with pytest.raises(review.ReviewError, match="train again"):
        review.decide(trained.warehouse, trained.programme, outdated, approve=True, decided_by="ann")


def test_auto_promote_answers_only_logged_propensities(trained: Installation, versions: tuple[int, int]) -> None:
    answering = type(trained.programme).model_validate(
        trained.programme.model_dump() | {"review": {"auto_promote": True}}
    )
    for propensities in ("mixed", "estimated"):
        gate_id = decided(trained, "PROMOTE", propensities=propensities, candidate_version=len(propensities) + 500)
        assert steps.review_report(answering, gate_id)["route"] == "ask"
        with pytest.raises(review.ReviewError, match="needs a person"):
            review.decide(trained.warehouse, answering, gate_id, approve=True, decided_by=review.AUTO)
    gate_id = decided(trained, "PROMOTE", candidate_version=versions[1])
    with trained.warehouse.begin() as connection:
        connection.exec_driver_sql(f"update nba.gates set verdict = 'PROMOTE' where gate_id = {gate_id}")
        connection.exec_driver_sql(f"delete from nba.gates where gate_id > {gate_id}")
    assert steps.review_report(answering, gate_id)["route"] == "approve_automatically"
    assert steps.review_report(trained.programme, gate_id)["route"] == "ask"


def test_rollback_puts_the_previous_champion_back(trained: Installation, versions: tuple[int, int]) -> None:
    incumbent, candidate = versions
    with pytest.raises(registry.RegistryError, match="no earlier champion"):
        registry.rollback(trained.programme)
    registry.promote(trained.programme, incumbent)
    registry.promote(trained.programme, candidate)
    assert registry.rollback(trained.programme) == (candidate, incumbent)
    assert registry.version_of(trained.programme, "champion") == incumbent


def test_a_changed_state_is_refused_until_the_programme_restarts(
    trained: Installation, versions: tuple[int, int]
) -> None:
    content = trained.programme.model_dump()
    changed = type(trained.programme).model_validate(content | {"state": content["state"][:4]})
    with pytest.raises(PolicyError, match="nba restart"):
        train.learn(changed, AS_OF)
    assert set(registry.restart(changed)) == {"challenger", "version_0"}
    assert registry.incumbent(changed) is None
    registry.name(trained.programme, "version_0", versions[0])
    registry.name(trained.programme, "challenger", versions[1])


def test_what_is_published_is_read_back_as_logged_propensities(
    server: TestServer, trained: Installation, night: Callable[..., Any]
) -> None:
    """The next night's history holds our decisions, with the propensities they were drawn with."""
    night()
    with trained.warehouse.connect() as connection:
        scored = {
            row.customer_id: row
            for row in connection.execute(
                sa.text(
                    "select c.customer_id, s.probability from nba.scores as s"
                    " join history.customers as c using (customer_key)"
                )
            )
        }
    for customer, action, eligible, probabilities in rows(
        trained,
        "select customer_id, action_id, eligible_actions, probabilities from decisions"
        " where programme is not null limit 50",
    ):
        names = [a.action_id for a in trained.shape().actions]
        assert scored[customer].probability[names.index(action)] == pytest.approx(probabilities[eligible.index(action)])


def test_draws_follow_the_probabilities() -> None:
    """10,000 draws of one row: each frequency within 4.4 standard errors; four of them fail with probability 4·10⁻⁵."""
    probability = np.array([0.05, 0.6, 0.0, 0.35])
    uniform = np.random.default_rng(1).random(10_000)
    drawn = publish.draw(np.tile(probability, (len(uniform), 1)), uniform)
    frequency = np.bincount(drawn, minlength=4) / len(uniform)
    assert (np.abs(frequency - probability) <= 4.4 * np.sqrt(probability * (1 - probability) / len(uniform))).all()
    edge = publish.draw(np.array([[0.5, 0.5, 0.0]]), np.array([np.nextafter(1, 0)]))
    assert edge.tolist() == [1], "an action without a chance is never drawn, even at the end of the scale"


def test_no_pickle_is_ever_written(trained: Installation) -> None:
    folder = Path(os.environ["NBA_HOME"])
    assert shutil.disk_usage(folder)
    suffixes = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert suffixes & {".skops", ".npy"}
    assert not suffixes & {".pkl", ".pickle", ".joblib"}
