"""Transitions against the simulator that wrote the history, and what must never change them."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from random import Random

import numpy as np
import pytest
import sqlalchemy as sa

from nba_tasks import transitions
from nba_tasks.batches import read_batch
from nba_tasks.dataset import Transitions
from nba_tasks.simulators import sales_channels as simulator
from tests.databases import TestServer, killed_at, valid_night
from tests.loop import AS_OF, CUSTOMERS, SEED, Installation, install, sales_channels


@pytest.fixture(scope="module")
def installed(server: TestServer) -> Installation:
    made = install(server, sales_channels())
    made.build()
    return made


def table(installation: Installation) -> list[tuple[object, ...]]:
    """Every row of the transitions."""
    return installation.databases.rows("select * from transitions.sales_channels order by customer_key, epoch")


def test_sql_and_the_simulator_agree_row_by_row(installed: Installation) -> None:
    """The simulator plays customers forward and knows nothing of SQL; both must see the same decision process."""
    played = simulator.to_transitions(simulator.simulate(CUSTOMERS, SEED, as_of=AS_OF))
    ids = dict(installed.databases.rows("select customer_id::bigint, customer_key from history.customers"))
    names = [a.action_id for a in installed.shape().actions]
    column = [names.index(name) for name in simulator.catalogue().ids]
    for split in ("learn", "select", "gate"):
        built = installed.load(split).transitions
        built.check()
        of_split = np.isin(played.customer, [c for c, key in ids.items() if key in set(built.customer.tolist())])
        expected = played.rows(of_split)
        key = np.array([ids[c] for c in expected.customer.tolist()])
        expected = expected.rows(np.lexsort((expected.epoch, key)))
        assert len(built) == len(expected) > 1_000
        _compare(built, expected, np.array(column))


def _compare(built: Transitions, expected: Transitions, column: np.ndarray) -> None:
    assert (built.epoch == expected.epoch).all()
    assert (built.open == expected.open).all()
    np.testing.assert_allclose(built.state, expected.state, rtol=1e-6)
    settled = ~built.open
    assert (built.action[settled] == column[expected.action[settled]]).all()
    np.testing.assert_allclose(built.reward[settled], expected.reward[settled], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(built.outcomes[settled], expected.outcomes[settled], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(built.propensity[settled], expected.propensity[settled], rtol=1e-5)
    assert (built.done == expected.done).all()
    assert (built.eligible_logged[settled][:, column] == expected.eligible_logged[settled]).all()
    assert (built.eligible_target[:, column] == expected.eligible_target).all()


def test_no_state_knows_what_happened_at_or_after_its_epoch_starts(server: TestServer) -> None:
    """Everything mutable is changed from one night on: the states of epochs that had started by then stay the same."""
    changed_from = AS_OF - dt.timedelta(days=60)
    plain, changed = install(server, sales_channels()), install(server, sales_channels())
    midnight = dt.datetime.combine(changed_from, dt.time(), plain.programme.grid.zone)
    moment = {"midnight": midnight}
    with changed.crm.begin() as crm:
        for statement in (
            "update contacts set action_id = 'phone' where contacted_at >= :midnight",
            "delete from events where occurred_at >= :midnight and event_type in ('visit', 'click', 'unsubscribe')",
            "update events set event_type = 'purchase', value = 1000 where occurred_at >= :midnight",
            "delete from decisions where decided_at >= :midnight",
            """insert into events (event_id, customer_id, occurred_at, event_type)
               select 'new' || customer_id, customer_id, :midnight, 'visit' from customers""",
            """insert into customer_changes select customer_id, cast(:midnight as timestamptz) + v.n * interval '1 s',
               v.attribute, v.value from customers, (values (1, 'consent_mail', 'false'), (2, 'consent_phone', 'true'),
               (3, 'consent_email', 'false')) as v (n, attribute, value)""",
            "update customers set consent_mail = false, consent_phone = true, consent_email = false, closed_at = null",
        ):
            crm.execute(sa.text(statement), moment if ":midnight" in statement else {})
    later = AS_OF + dt.timedelta(days=1)
    valid_night(changed.databases, changed.programme, later)
    changed.as_of = later
    for made in (plain, changed):
        made.build()
    features = ", ".join(f'"{feature.column}"' for feature in plain.shape().features)
    query = f"""
        select c.customer_id, t.epoch, {features} from transitions.sales_channels as t
        join history.customers as c using (customer_key)
        where nba.epoch_date('2024-01-01', c.offset_days, t.epoch, 7) <= :day order by 1, 2
    """
    before = plain.databases.rows(query, day=changed_from)
    after = changed.databases.rows(query, day=changed_from)
    assert len(before) > 10_000
    assert before == after
    assert table(plain) != table(changed), "the changes must show in later epochs, or this test proves nothing"


def test_a_second_build_keeps_every_row(installed: Installation) -> None:
    before = table(installed)
    installed.build()
    assert table(installed) == before


def test_a_killed_build_is_finished_by_the_next(server: TestServer, installed: Installation) -> None:
    expected = table(installed)
    made = install(server, sales_channels())
    statement, killed = 1, True
    while killed:
        killed = killed_at(statement, made.build, made.warehouse)
        statement += 7
    assert statement > 20, "nothing was ever killed"
    made.build()
    assert table(made) == expected


def test_unsettled_epochs_are_open(installed: Installation) -> None:
    """An epoch is a transition once it ended settlement_lag days before as_of; the next one is known by its state."""
    rows = installed.databases.rows(
        """
        select bool_and((t.action is null) = (nba.epoch_date('2024-01-01', c.offset_days, t.epoch + 1, 7) > :settled)),
            count(*) filter (where t.action is null)
        from transitions.sales_channels as t join history.customers as c using (customer_key)
        """,
        settled=AS_OF - dt.timedelta(days=3),
    )
    assert rows[0][0]
    assert rows[0][1] > CUSTOMERS / 2


def test_runs_for_two_dates_do_not_pull_the_table_from_under_each_other(server: TestServer) -> None:
    """The daily look builds for today while a training of yesterday reads: it waits, and both get their own rows."""
    made, later = install(server, sales_channels()), AS_OF + dt.timedelta(days=2)
    made.build()
    expected = table(made)
    valid_night(made.databases, made.programme, later)
    with made.warehouse.connect() as reader, ThreadPoolExecutor(1) as other:
        transitions.hold(reader, made.programme, read_batch(reader, made.programme, AS_OF))
        build = other.submit(transitions.build_shard, made.warehouse, made.programme, later, 0)
        with pytest.raises(TimeoutError):
            build.result(timeout=1)
        assert table(made) == expected
        reader.rollback()
        assert build.result(timeout=60).written > 0
        assert table(made) != expected
        transitions.hold(reader, made.programme, read_batch(reader, made.programme, AS_OF))
        assert table(made) == expected


def test_settings_that_change_the_columns_make_a_new_table(server: TestServer) -> None:
    made = install(server, sales_channels())
    made.build()
    content = made.programme.model_dump()
    made.programme = type(made.programme).model_validate(content | {"state": content["state"][:3]})
    with pytest.raises(transitions.TransitionsError, match="was made for other settings"):
        transitions.build_shard(made.warehouse, made.programme, made.as_of, 0)
    made.build()
    assert made.load("learn").transitions.state.shape[1] == 3


def test_an_empty_history_says_so(server: TestServer) -> None:
    made = install(server, sales_channels())
    with made.warehouse.begin() as connection:
        connection.exec_driver_sql("truncate history.contacts, history.decisions")
    with pytest.raises(transitions.TransitionsError, match="no contact and no decision"):
        made.build()


def test_a_night_killed_at_random_twenty_times_is_as_if_undisturbed(server: TestServer) -> None:
    """The build of the next night, which writes only what changed, is killed again and again."""
    later, random = AS_OF + dt.timedelta(days=2), Random(1)
    made, undisturbed = install(server, sales_channels()), install(server, sales_channels())
    kills = 0
    for installation in (made, undisturbed):
        installation.build()
        with installation.crm.begin() as crm:
            crm.execute(sa.text("update contacts set action_id = 'phone' where contact_id like '%7'"))
        valid_night(installation.databases, installation.programme, later)
        installation.as_of = later
        while installation is made and kills < 20:
            kills += killed_at(random.randint(1, 25), made.build, made.warehouse)
            if random.random() < 0.2:  # or else the last shard would never be reached
                transitions.build_shard(made.warehouse, made.programme, later, random.randrange(3))
        installation.build()
    assert table(made) == table(undisturbed)
    with undisturbed.warehouse.begin() as connection:
        connection.exec_driver_sql("delete from nba.transition_shards")
    undisturbed.build()
    assert table(made) == table(undisturbed)
