"""Publishing on real stores: one decision per due customer, immutable, all or nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from nba_tasks import publish, registry, score, steps, switch
from nba_tasks.drawing import draw
from tests.databases import TestServer, killed_at
from tests.loop import AS_OF, Installation


def rows(made: Installation, query: str) -> list[Any]:
    with made.crm.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]


@contextmanager
def crm_changed(made: Installation, table: str, *statements: str) -> Iterator[None]:
    """The CRM with a table changed, until the block ends."""
    with made.crm.begin() as connection:
        connection.exec_driver_sql(f"create table kept as table {table}")
        for statement in statements:
            connection.exec_driver_sql(statement)
    try:
        yield
    finally:
        with made.crm.begin() as connection:
            connection.exec_driver_sql(f"truncate {table}; insert into {table} table kept; drop table kept")


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


def test_whom_each_rule_forbids_what_is_counted_and_kept(trained: Installation, night: Callable[..., Any]) -> None:
    night(dry_run=True)
    summary = trained.databases.rows("select summary from nba.lists")[0][0]
    kept = {row["rule"]: row for row in summary["held_back"]}
    assert list(kept) == ["consent", "one_letter_in_two_weeks", "one_call_in_four_weeks"]
    no_email = trained.databases.rows(
        """
        select count(*) from nba.scores join history.customer_versions as v using (customer_key)
        where v.superseded_by is null and (v.attributes ->> 'consent_email')::boolean is not true
        """
    )[0][0]
    consent = kept["consent"]["actions"]
    assert consent["email"] == no_email
    assert consent["email"] > 0
    assert kept["consent"]["customers"] >= max(consent.values())
    assert kept["one_call_in_four_weeks"]["actions"].keys() == {"phone"}


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


def test_a_dry_run_shows_a_list_that_is_out_already_and_changes_nothing(
    trained: Installation, night: Callable[..., Any]
) -> None:
    published = night()
    kept = rows(trained, "select * from decisions where programme is not null order by 1")
    known = trained.databases.rows("select run_id, dry_run, summary from nba.lists")
    dry = night(scored=True, dry_run=True)
    assert not dry.written
    assert dry.decisions == published.decisions
    assert rows(trained, "select * from decisions where programme is not null order by 1") == kept
    assert trained.databases.rows("select run_id, dry_run, summary from nba.lists") == known


def test_a_dry_run_never_replaces_what_a_published_list_rests_on(
    trained: Installation, night: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    version = night().policy_version
    monkeypatch.setattr(score, "version_to_serve", lambda programme: version)
    assert steps.plan_night(trained.programme, AS_OF) is None
    assert steps.plan_night(trained.programme, AS_OF, dry_run=True) == version
    other = trained.programme.model_copy(update={"rules": trained.programme.rules[:1]})
    with pytest.raises(publish.PublishError, match="a dry run would replace them"):
        steps.plan_night(other, AS_OF, dry_run=True)


def test_consent_withdrawn_after_scoring_is_respected(trained: Installation, night: Callable[..., Any]) -> None:
    """Everybody takes back consent to e-mail between scoring and publishing: redrawn, nobody dropped, none mailed."""
    with crm_changed(
        trained,
        "customers",
        "update customers set consent_email = false",
        "update customers set closed_at = now() - interval '1 hour' where customer_id = '1'",
    ):
        published = night()
    assert published.changed_since_scoring > 100
    assert rows(trained, "select count(*) from campaign_list where channel = 'email'") == [(0,)]
    assert rows(
        trained, "select count(*) from decisions where programme is not null and 'email' = any (eligible_actions)"
    ) == [(0,)]
    assert published.to_send > 0


def test_nobody_on_a_list_that_forbids_contacts_is_contacted(trained: Installation, night: Callable[..., Any]) -> None:
    """The column of consent to letters serves as such a list, for calls; somebody comes onto it after the scoring."""
    content = trained.programme.model_dump()
    rule = {"kind": "suppression", "name": "do_not_call", "column": "consent_mail", "channel": "phone"}
    made = type(trained.programme).model_validate(content | {"rules": [*content["rules"], rule]})
    version = registry.version_of(made, "version_0")
    assert version is not None
    serve = score.serving(made, version)
    night(dry_run=True)  # empties the tables
    for shard in range(made.shards):
        score.score_shard(trained.warehouse, made, AS_OF, shard, serve)
    may = "select customer_id from decisions where programme is not null and 'phone' = any (eligible_actions)"
    publish.publish(trained.crm, trained.warehouse, made, AS_OF, serve, "first", today=AS_OF)
    callable_ones = {row[0] for row in rows(trained, may)}
    on_it = {row[0] for row in rows(trained, "select customer_id::text from customers where consent_mail")}
    assert callable_ones
    assert not callable_ones & on_it
    with trained.crm.begin() as connection:
        connection.exec_driver_sql("delete from campaign_list; delete from decisions where programme is not null")
        connection.exec_driver_sql("delete from publications")
    late = min(callable_ones)
    with crm_changed(
        trained, "customers", f"update customers set consent_mail = true where customer_id::text = '{late}'"
    ):
        published = publish.publish(trained.crm, trained.warehouse, made, AS_OF, serve, "second", today=AS_OF)
    assert published.changed_since_scoring == 1
    assert {row[0] for row in rows(trained, may)} == callable_ones - {late}
    kept = trained.databases.rows("select summary -> 'held_back' from nba.lists where run_id = 'second'")[0][0]
    assert next(row for row in kept if row["rule"] == "do_not_call")["customers"] > 0


def test_whoever_unsubscribed_since_the_pull_gets_nothing(trained: Installation, night: Callable[..., Any]) -> None:
    """After midnight, or the day before but loaded late; a click, or an unsubscribe long ago, changes nothing."""
    night()
    first, second, third, fourth = (
        customer
        for (customer,) in rows(trained, "select customer_id from decisions where programme is not null limit 4")
    )
    with trained.crm.begin() as connection:
        connection.exec_driver_sql("delete from campaign_list; delete from decisions where programme is not null")
        connection.exec_driver_sql("delete from publications")
    with crm_changed(
        trained,
        "events",
        f"""
        insert into events (event_id, customer_id, occurred_at, event_type)
        select 'late' || customer_id, customer_id, moment::timestamp at time zone 'Europe/Berlin', event_type
        from (values ({first}, '{AS_OF} 00:30', 'unsubscribe'), ({second}, '{AS_OF - dt.timedelta(days=1)} 23:00',
            'unsubscribe'), ({third}, '{AS_OF} 00:30', 'click'), ({fourth}, '{AS_OF - dt.timedelta(days=30)} 12:00',
            'unsubscribe')) as e (customer_id, moment, event_type)
        """,
    ):
        published = night()
    decided = {
        customer for (customer,) in rows(trained, "select customer_id from decisions where programme is not null")
    }
    assert published.changed_since_scoring == 2
    assert not {first, second} & decided
    assert {third, fourth} <= decided


def test_a_source_that_is_being_loaded_publishes_nothing(trained: Installation, night: Callable[..., Any]) -> None:
    with (
        crm_changed(trained, "customers", "delete from customers where mod(customer_id::bigint, 10) = 0"),
        pytest.raises(publish.PublishError, match=r"max_vanished_share allows 5%\): is it being loaded"),
    ):
        night()
    assert rows(trained, "select count(*) from publications") == [(0,)]
    with crm_changed(trained, "customers", "delete from customers where mod(customer_id::bigint, 50) = 0"):
        published = night()
    assert published.written
    assert published.changed_since_scoring > 0
    assert (
        rows(
            trained,
            "select customer_id from decisions where programme is not null and mod(customer_id::bigint, 50) = 0",
        )
        == []
    )


def test_two_runs_of_a_date_do_not_mix(
    trained: Installation, night: Callable[..., Any], versions: tuple[int, int]
) -> None:
    """A run with another policy version scores in between: each list rests on its own version's scores."""
    expected = night(dry_run=True)
    other = score.serving(trained.programme, versions[1])
    for shard in range(2):
        score.score_shard(trained.warehouse, trained.programme, AS_OF, shard, other)
    with pytest.raises(publish.PublishError, match=rf"shard 2 of .* was not scored with version {versions[1]}"):
        publish.publish(trained.crm, trained.warehouse, trained.programme, AS_OF, other, "another run", today=AS_OF)
    published = night(scored=True)
    assert (published.decisions, published.to_send) == (expected.decisions, expected.to_send)
    assert rows(trained, "select distinct policy_version from decisions where programme is not null") == [
        (str(versions[0]),)
    ]


def test_a_programme_file_changed_since_the_scoring_is_refused(
    trained: Installation, night: Callable[..., Any], versions: tuple[int, int]
) -> None:
    night(dry_run=True)
    content = trained.programme.model_dump()
    changed = type(trained.programme).model_validate(content | {"rules": content["rules"][:1]})
    serve = score.serving(changed, versions[0])
    with pytest.raises(publish.PublishError, match=r"shard 0, 1, 2 .* the programme file as it is now"):
        publish.publish(trained.crm, trained.warehouse, changed, AS_OF, serve, "a run", today=AS_OF)


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
                    " join history.customers as c using (customer_key) where s.policy_version = :version"
                ),
                {"version": registry.version_of(trained.programme, "version_0")},
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
    drawn = draw(np.tile(probability, (len(uniform), 1)), uniform)
    frequency = np.bincount(drawn, minlength=4) / len(uniform)
    assert (np.abs(frequency - probability) <= 4.4 * np.sqrt(probability * (1 - probability) / len(uniform))).all()
    edge = draw(np.array([[0.5, 0.5, 0.0]]), np.array([np.nextafter(1, 0)]))
    assert edge.tolist() == [1], "an action without a chance is never drawn, even at the end of the scale"


def test_a_list_keeps_its_capacities(trained: Installation, night: Callable[..., Any]) -> None:
    """Three letters, and four e-mails by the channel's limit: no more are listed, and the log holds exact odds."""
    limited = {"email": {"consent": "consent_email", "daily_limit": 4}}
    content = trained.programme.model_dump()
    made = type(trained.programme).model_validate(content | {"channels": content["channels"] | limited})
    with trained.warehouse.begin() as connection:
        connection.exec_driver_sql("update history.action_versions set daily_capacity = 3 where channel = 'mail'")
    try:
        night(dry_run=True)
        version = registry.version_of(made, "version_0")
        assert version is not None
        serve = score.serving(made, version)
        published = publish.publish(trained.crm, trained.warehouse, made, AS_OF, serve, "a run", today=AS_OF)
    finally:
        with trained.warehouse.begin() as connection:
            connection.exec_driver_sql("update history.action_versions set daily_capacity = null")
    assert published.written
    listed = dict(rows(trained, "select channel, count(*) from campaign_list group by channel"))
    assert 0 < listed["mail"] <= 3
    assert 0 < listed["email"] <= 4
    odds = rows(
        trained,
        """
        select sum(p) from decisions, unnest(eligible_actions, probabilities) as t (action, p)
        where programme is not null and action in ('mail', 'email') group by action
        """,
    )
    assert all(total <= 4 for (total,) in odds)
    assert listed["email"] == pytest.approx(max(total for (total,) in odds), abs=1)
    (limits,) = trained.databases.rows("select summary -> 'limits' from nba.lists where run_id = 'a run' limit 1")[0]
    assert {limit["name"] for limit in limits} == {"mail", "channel email"}
    assert all(limit["price"] is None for limit in limits), "version 0 knows no values"


def test_the_kill_switch_holds_to_the_last_moment(trained: Installation, night: Callable[..., Any]) -> None:
    """Stopped between scoring and publishing: nothing is written. Stopped after it: the list has expired."""
    night(dry_run=True)
    assert steps.stop(trained.programme, "ana", "wrong prices in the letter") == (True, 0)
    try:
        with pytest.raises(publish.PublishError, match=r"stopped by ana on .*: wrong prices in the letter"):
            night(scored=True)
        assert rows(trained, "select count(*) from publications") == [(0,)]
        assert steps.plan_night(trained.programme, AS_OF) is None
        assert steps.stop(trained.programme, "ben", "again") == (False, 0), "the first reason stands"
    finally:
        assert switch.resume(trained.warehouse, trained.programme, "ana")
    assert not switch.resume(trained.warehouse, trained.programme, "ana")
    assert night(scored=True).written
    assert steps.stop(trained.programme, "ana", "once more") == (True, 1)
    switch.resume(trained.warehouse, trained.programme, "ana")
    assert rows(trained, "select expired_reason from publications") == [("stopped by ana: once more",)]


def test_two_publishers_at_once_publish_one_list(trained: Installation, night: Callable[..., Any]) -> None:
    night(dry_run=True)
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda _: night(scored=True), range(2)))
    assert sorted(publication.written for publication in made) == [False, True]
    assert rows(trained, "select count(*) from publications") == [(1,)]
    decided = rows(trained, "select count(*), count(distinct customer_id) from decisions where programme is not null")
    assert decided == [(made[0].decisions, made[0].decisions)]
