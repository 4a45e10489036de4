"""What an epoch knows of columns that change, and what a contact cost when it was made."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from nba_tasks import database, transitions
from nba_tasks.batches import read_batch
from nba_tasks.programme import Programme
from tests.databases import Databases, make_programme, valid_night

NIGHTS = [dt.date(2024, 2, 1), dt.date(2024, 2, 8), dt.date(2024, 3, 1)]


def night(databases: Databases, programme: Programme, as_of: dt.date) -> None:
    """A night as it runs in life: the CRM is read at two in the morning of its own date."""
    valid_night(databases, programme, as_of)
    with databases.warehouse.begin() as connection:
        for table in ("customer_versions", "action_versions"):
            connection.execute(
                sa.text(
                    f"update history.{table} set seen_at = timestamp '{as_of} 02:00' at time zone 'Europe/Berlin'"
                    " where batch_id = (select max(batch_id) from nba.batches)"
                )
            )


def epochs(databases: Databases, programme: Programme, columns: str) -> list[Any]:
    """Every row of the transitions as of the last night: customer, start of the epoch, and `columns`."""
    as_of = NIGHTS[-1]
    for shard in transitions.prepare(databases.warehouse, programme, as_of):
        transitions.build_shard(databases.warehouse, programme, as_of, shard)
    return databases.rows(
        f"""
        select c.customer_id, nba.epoch_date('2023-12-04', c.offset_days, t.epoch, 7) as starts_on, {columns}
        from transitions.shop as t join history.customers as c using (customer_key) order by 1, 2
        """
    )


def test_a_snapshot_is_known_from_the_day_after_it(databases: Databases) -> None:
    """`age` has no change history. Changed between midnight and the pull, it is news to that day's decisions."""
    programme = make_programme()
    night(databases, programme, NIGHTS[0])
    databases.run("update customers set age = age + 100")  # at one in the morning of the second night
    night(databases, programme, NIGHTS[1])
    night(databases, programme, NIGHTS[2])
    seen = set()
    for customer, starts_on, age in epochs(databases, programme, "t.state_age"):
        first = 20 + int(customer[1:]) % 50
        known = [value for value, seen_on in ((first, NIGHTS[0]), (first + 100, NIGHTS[1])) if seen_on < starts_on]
        assert age == (known[-1] if known else -1), (customer, starts_on)
        seen.add((len(known), starts_on in NIGHTS))
    assert seen >= {(0, True), (0, False), (1, True), (1, False), (2, False)}


def test_the_newest_of_records_and_snapshots_counts(databases: Databases) -> None:
    """One recorded change does not make everybody else unknown."""
    programme = make_programme()
    databases.run(
        "delete from customer_changes",
        "insert into customer_changes values ('c1', '2024-01-10 12:00+01', 'segment', 'loyal'),"
        " ('c1', '2024-02-06 12:00+01', 'segment', 'new')",
        "update customers set segment = 'loyal' where customer_id = 'c1'",
    )
    night(databases, programme, NIGHTS[0])
    databases.run("update customers set segment = 'loyal' where customer_id = 'c2'")
    night(databases, programme, NIGHTS[1])
    night(databases, programme, NIGHTS[2])
    found = epochs(databases, programme, "t.state_segment")
    new, loyal, unknown = 0, 1, -1
    for customer, starts_on, segment in found:
        if customer == "c1":
            recorded = loyal if starts_on > dt.date(2024, 1, 10) else unknown
            # The record of 6 February is newer than the snapshot of the 1st, which still said loyal.
            assert segment == (new if starts_on > dt.date(2024, 2, 6) else recorded), starts_on
        elif customer == "c2":
            expected = unknown if starts_on <= NIGHTS[0] else new if starts_on <= NIGHTS[1] else loyal
            assert segment == expected, starts_on
    others = {segment for customer, day, segment in found if customer not in ("c1", "c2") and day > NIGHTS[0]}
    assert others == {new, loyal}


def test_the_first_night_may_contact_whoever_consents_tonight(databases: Databases) -> None:
    """Its state knows nothing of consent yet; whether a contact is allowed is asked of the newest pull."""
    programme = make_programme(rules=[{"kind": "consent", "name": "consent"}])
    night(databases, programme, NIGHTS[-1])
    with databases.warehouse.connect() as connection:
        batch = read_batch(connection, programme, NIGHTS[-1])
        shape = transitions.shape_of(connection, programme, batch)
        mailing = sum(1 << a.index for a in shape.actions if a.channel == "email")
        names = shape.names(tonight=True) | {"rolled_out": False}
        tonight = []
        for shard in range(programme.shards):
            parameters = transitions.epoch_parameters(connection, programme, batch, shard)
            transitions.read_members(connection, parameters, names)
            # Planned for so many customers as there are: taken for a handful, they are joined by loops over each other.
            planned_for = connection.scalar(
                sa.text("select reltuples from pg_class where oid = 'pg_temp.member'::regclass")
            )
            assert planned_for == connection.scalar(sa.text("select count(*) from pg_temp.member"))
            rows = database.execute(connection, "transitions/tonight", parameters, **names)
            tonight += [(row.customer_id, row.eligible & mailing) for row in rows]
    assert len(tonight) > 5
    assert tonight == [(customer, mailing if int(customer[1:]) % 3 else 0) for customer, _ in tonight]


def test_a_contact_costs_what_it_cost_on_its_day(databases: Databases) -> None:
    """A call: 2 and from 15 January on 5 as recorded, 3 as the first night found it, 4 as the second."""
    zone = make_programme().grid.zone
    databases.run(
        "insert into action_changes values ('call', '2023-01-01', 'cost', '2'),"
        " ('call', '2024-01-15 12:00+01', 'cost', '5'), ('call', '2024-01-16', 'colour', '7')",
    )
    used = set()

    def price(moment: dt.datetime) -> float:
        recorded = 2 if moment < dt.datetime(2024, 1, 15, 12, tzinfo=zone) else 5
        used.add(found := 4 if moment.date() >= NIGHTS[1] else 3 if moment.date() >= NIGHTS[0] else recorded)
        return found

    compare_costs(databases, price)
    assert used == {2, 3, 4, 5}


def test_before_any_record_a_contact_costs_what_is_known_first(databases: Databases) -> None:
    databases.run("delete from action_changes")
    compare_costs(databases, lambda moment: 4 if moment.date() >= NIGHTS[1] else 3)


def compare_costs(databases: Databases, price: Callable[[dt.datetime], float]) -> None:
    """Three nights, with a call's cost changed from 3 to 4 before the second; then each epoch's cost and reward."""
    programme = make_programme()
    night(databases, programme, NIGHTS[0])
    databases.run("update actions set cost = 4 where action_id = 'call'")
    night(databases, programme, NIGHTS[1])
    night(databases, programme, NIGHTS[2])
    with databases.crm.connect() as connection:
        contacts = [
            (row.customer_id, row.contacted_at.astimezone(programme.grid.zone), row.action_id)
            for row in connection.exec_driver_sql("select * from contacts")
        ]
    settled = epochs(databases, programme, "t.cost, t.reward, t.outcome_purchase")
    for customer, starts_on, cost, reward, bought in settled:
        if cost is None:
            continue
        expected = sum(
            price(moment) if action == "call" else {"mail": 0.01, "offer": 0.02}[action]
            for who, moment, action in contacts
            if who == customer and starts_on <= moment.date() < starts_on + dt.timedelta(days=7)
        )
        assert cost == pytest.approx(expected, abs=1e-4), (customer, starts_on)
        assert reward == pytest.approx(bought - expected, abs=1e-4)


@pytest.mark.parametrize("odd", ["50%: a 'b'", "a\\:b :c", "{x} %(y)s ::z"])
def test_odd_names_do_not_break_a_statement(databases: Databases, odd: str) -> None:
    """A category of a feature and an action of the catalogue may be called anything."""
    programme = make_programme(
        state=[
            {"name": "segment", "source": "customer", "column": "segment", "immutable": True, "categories": ["x", odd]},
            {"name": "odd", "source": "contacts", "action": odd},
        ],
        rules=[{"kind": "range", "name": "odd", "actions": [odd], "feature": "segment", "min": 0}],
    )
    for table in ("actions", "contacts", "action_changes"):
        with databases.crm.begin() as connection:
            connection.execute(sa.text(f"update {table} set action_id = :odd where action_id = 'offer'"), {"odd": odd})
    with databases.crm.begin() as connection:
        connection.execute(sa.text("update customers set segment = :odd where segment = 'loyal'"), {"odd": odd})
    night(databases, programme, NIGHTS[-1])
    found = epochs(databases, programme, "t.state_segment, t.state_odd")
    assert {segment for *_, segment, _ in found} == {-1, 1}
    assert max(count for *_, count in found) > 1
