"""`nba check` names every way in which a database can differ from the contract."""

from __future__ import annotations

import pytest

from nba_tasks import contract
from nba_tasks.contract import ContractError, Finding
from tests.databases import Databases, make_programme


def check(databases: Databases, **changes: object) -> list[Finding]:
    return contract.check(databases.crm, make_programme(**changes))


def test_a_good_database_has_no_finding(databases: Databases) -> None:
    assert check(databases) == []


@pytest.mark.parametrize(
    ("change", "where", "words"),
    [
        ("drop table events", "events", "no such table"),
        ("drop table customer_changes", "customer_changes", "optional"),
        ("alter table contacts drop column action_id", "contacts.action_id", "missing"),
        ("alter table customers drop column age", "customers.age", "missing"),
        ("alter table customers drop column consent_email", "customers.consent_email", "missing"),
        ("alter table actions drop column discount", "actions.discount", "missing"),
        (
            "alter table contacts alter contacted_at type timestamp",
            "contacts.contacted_at",
            "at time zone 'Europe/Berlin'",
        ),
        ("alter table events alter occurred_at type date", "events.occurred_at", "at time zone 'Europe/Berlin'"),
        ("alter table events alter occurred_at type text", "events.occurred_at", "timestamp with time zone"),
        ("alter table events alter value type text", "events.value", "numeric"),
        ("alter table customers alter consent_email type text", "customers.consent_email", "boolean"),
        ("alter table customers alter age type text", "customers.age", "categories"),
        ("alter table decisions alter probabilities type text", "decisions.probabilities", "double precision[]"),
        ("update actions set channel = 'pigeon' where action_id = 'call'", "actions.channel", "'pigeon'"),
        ("insert into actions select 'a' || i, 'email', 0 from generate_series(1, 30) as i", "actions", "at most 31"),
        ("delete from contacts", "contacts.action_id", "no row"),
        ("delete from events", "events.event_type", "no row"),
        ("update events set event_type = 'vist' where event_type = 'visit'", "events.event_type", "'vist'"),
        ("update contacts set action_id = 'fax' where action_id = 'mail'", "contacts.action_id", "'fax'"),
        ("update contacts set action_id = 'no_action' where action_id = 'mail'", "contacts.action_id", "'no_action'"),
    ],
)
def test_an_error_names_the_place_and_what_to_do(databases: Databases, change: str, where: str, words: str) -> None:
    databases.run(change)
    errors = [finding for finding in check(databases) if finding.level == "error"]
    assert [finding.where for finding in errors] == [where]
    assert words in str(errors[0])
    assert errors[0].advice


def test_views_integers_and_other_names_serve_as_well(databases: Databases) -> None:
    databases.run(
        "create schema mart",
        "create materialized view mart.people as"
        " select substr(customer_id, 2)::integer as customer_id, created_at, closed_at, consent_email, consent_phone,"
        " age::numeric(5, 2), segment::varchar(9) from customers",
        "create view mart.touches as select contact_id, substr(customer_id, 2)::bigint as customer_id, contacted_at,"
        " action_id, decision_id from contacts",
    )
    relations = {"customers": "mart.people", "contacts": "mart.touches", "customer_changes": "customer_changes"}
    assert check(databases, crm={"relations": relations}) == []


def test_missing_decisions_are_no_error(databases: Databases) -> None:
    databases.run("drop table decisions")
    assert [finding.level for finding in check(databases)] == ["warning"]


def test_mutable_columns_without_history_are_told(databases: Databases) -> None:
    state = [
        {"name": "age", "source": "customer", "column": "age", "immutable": True},
        {"name": "segment", "source": "customer", "column": "segment", "categories": ["new", "loyal"]},
    ]
    findings = check(databases, crm={}, state=state)
    assert {finding.where for finding in findings} == {
        "customers.segment", "customers.consent_email", "customers.consent_phone",
    }  # fmt: skip
    assert all(finding.level == "warning" for finding in findings)


def test_event_types_nobody_sends_are_told(databases: Databases) -> None:
    events = {"visit": {}, "purchase": {"weight": 1}, "unsubscribe": {}, "complaint": {"harm": True}}
    assert [f.problem for f in check(databases, events=events)] == ["no event has the type 'complaint'"]


def test_a_relation_that_may_not_be_read(databases: Databases) -> None:
    databases.run(
        "drop role if exists reader", "create role reader", "grant select on all tables in schema public to reader"
    )
    databases.run("revoke select on events from reader")
    with databases.crm.connect() as connection:
        connection.exec_driver_sql("set role reader")
        source = contract.inspect(connection, make_programme())
        connection.rollback()
    assert [finding.where for finding in source.findings] == ["events"]
    with pytest.raises(ContractError, match="grant select on events"):
        source.refuse_errors()
