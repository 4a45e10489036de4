"""Every kind of bad row goes to quarantine with its reason; a bad night is refused with a plain list of reasons."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path

import pytest

from nba_tasks import history, pull, validate
from nba_tasks.contract import RELATIONS
from nba_tasks.pull import PullError
from nba_tasks.validate import ValidationFailed
from tests.databases import (
    AS_OF,
    Databases,
    TestServer,
    contents,
    killed_at,
    make_programme,
    night,
    valid_night,
)

PROGRAMME = make_programme()
NEXT = AS_OF + dt.timedelta(days=1)

BAD_ROWS = {
    # relation: row id: (the rest of its values, part of the reason)
    "contacts": {
        "": ("'c1', '2024-02-01', 'mail'", "contact_id is missing"),
        "fax": ("'c1', '2024-02-01', 'fax'", "not in the catalogue"),
        "nothing": ("'c1', '2024-02-01', 'no_action'", "no_action is not a contact"),
        "nobody": ("'x', '2024-02-01', 'mail'", "refers to no valid customer"),
        "when": ("'c1', null, 'mail'", "contacted_at is missing"),
        "ever": ("'c1', '-infinity', 'mail'", "contacted_at is missing"),
    },
    "events": {
        "unborn": ("'c1', '2023-05-01', 'visit'", "before the customer existed"),
        "vist": ("'c1', '2024-02-01', 'vist'", "not one of the programme's events"),
        "nan": ("'c1', '2024-02-01', 'visit', 'NaN'", "not finite"),
        "inf": ("'c1', '2024-02-01', 'visit', '-Infinity'", "not finite"),
        "null": ("'c1', '2024-02-01', 'purchase', null", "missing where the programme counts"),
    },
    "customers": {
        "no-birth": ("null", "created_at is missing"),
        "closed": ("'2024-01-01', '2023-01-01'", "closed_at is before created_at"),
    },
    "actions": {
        "negative": ("'email', -1", "cost is missing, negative"),
        "pigeon": ("'pigeon', 1", "not one of the programme's channels"),
    },
    "decisions": {
        "zero": ("'c1', '2024-02-07', 'mail', '{no_action,mail}', '{1,0}'", "not above 0"),
        "much": ("'c1', '2024-02-08', 'mail', '{no_action,mail}', '{-0.2,1.2}'", "above 1"),
        "d-nan": ("'c1', '2024-02-09', 'mail', '{no_action,mail}', '{0.5,NaN}'", "do not sum to 1"),
        "d-null": ("'c1', '2024-02-10', 'mail', '{no_action,mail}', '{1,null}'", "a probability is missing"),
        "sum": ("'c1', '2024-02-11', 'mail', '{no_action,mail}', '{0.5,0.49}'", "do not sum to 1"),
        "length": ("'c1', '2024-02-14', 'mail', '{no_action,mail}', '{1}'", "differ in length"),
        "none": ("'c1', '2024-02-15', 'mail', '{}', '{}'", "or are empty"),
        "other": ("'c1', '2024-02-16', 'call', '{no_action,mail}', '{0.5,0.5}'", "not one of eligible_actions"),
        "d-fax": ("'c1', '2024-02-17', 'mail', '{fax,mail}', '{0.5,0.5}'", "not in the catalogue"),
        "again": ("'c1', '2024-02-18', 'mail', '{mail,mail}', '{0.5,0.5}'", "names an action twice"),
        "one": ("'c1', '2024-02-21 09:00', 'mail', '{mail}', '{1}'", "another decision on that day"),
        "two": ("'c1', '2024-02-21 10:00', 'mail', '{mail}', '{1}'", "another decision on that day"),
    },
    "customer_changes": {
        "c1|age": ("'2024-02-01', 'age', 'old'", "not a finite number"),
        "c1|consent_email": ("'2024-02-01', 'consent_email', 'maybe'", "neither true nor false"),
    },
    "action_changes": {
        "mail|cost": ("'2024-02-01', 'cost', 'free'", "not a finite number"),
        "call|cost": ("'2024-02-01', 'cost', '-3'", "a cost: not negative"),
        "fax|cost": ("'2024-02-01', 'cost', '1'", "not in the catalogue"),
    },
}
TWICE = {
    "twice": (
        "insert into contacts select 'twice', 'c1', '2024-02-01', a from unnest('{mail,call}'::text[]) as a",
        "another row has the same contact_id",
    ),
    "twin": (
        "insert into contacts select 'twin', 'c1', '2024-02-01', 'mail' from generate_series(1, 2)",
        "of identical rows the first is kept",
    ),
    "c1|segment": (
        "insert into customer_changes select 'c1', '2024-02-01', 'segment', v from unnest('{a,b}'::text[]) as v",
        "at the same moment",
    ),
}


def test_every_bad_row_goes_to_quarantine_and_all_others_to_history(databases: Databases, tmp_path: Path) -> None:
    good = valid_counts(databases)
    expected = {row_id: reason for row_id, (_, reason) in TWICE.items()}
    databases.run(*(statement for statement, _ in TWICE.values()))
    for relation, rows in BAD_ROWS.items():
        for row_id, (values, reason) in rows.items():
            databases.run(f"insert into {relation} values ('{row_id.split('|')[0]}', {values})")
            expected[row_id] = reason
    lax = make_programme(validation={"max_quarantined_share": 1})
    result = night(databases, lax, tmp_path)
    assert result.passed
    found: dict[str, str] = {}
    for row_id, reasons, day, run_id in databases.rows("select row_id, reasons, day, run_id from nba.quarantine"):
        found[row_id] = found.get(row_id, "") + "; ".join(reasons)
        assert run_id == "a run"
        assert day is None or day.year in (2023, 2024)
    assert set(found) == set(expected)
    assert [row_id for row_id, reason in expected.items() if reason not in found[row_id]] == []
    # Of the twins one is in; everything that was good is in, nothing else.
    merged = {relation: databases.rows(f"select count(*) from history.{relation}")[0][0] for relation in good}
    assert merged == {**good, "contacts": good["contacts"] + 1}
    # The quarantine holds the source's rows, to be looked at and repaired.
    stored = databases.rows("select source_row from nba.quarantine where row_id = 'sum'")[0][0]
    assert (stored["customer_id"], stored["probabilities"]) == ("c1", [0.5, 0.49])
    assert str(result).count("×") >= 20


def valid_counts(databases: Databases) -> dict[str, int]:
    """Rows of the good contract before the run's date, by relation."""
    with databases.crm.connect() as connection:
        return {
            relation.name: connection.exec_driver_sql(
                f"select count(*) from {relation.name} where {relation.time} < '{AS_OF} 00:00+01'"
            ).scalar_one()
            for relation in RELATIONS.values()
            if relation.time
        }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("delete from contacts; delete from decisions", "no contact and no decision"),
        ("delete from events", "no event"),
        ("delete from customers", "there is no customer"),
        ("delete from events where occurred_at > '2024-02-25'", "the newest event is 4 days old"),
        (
            "delete from events where occurred_at between '2024-02-29 03:00+01' and '2024-03-01 12:00+01'",
            "was the source loaded",
        ),
        ("update contacts set action_id = 'fax' where contact_id like 'k1_'", "1,0|0.9% of the rows are bad"),
        (
            "update events set occurred_at = '2020-01-01' where event_id like 'e2_'",
            "10 × occurred_at is before the customer",
        ),
    ],
)
def test_a_bad_first_night_is_refused(databases: Databases, tmp_path: Path, change: str, reason: str) -> None:
    databases.run(change)
    strict = make_programme(validation={"max_quarantined_share": 0.004})
    result = night(databases, strict, tmp_path)
    assert not result.passed
    assert any(part in line for line in result.critical for part in reason.split("|"))
    with pytest.raises(ValidationFailed, match="refused: nothing of it enters history\n- "):
        result.refuse_critical()
    assert databases.rows("select count(*) from history.customers") == [(0,)]
    with pytest.raises(PullError, match="validate it first"):
        history.merge(databases.warehouse, strict, result.batch_id)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("update actions set channel = 'phone' where action_id = 'mail'", "mail (from email to phone)"),
        ("update actions set discount = 0.2 where action_id = 'offer'", "offer (discount from 0.1 to 0.2); give the"),
        ("delete from customers where customer_id like 'c__' and customer_id > 'c25'", "of the night before's"),
        ("delete from events where occurred_at > '2024-02-29'", "0% of a usual day's"),
        (
            "insert into actions select 'a' || i, 'email', 0 from generate_series(1, 28) as i",
            "32 actions have been seen",
        ),
    ],
)
def test_a_bad_second_night_is_refused(databases: Databases, tmp_path: Path, change: str, reason: str) -> None:
    valid_night(databases, PROGRAMME)
    before = contents(databases)["history.events"]
    databases.run(change)
    result = night(databases, make_programme(validation={"max_quarantined_share": 1}), tmp_path, NEXT)
    assert any(reason in line for line in result.critical)
    assert contents(databases)["history.events"] == before


def test_repaired_at_the_source_the_same_date_passes(databases: Databases, tmp_path: Path) -> None:
    databases.run("update contacts set action_id = 'fax' where action_id = 'mail'")
    assert not night(databases, PROGRAMME, tmp_path).passed
    databases.run("update contacts set action_id = 'mail' where action_id = 'fax'")
    assert night(databases, PROGRAMME, tmp_path).passed
    assert databases.rows("select count(*) from nba.quarantine") == [(0,)]


def test_rows_that_stay_bad_do_not_fail_later_nights(databases: Databases, tmp_path: Path) -> None:
    databases.run("update contacts set action_id = 'fax' where contact_id in ('k900', 'k901', 'k902')")
    assert night(databases, PROGRAMME, tmp_path).passed
    # Tonight's pull of contacts is the day of those three and one new day: 3 of 24 rows.
    assert night(databases, PROGRAMME, tmp_path, NEXT).passed
    databases.run("update contacts set action_id = 'fax' where contacted_at > '2024-03-02 12:00+01'")
    assert not night(databases, PROGRAMME, tmp_path, NEXT + dt.timedelta(days=1)).passed


def test_the_report_counts_and_tells_no_value(databases: Databases, tmp_path: Path) -> None:
    databases.run(
        "insert into customers select 'secret-' || i, '2023-07-01' from generate_series(1, 3) as i",
        "insert into contacts select 'contact-' || i, 'secret-' || i, '2024-02-01', 'fax' from generate_series(1, 3) i",
        "insert into events select 'event-' || i, 'secret-' || i, '2024-02-01', 'private' from generate_series(1, 3) i",
    )
    result = night(databases, PROGRAMME, tmp_path)
    assert result.report is not None
    pages = {page.name: page.read_text(encoding="utf-8") for page in result.report.parent.iterdir()}
    assert set(pages) == {"index.html", "night.html", *(f"{relation}.html" for relation in RELATIONS)}
    for secret in ("secret-", "contact-1", "event-1", "private", "fax", *(f"c{i}<" for i in range(100))):
        assert [name for name, page in pages.items() if secret in page] == [], secret
    assert "action_id is in the catalogue" in pages["contacts.html"]
    assert ">3<" in pages["index.html"]
    for page in pages.values():
        assert "<script" not in page
        # A closed network opens them: nothing is loaded, and links lead to one another.
        fetched = re.findall(r"""(?:\ssrc|\shref|url|@import)\s*[=(]?\s*["']?([^"'\s>)]+)""", page)
        assert {target for target in fetched if not target.startswith("#")} <= set(pages)


def test_killed_and_repeated_it_leaves_the_same(databases: Databases, server: TestServer, tmp_path: Path) -> None:
    undisturbed = server.databases()
    for each in (databases, undisturbed):
        each.run("update contacts set action_id = 'fax' where contact_id in ('k900', 'k901')", "delete from decisions")
        batch_id = pull.start(each.warehouse, PROGRAMME, AS_OF)
        pull.pull(each.crm, each.warehouse, PROGRAMME, batch_id)

    def work(each: Databases) -> None:
        validate.validate(each.warehouse, PROGRAMME, batch_id, "a run", tmp_path / "report")

    work(undisturbed)
    for statement in (15, 40, 60):
        assert killed_at(statement, lambda: work(databases), databases.crm, databases.warehouse)
    work(databases)
    assert contents(databases) == contents(undisturbed)
    assert databases.rows("select count(*) from nba.quarantine") == [(2,)]


def test_the_suites_are_great_expectations_own_format() -> None:
    from great_expectations import ExpectationSuite

    folder = Path(validate.__file__).parent.parent / "expectations"
    assert {path.stem for path in folder.glob("*.json")} == {*RELATIONS, "night"}
    for path in folder.glob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        suite = ExpectationSuite(content["name"], expectations=content["expectations"])
        assert suite.name == path.stem
        assert all(expectation["meta"]["reason"] for expectation in content["expectations"])
