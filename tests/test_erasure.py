"""Whoever asks to be forgotten leaves every table, and does not come back with the next pull."""

from __future__ import annotations

import datetime as dt

import pytest
import sqlalchemy as sa

from nba_tasks import erasure, publish, pull, transitions
from nba_tasks.erasure import ErasureError
from nba_tasks.programme import Programme
from tests.databases import AS_OF, Databases, killed_at, make_programme, valid_night

PROGRAMME = make_programme()
NEXT = AS_OF + dt.timedelta(days=1)
WHO, OTHER = "c7", "c8"


def traces(databases: Databases, customer: str) -> list[str]:
    """Every row of either database that holds the id, or hangs on a key that belonged to it."""
    found = []
    for engine in (databases.warehouse, databases.crm):
        with engine.connect() as connection:
            tables = connection.execute(
                sa.text(
                    """
                    select format('%I.%I', schemaname, tablename) from pg_tables
                    where schemaname not in ('pg_catalog', 'information_schema')
                    """
                )
            ).scalars()
            for table in sorted(tables):
                query = sa.text(rf"select count(*) from {table} as t where t::text ~ '[(,\"]{customer}[),\"]'")
                if connection.scalar(query):
                    found.append(table)
    return found


@pytest.fixture
def published(databases: Databases) -> Databases:
    """A history with transitions, one bad row of the customer in quarantine, and a published decision."""
    valid_night(databases, PROGRAMME)
    build(databases, PROGRAMME, AS_OF)
    with databases.warehouse.begin() as connection:
        connection.execute(
            sa.text(
                """
                insert into nba.quarantine (programme_id, relation, batch_id, row_number, reasons, source_row)
                select
                    programme_id, 'contacts', 1, 1, array['bad'],
                    jsonb_build_object('customer_id', cast(:who as text))
                from nba.programmes
                """
            ),
            {"who": WHO},
        )
    with databases.crm.begin() as connection:
        publish.ensure_tables(connection, PROGRAMME)
        connection.exec_driver_sql(
            f"insert into publications values ('shop', '{AS_OF}', 1, 'r', now(), 2, 2, now() + interval '1 day')"
        )
        for customer in (WHO, OTHER):
            connection.exec_driver_sql(
                f"""
                insert into campaign_list values
                    ('shop/{AS_OF}/{customer}', 'shop', '{AS_OF}', '{customer}', 'mail', 'email', 1, 1, 'why', 1)
                """
            )
    return databases


def build(databases: Databases, programme: Programme, as_of: dt.date) -> None:
    for shard in transitions.prepare(databases.warehouse, programme, as_of):
        transitions.build_shard(databases.warehouse, programme, as_of, shard)


def erase(databases: Databases, customer: str = WHO) -> list[erasure.Erased]:
    return erasure.erase(databases.crm, databases.warehouse, PROGRAMME, customer, "ana")


def keys(databases: Databases) -> int:
    return int(databases.rows("select count(distinct customer_key) from transitions.shop")[0][0])


def test_nothing_is_left_but_the_crms_own_and_nothing_comes_back(published: Databases) -> None:
    own = {"public.customers", "public.contacts", "public.events", "public.customer_changes", "public.decisions"}
    before, others = set(traces(published, WHO)), keys(published)
    assert {"history.customers", "public.campaign_list", "nba.quarantine"} <= before
    found = {part.where: part.rows for part in erase(published)}
    assert found["CRM campaign_list"] == 1
    assert found["CRM decisions"] > 0, "those that this programme published"
    assert {"warehouse history.contacts", "warehouse history.events", "warehouse nba.quarantine"} <= set(found)
    assert set(traces(published, WHO)) <= own
    assert keys(published) == others - 1
    assert published.rows("select erased_by from nba.erased") == [("ana",)]
    assert "public.campaign_list" in traces(published, OTHER)
    # The CRM still has the customer, and a contact more: the next nights pull them, and history does not take them.
    published.run(f"insert into contacts values ('more', '{WHO}', '2024-03-01 10:00+01', 'mail', null)")
    valid_night(published, PROGRAMME, NEXT)
    build(published, PROGRAMME, NEXT)
    assert set(traces(published, WHO)) <= own
    assert keys(published) == others - 1
    assert published.rows("select count(*) from staging.contacts") == [(0,)]
    assert erase(published) == [], "a second time there is nothing"


def test_a_batch_under_way_goes_on_without_the_customer(published: Databases) -> None:
    batch = pull.start(published.warehouse, PROGRAMME, NEXT)
    pull.pull(published.crm, published.warehouse, PROGRAMME, batch)
    assert "staging.customers" in traces(published, WHO)
    erase(published)
    assert not [table for table in traces(published, WHO) if not table.startswith("public.")]
    valid_night(published, PROGRAMME, NEXT)
    assert published.rows("select count(*) from history.customers") == [(99,)]


def test_a_kill_between_the_databases_is_made_good_by_repeating(published: Databases) -> None:
    statement = 1
    while killed_at(statement, lambda: erase(published), published.warehouse, published.crm):
        statement += 6
    erase(published)
    assert not [t for t in traces(published, WHO) if not t.startswith("public.") or t == "public.campaign_list"]


def test_a_programme_without_history_has_nothing_to_erase(databases: Databases) -> None:
    with pytest.raises(ErasureError, match="shop has no history yet"):
        erase(databases)
