"""Histories arrive in the CRM as they are, all at once or not at all."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from nba_tasks.simulators import crm, sales_channels, testbed
from nba_tasks.simulators.sales_channels_history import FEATURE_COLUMNS, to_history
from tests.databases import Databases

pytest_plugins = ("tests.databases",)

AS_OF = dt.date(2026, 4, 9)


@pytest.fixture
def engine(databases: Databases) -> Engine:
    """A database without any relation."""
    databases.run("drop schema public cascade", "create schema public")
    return databases.crm


def counts(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        return {r: connection.exec_driver_sql(f"select count(*) from {r}").scalar_one() for r in crm.RELATIONS}


def test_contract_may_be_created_again(engine: Engine) -> None:
    crm.create_contract(engine, {"age": "integer"})
    crm.create_contract(engine, {"age": "integer", "segment": "text"})
    assert set(sa.inspect(engine).get_table_names()) == {*crm.RELATIONS, "campaign_list", "publications"}
    assert {"age", "segment"} <= {column["name"] for column in sa.inspect(engine).get_columns("customers")}


def test_a_history_arrives_as_it_is(engine: Engine) -> None:
    history = to_history(sales_channels.simulate(80, 2, as_of=AS_OF))
    crm.create_contract(engine, FEATURE_COLUMNS)
    crm.write_history(engine, history)
    assert counts(engine) == {name: len(getattr(history, name)) for name in crm.RELATIONS}
    with engine.connect() as connection:
        worst = connection.exec_driver_sql(
            """
            select max(abs(1 - total)), bool_and(known),
                bool_and(cardinality(eligible_actions) = cardinality(probabilities))
            from decisions,
                lateral (select sum(p) as total from unnest(probabilities) as p) as s,
                lateral (select action_id = any (eligible_actions) as known) as k
            """
        ).one()
        times = connection.exec_driver_sql("select occurred_at from events order by event_id::bigint").scalars().all()
        spent = connection.exec_driver_sql("select sum(value) from events where event_type = 'purchase'").scalar_one()
    assert worst[0] < 1e-9
    assert worst[1]
    assert worst[2]
    expected = history.events.sort_values("event_id")["occurred_at"]
    assert [time.timestamp() for time in times] == [time.timestamp() for time in expected]
    assert spent == pytest.approx(history.events["value"].sum())


def test_a_failed_write_leaves_nothing(engine: Engine) -> None:
    crm.create_contract(engine, FEATURE_COLUMNS)
    good = to_history(sales_channels.simulate(20, 2, as_of=AS_OF))
    crm.write_history(engine, good)
    before = counts(engine)
    twice = replace(good, decisions=good.decisions.iloc[np.zeros(2, dtype=int)])
    with pytest.raises(Exception, match="duplicate key"):
        crm.write_history(engine, twice, replace=True)
    assert counts(engine) == before


def test_blocks_are_written_as_one(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crm, "BLOCK", 30)
    for _ in range(2):  # a repetition replaces
        crm.simulate_to_crm("sales_channels", engine, AS_OF, customers=70, seed=1)
    assert counts(engine)["customers"] == 70
    assert counts(engine)["actions"] == 4


def test_the_testbed_is_written(engine: Engine) -> None:
    crm.simulate_to_crm("testbed", engine, testbed.AS_OF, customers=40, seed=1)
    written = counts(engine)
    assert (written["customers"], written["decisions"], written["contacts"]) == (40, 160, 120)


def test_an_unknown_simulator_is_named(engine: Engine) -> None:
    with pytest.raises(ValueError, match="no simulator 'chess'"):
        crm.simulate_to_crm("chess", engine, AS_OF, customers=1, seed=1)
