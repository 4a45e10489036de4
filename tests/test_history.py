"""History keeps every version: late rows, corrections and deletions end versions and add others, nothing is doubled."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from nba_tasks import contract, history, pull
from nba_tasks.contract import RELATIONS
from nba_tasks.hashing import hash63, uniforms
from nba_tasks.programme import read_programme
from nba_tasks.pull import PullError
from nba_tasks.settings import settings
from nba_tasks.simulators.crm import simulate_to_crm
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


def up_to(databases: Databases, batch_id: int, relation: str, columns: str) -> list[Any]:
    """Rows of history as batch `batch_id` left them."""
    return databases.rows(
        f"select {columns} from history.{relation} where batch_id <= :b"
        " and (superseded_by is null or superseded_by > :b) order by 1",
        b=batch_id,
    )


def source(databases: Databases, query: str) -> list[Any]:
    with databases.crm.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


def same_as_source(databases: Databases, batch_id: int, as_of: dt.date) -> None:
    """History up to the batch holds exactly the source's rows before `as_of`."""
    for relation, key, time in (
        ("contacts", "contact_id", "contacted_at"),
        ("events", "event_id", "occurred_at"),
        ("decisions", "decision_id", "decided_at"),
    ):
        there = source(databases, f"select {key}, {time} from {relation} where {time} < '{as_of} 00:00+01' order by 1")
        assert up_to(databases, batch_id, relation, f"{key}, {time}") == there


def test_indexes_are_made_again_behind_the_first_merge(databases: Databases) -> None:
    indexes = "select indexdef from pg_indexes where schemaname = 'history' order by 1"
    constraints = (
        "select conname, pg_get_constraintdef(oid) from pg_constraint"
        " where conrelid::regclass::text like 'history.%' order by 1, 2"
    )
    before = databases.rows(indexes), databases.rows(constraints)
    valid_night(databases, PROGRAMME)
    assert databases.rows("select count(*) from history.contacts")[0][0] > 0
    assert (databases.rows(indexes), databases.rows(constraints)) == before


def test_the_first_batch_is_the_source(databases: Databases) -> None:
    merged = valid_night(databases, PROGRAMME)
    same_as_source(databases, 1, AS_OF)
    assert merged.added["customers"] == 100
    assert set(merged.ended.values()) == {0}
    assert databases.rows("select action, action_id from history.actions order by 1") == [
        (0, "no_action"), (1, "call"), (2, "mail"), (3, "offer"),
    ]  # fmt: skip
    assert databases.rows("select distinct action, eligible, propensity from history.decisions order by 1") == [
        (0, 0b111, 0.5), (2, 0b111, 0.3),
    ]  # fmt: skip
    assert databases.rows("select count(*) from staging.events") == [(0,)]


def test_customers_are_hashed_as_in_python(databases: Databases) -> None:
    valid_night(databases, PROGRAMME)
    ids = [f"c{i}" for i in range(1, 101)]
    arms = dict(zip(ids, uniforms("shop", "arm", "1", ids), strict=True))
    splits = dict(zip(ids, uniforms("shop", "split", "1", ids), strict=True))
    for customer_id, offset, bucket, split, arm in databases.rows(
        "select customer_id, offset_days, bucket, split::text, arm::text from history.customers"
    ):
        assert offset == hash63("shop", "offset", "1", customer_id) % 7
        assert bucket == hash63("shop", "shard", "1", customer_id) % 1024
        arm_draw, split_draw = arms[customer_id], splits[customer_id]
        assert arm == ("h" if arm_draw < 0.1 else "b" if arm_draw < 0.2 else "s")
        assert split == ("h" if arm == "h" else "l" if split_draw < 0.5 else "s" if split_draw < 0.7 else "g")


def test_keys_follow_buckets_and_ids_and_never_change(databases: Databases) -> None:
    valid_night(databases, make_programme(grid={**PROGRAMME.grid.model_dump(), "stagger": False}))
    before = databases.rows("select customer_key, customer_id, offset_days from history.customers order by 1")
    bucket = {f"c{i}": hash63("shop", "shard", PROGRAMME.salt, f"c{i}") % 1024 for i in range(1, 101)}
    ids = [customer_id for _, customer_id, _ in before]
    assert ids == sorted(bucket, key=lambda customer_id: (bucket[customer_id], customer_id))
    assert {offset for _, _, offset in before} == {0}
    databases.run("delete from customers where customer_id = 'c7'", "insert into customers values ('a', '2024-02-01')")
    valid_night(databases, make_programme(grid={**PROGRAMME.grid.model_dump(), "stagger": False}), NEXT)
    after = databases.rows("select customer_key, customer_id, offset_days from history.customers order by 1")
    assert after == [*before, (101, "a", 0)]


def test_late_rows_corrections_and_deletions(databases: Databases) -> None:
    valid_night(databases, PROGRAMME)
    first = contents(databases)["history.contacts"]
    databases.run(
        "insert into contacts values ('late', 'c5', '2024-01-10 12:00+01', 'mail')",
        "delete from contacts where contact_id = 'k210'",
        "update contacts set action_id = 'call' where contact_id = 'k211'",
        "update contacts set contacted_at = contacted_at + interval '3 days' where contact_id = 'k224'",
        "update events set value = 99 where event_id = 'e402'",
        "delete from decisions where decision_id = 'd3'",
    )
    merged = valid_night(databases, PROGRAMME, NEXT)
    same_as_source(databases, 2, NEXT)
    assert (merged.added["contacts"], merged.ended["contacts"]) == (12 + 3, 3)
    assert (merged.added["events"], merged.ended["events"]) == (24 + 1, 1)
    # What the first batch saw is still there, to be read up to it.
    with_ends = contents(databases)["history.contacts"]
    assert len(with_ends) == len(first) + 15
    assert len(up_to(databases, 1, "contacts", "contact_id")) == len(first)
    versions = databases.rows(
        "select batch_id, superseded_by from history.contacts where contact_id = 'k211' order by 1"
    )
    assert versions == [(1, 2), (2, None)]


def test_a_row_moved_out_of_an_old_day_is_not_doubled(databases: Databases) -> None:
    programme = make_programme(crm={"recheck_days": 5})
    valid_night(databases, programme)
    databases.run("update events set occurred_at = '2024-02-28 12:00+01' where event_id = 'e5'")
    valid_night(databases, programme, NEXT)
    current = databases.rows("select batch_id from history.events where event_id = 'e5' and superseded_by is null")
    assert current == [(2,)]


def test_customers_and_actions_are_kept_by_version(databases: Databases) -> None:
    valid_night(databases, PROGRAMME)
    databases.run(
        "update customers set age = 99 where customer_id = 'c1'",
        "delete from customers where customer_id = 'c2'",
        "update actions set cost = 4 where action_id = 'call'",
        "insert into actions values ('fax', 'phone', 1, '2024-01-01', null, null, 0)",
        "delete from actions where action_id = 'offer'",
    )
    for relation in ("contacts", "events", "decisions", "customer_changes"):
        databases.run(f"delete from {relation} where customer_id = 'c2'")
    merged = valid_night(databases, PROGRAMME, NEXT)
    assert (merged.added["customers"], merged.ended["customers"]) == (1, 2)
    assert (merged.added["actions"], merged.ended["actions"]) == (2, 2)
    versions = databases.rows(
        "select v.attributes ->> 'age', v.batch_id, v.superseded_by from history.customer_versions as v"
        " join history.customers as k using (customer_key) where k.customer_id in ('c1', 'c2')"
        " order by k.customer_id, 2"
    )
    assert versions == [("21", 1, 2), ("99", 2, None), ("22", 1, 2)]
    assert databases.rows("select action, action_id from history.actions order by 1")[-1] == (4, "fax")
    costs = databases.rows("select cost, superseded_by from history.action_versions where action = 1 order by 1")
    assert costs == [(3.0, 2), (4.0, None)]
    # Who comes back, comes back under the old key.
    databases.run("insert into customers select 'c2', '2023-06-01 14:00+01', null, true, null, 22, 'new'")
    valid_night(databases, PROGRAMME, NEXT + dt.timedelta(days=1))
    assert databases.rows("select count(*) from history.customers") == [(100,)]


def test_a_snapshot_keeps_the_moment_it_was_taken(databases: Databases) -> None:
    before = databases.rows("select now()")[0][0]
    valid_night(databases, PROGRAMME)
    for table in ("customer_versions", "action_versions"):
        first, last = databases.rows(f"select min(seen_at), max(seen_at) from history.{table}")[0]
        assert before < first <= last < databases.rows("select now()")[0][0]


def test_the_same_date_again_changes_nothing(databases: Databases) -> None:
    valid_night(databases, PROGRAMME)
    before = contents(databases)
    databases.run("delete from events", "update customers set age = 1")
    assert valid_night(databases, PROGRAMME).added == {}
    assert contents(databases) == before


def test_integer_ids(databases: Databases) -> None:
    databases.run(
        *(
            f"alter table {relation} alter customer_id type integer using substr(customer_id, 2)::integer"
            for relation in ("customers", "contacts", "events", "decisions", "customer_changes")
        ),
        "alter table contacts alter contact_id type bigint using substr(contact_id, 2)::bigint",
    )
    valid_night(databases, PROGRAMME)
    assert databases.rows("select offset_days from history.customers where customer_id = '17'") == [
        (hash63("shop", "offset", "1", 17) % 7,)
    ]
    assert len(up_to(databases, 1, "contacts", "contact_id")) == 1088


def test_a_batch_is_merged_only_after_validation_and_with_all_its_rows(databases: Databases) -> None:
    batch_id = pull.start(databases.warehouse, PROGRAMME, AS_OF)
    with pytest.raises(PullError, match="pull it first"):
        history.merge(databases.warehouse, PROGRAMME, batch_id)
    pull.pull(databases.crm, databases.warehouse, PROGRAMME, batch_id)
    with pytest.raises(PullError, match="validate it first"):
        history.merge(databases.warehouse, PROGRAMME, batch_id)
    with databases.warehouse.begin() as connection:
        connection.exec_driver_sql("truncate staging.customers")  # as PostgreSQL does after a crash
    with pytest.raises(PullError, match=r"0 of the 100 rows .* pull the batch again"):
        history.merge(databases.warehouse, PROGRAMME, batch_id)


def test_killed_at_any_statement_and_repeated_it_leaves_the_same(databases: Databases, server: TestServer) -> None:
    undisturbed = server.databases()
    both = (databases, undisturbed)
    for each in both:
        valid_night(each, PROGRAMME)
        each.run(
            "delete from events where event_id like 'e19%'",
            "update contacts set action_id = 'call' where contact_id like 'k9%'",
            "insert into customers select 'n' || i, '2024-02-01' from generate_series(1, 9) as i",
            "update actions set cost = 5 where action_id = 'call'",
        )
    valid_night(undisturbed, PROGRAMME, NEXT)
    engines = (databases.crm, databases.warehouse)
    kills = 0
    while killed_at(8 * kills + 1, lambda: valid_night(databases, PROGRAMME, NEXT), *engines):
        kills += 1
    assert kills > 8
    assert contents(databases) == contents(undisturbed)


def test_a_row_repaired_at_the_source_gets_in_the_next_night(databases: Databases, tmp_path: Path) -> None:
    databases.run(
        "update contacts set action_id = 'mial' where contact_id = 'k12'",
        "update events set customer_id = null where event_id = 'e40'",
        "insert into events values ('when', 'c1', null, 'visit')",
    )
    programme = make_programme(crm={"relations": PROGRAMME.crm.relations.model_dump(), "recheck_days": 5})
    assert night(databases, programme, tmp_path).passed
    assert len(up_to(databases, 1, "contacts", "contact_id")) == 1087
    # Far behind the days that are compared: what brings the day back is the quarantine.
    databases.run(
        "update contacts set action_id = 'mail' where contact_id = 'k12'",
        "update events set occurred_at = '2024-01-10' where event_id = 'when'",
    )
    assert night(databases, programme, tmp_path, NEXT).passed
    assert up_to(databases, 2, "contacts", "contact_id, contacted_at") == source(
        databases, f"select contact_id, contacted_at from contacts where contacted_at < '{NEXT} 00:00+01' order by 1"
    )
    quarantine = databases.rows("select row_id, batch_id, resolved_by from nba.quarantine order by 1, 2")
    assert quarantine == [("e40", 1, 2), ("e40", 2, None), ("k12", 1, 2), ("when", 1, 2)]


def test_a_bad_customer_keeps_the_last_good_version(databases: Databases, tmp_path: Path) -> None:
    valid_night(databases, PROGRAMME)
    databases.run("update customers set created_at = null where customer_id = 'c1'")
    assert night(databases, PROGRAMME, tmp_path, NEXT).passed
    assert databases.rows(
        "select count(*) from history.customer_versions join history.customers using (customer_key)"
        " where customer_id = 'c1' and superseded_by is null"
    ) == [(1,)]


def test_the_simulated_histories_keep_the_contract(databases: Databases, tmp_path: Path) -> None:
    programme = read_programme(settings().programmes / "sales_channels.yaml")
    as_of = dt.date(2025, 10, 1)
    databases.run(*(f"drop table {relation}" for relation in RELATIONS))
    simulate_to_crm("sales_channels", databases.crm, as_of, customers=2000, seed=1)
    assert [str(finding) for finding in contract.check(databases.crm, programme)] == []
    result = night(databases, programme, tmp_path, as_of)
    assert result.passed
    assert set(result.quarantined.values()) == {0}
    same_as_source(databases, 1, as_of)


def test_a_changed_grid_needs_a_rebuild_which_starts_anew(databases: Databases) -> None:
    programme = make_programme()
    valid_night(databases, programme)
    grid = programme.grid.model_dump() | {"interval_days": 14}
    changed = make_programme(grid=grid)
    with pytest.raises(pull.GridChanged, match="nba rebuild shop"):
        pull.start(databases.warehouse, changed, AS_OF)
    history.forget(databases.warehouse, changed)
    assert databases.rows("select count(*) from history.customers") == [(0,)]
    assert databases.rows("select interval_days from nba.programmes") == [(14,)]
    again = valid_night(databases, changed)
    assert again.added["customers"] > 0
    assert databases.rows("select max(offset_days) > 6 from history.customers") == [(True,)]
