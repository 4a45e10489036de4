"""Batches are pinned, staging holds what is new or different, and a kill at any statement changes nothing."""

from __future__ import annotations

import datetime as dt
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nba_tasks import pull
from nba_tasks.contract import ContractError
from nba_tasks.pull import GridChanged, PullError
from tests.databases import AS_OF, Databases, TestServer, contents, killed_at, make_programme, valid_night

PROGRAMME = make_programme()
NEXT = AS_OF + dt.timedelta(days=1)


def days_pulled(databases: Databases, batch_id: int, relation: str) -> list[dt.date]:
    return [
        day
        for (day,) in databases.rows(
            "select day from nba.pulled_days where batch_id = :b and relation = :r order by 1", b=batch_id, r=relation
        )
    ]


def pull_next(databases: Databases, as_of: dt.date = NEXT) -> pull.Pulled:
    batch_id = pull.start(databases.warehouse, PROGRAMME, as_of)
    return pull.pull(databases.crm, databases.warehouse, PROGRAMME, batch_id)


@given(st.sets(st.dates(dt.date(2024, 1, 1), dt.date(2024, 3, 1))))
def test_ranges_hold_exactly_the_days(days: set[dt.date]) -> None:
    ranges = list(pull._ranges(sorted(days)))
    covered = [first + dt.timedelta(days=i) for first, last in ranges for i in range((last - first).days)]
    assert covered == sorted(days)
    assert all(last < first for (_, last), (first, _) in itertools.pairwise(ranges))


def test_the_first_run_pins_the_batch_and_a_rerun_returns_it(databases: Databases) -> None:
    first = pull.start(databases.warehouse, PROGRAMME, AS_OF)
    assert pull.start(databases.warehouse, PROGRAMME, AS_OF) == first
    assert pull.start(databases.warehouse, PROGRAMME, NEXT) == first + 1
    assert databases.rows(
        "select programme, interval_days, anchor, business_timezone, stagger, salt from nba.programmes"
    ) == [("shop", 7, dt.date(2023, 12, 4), "Europe/Berlin", True, "1")]


@pytest.mark.parametrize(
    "change", [{"salt": "2"}, {"grid": {"anchor": "2023-12-05", "business_timezone": "Europe/Berlin"}}]
)
def test_the_grid_and_the_salt_are_fixed(databases: Databases, change: dict[str, object]) -> None:
    pull.start(databases.warehouse, PROGRAMME, AS_OF)
    with pytest.raises(GridChanged, match="nba rebuild shop"):
        pull.start(databases.warehouse, make_programme(**change), NEXT)


def test_two_programmes_do_not_mix(databases: Databases) -> None:
    other = make_programme(programme="other")
    valid_night(databases, PROGRAMME)
    valid_night(databases, other)
    assert databases.rows("select count(*), count(distinct customer_id) from history.customers") == [(200, 100)]
    # Decisions name their programme, where they do: those of `shop` are not the other's.
    counts = databases.rows("select programme_id, count(*) from history.decisions group by 1 order by 1")
    assert counts == [(1, 900), (2, 450)]


def test_only_what_happened_before_local_midnight_is_read(databases: Databases) -> None:
    databases.run(
        "insert into contacts values ('before', 'c1', '2024-02-29 23:59:59.9+01', 'mail')",
        "insert into contacts values ('after', 'c1', '2024-03-01 00:00+01', 'mail')",
        "insert into customers values ('unborn', '2024-03-01 00:00+01')",
        "update customers set closed_at = '2024-03-01 00:00+01' where customer_id = 'c1'",
        "update customers set closed_at = '2024-02-29 23:00+01' where customer_id = 'c2'",
    )
    pull_next(databases, AS_OF)
    assert databases.rows("select contact_id from staging.contacts where contact_id in ('before', 'after')") == [
        ("before",)
    ]
    assert databases.rows(
        "select customer_id, closed_at is null from staging.customers"
        " where customer_id in ('unborn', 'c1', 'c2') order by 1"
    ) == [("c1", True), ("c2", False)]


def test_values_arrive_as_they_are(databases: Databases) -> None:
    databases.run(
        "update customers set age = 'NaN', segment = 'a\\tb\"{100%}' where customer_id = 'c1'",
        "update events set value = 0.1::float8 + 0.2::float8 where event_id = 'e2'",
    )
    pull_next(databases, AS_OF)
    attributes = databases.rows("select attributes from staging.customers where customer_id = 'c1'")[0][0]
    assert attributes == {"age": None, "segment": 'a\\tb"{100%}', "consent_email": True, "consent_phone": None}
    assert databases.rows("select value from staging.events where event_id = 'e2'") == [(0.1 + 0.2,)]
    assert databases.rows("select features from staging.actions where action_id = 'offer'") == [({"discount": 0.1},)]


def test_a_quiet_night_reads_no_day_again(databases: Databases) -> None:
    valid_night(databases, PROGRAMME)
    rows = pull_next(databases).rows
    assert {relation: count for relation, count in rows.items() if count} == {
        "customers": 100, "actions": 4, "contacts": 12, "events": 24,
    }  # fmt: skip
    assert days_pulled(databases, 2, "events") == [AS_OF]


@pytest.mark.parametrize(
    "change",
    [
        "insert into events values ('late', 'c5', '2024-01-10 12:00+01', 'visit')",
        "delete from events where event_id = (select min(event_id) from events where occurred_at::date = '2024-01-10')",
        # The same number of rows, and even the same sum of values, in another order.
        "update events set value = 12 where event_id = (select min(event_id) from events"
        " where occurred_at::date = '2024-01-10' and event_type = 'purchase')",
    ],
)
def test_late_missing_and_corrected_rows_bring_their_day_back(databases: Databases, change: str) -> None:
    valid_night(databases, PROGRAMME)
    databases.run(change)
    pull_next(databases)
    assert days_pulled(databases, 2, "events") == [dt.date(2024, 1, 10), AS_OF]


def test_days_beyond_the_recheck_window_are_left_alone(databases: Databases) -> None:
    crm = {"relations": {"customer_changes": "customer_changes"}, "recheck_days": 10}
    programme = make_programme(crm=crm)
    valid_night(databases, programme)
    databases.run(
        "delete from events where occurred_at < '2024-02-20'",
        "delete from contacts where contacted_at > '2024-02-29 22:00+01' and contacted_at < '2024-03-01'",
    )
    batch_id = pull.start(databases.warehouse, programme, NEXT)
    pull.pull(databases.crm, databases.warehouse, programme, batch_id)
    assert days_pulled(databases, batch_id, "events") == [AS_OF]
    assert days_pulled(databases, batch_id, "contacts") == [dt.date(2024, 2, 29), AS_OF]


def test_a_long_pause_is_caught_up(databases: Databases) -> None:
    programme = make_programme(crm={"recheck_days": 3})
    valid_night(databases, programme, dt.date(2024, 1, 15))
    batch_id = pull.start(databases.warehouse, programme, AS_OF)
    pull.pull(databases.crm, databases.warehouse, programme, batch_id)
    assert len(days_pulled(databases, batch_id, "events")) == (AS_OF - dt.date(2024, 1, 15)).days


def test_local_days_follow_daylight_saving(databases: Databases) -> None:
    databases.run(
        "delete from events where occurred_at >= '2024-03-01 00:00+01'",
        "insert into events select 's' || i, 'c1', timestamptz '2024-03-01 00:00+01' + i * interval '1 hour', 'visit'"
        " from generate_series(0, 24 * 60) as i",
    )
    valid_night(databases, PROGRAMME, dt.date(2024, 4, 10))
    # 31 March has 23 hours; its last one is still the 31st in Berlin, and past 22:00 in UTC.
    databases.run("update events set event_type = 'unsubscribe' where occurred_at = '2024-03-31 23:00+02'")
    pull_next(databases, dt.date(2024, 4, 11))
    assert days_pulled(databases, 2, "events") == [dt.date(2024, 3, 31), dt.date(2024, 4, 10)]
    assert databases.rows("select count(*) from staging.events where occurred_at < '2024-04-05'") == [(23,)]


def test_a_relation_named_later_is_read_from_the_beginning(databases: Databases) -> None:
    valid_night(databases, make_programme(crm={}))
    assert pull_next(databases).rows["customer_changes"] == 100


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("drop table contacts", "no such table"),
        ("alter table events alter occurred_at type timestamp", "naive timestamp"),
        ("alter table events alter value type text", "numeric"),
    ],
)
def test_a_broken_contract_is_refused_and_staging_stays(databases: Databases, change: str, words: str) -> None:
    databases.run(change)
    with pytest.raises(ContractError, match=words):
        pull_next(databases, AS_OF)
    assert databases.rows("select count(*) from staging.customers") == [(0,)]


def test_a_past_date_is_a_dry_run_that_reads_all_that_is_known(databases: Databases) -> None:
    valid_night(databases, PROGRAMME)
    before = contents(databases)
    past = pull.start(databases.warehouse, PROGRAMME, AS_OF - dt.timedelta(days=9))
    assert past == 2
    assert pull.pull(databases.crm, databases.warehouse, PROGRAMME, past).rows == {}
    after = contents(databases)
    assert {k: v for k, v in after.items() if k != "nba.batches"} == {
        k: v for k, v in before.items() if k != "nba.batches"
    }


def test_a_batch_that_was_overtaken_is_never_merged(databases: Databases) -> None:
    slow = pull_next(databases, AS_OF).batch_id
    valid_night(databases, PROGRAMME, NEXT)
    with pytest.raises(PullError, match="start the run of 2024-03-01 again"):
        pull.pull(databases.crm, databases.warehouse, PROGRAMME, slow)
    again = pull.start(databases.warehouse, PROGRAMME, AS_OF)
    assert again > slow
    assert databases.rows("select count(*) from staging.events") == [(0,)]
    assert databases.rows("select merged_at is not null from nba.batches where batch_id = :b", b=again) == [(True,)]


def test_unknown_batches_are_refused(databases: Databases) -> None:
    with pytest.raises(PullError, match="no batch 7"):
        pull.pull(databases.crm, databases.warehouse, PROGRAMME, 7)


def test_killed_at_any_second_statement_and_repeated_it_leaves_the_same(
    databases: Databases, server: TestServer
) -> None:
    undisturbed = server.databases()
    changes = (
        "delete from events where event_id like 'e19%'",
        "update contacts set action_id = 'call' where contact_id like 'k9%'",
        "insert into events values ('new', 'c2', '2024-03-01 12:00+01', 'visit')",
    )
    for each in (databases, undisturbed):
        valid_night(each, PROGRAMME)
        each.run(*changes)
    pull_next(undisturbed)
    engines = (databases.crm, databases.warehouse)
    survived = next(n for n in range(1, 500, 2) if not killed_at(n, lambda: pull_next(databases), *engines))
    assert survived > 30
    assert contents(databases) == contents(undisturbed)
