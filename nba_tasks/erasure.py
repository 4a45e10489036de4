"""Erasure: a customer's rows leave every table that this project keeps, and stay out when they are pulled again."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from nba_tasks.database import lock, quote_identifier
from nba_tasks.programme import Programme

HISTORY = ("contacts", "events", "decisions", "customer_changes", "customer_versions")
STAGING = ("customers", "contacts", "events", "customer_changes", "decisions")


class ErasureError(RuntimeError):
    """A customer who cannot be erased; the message says why."""


@dataclass(frozen=True)
class Erased:
    """Rows that left one table."""

    where: str
    rows: int

    def __str__(self) -> str:
        return f"{self.where}: {self.rows} row(s)"


def erase(crm: Engine, warehouse: Engine, programme: Programme, customer_id: str, by: str) -> list[Erased]:
    """Erase a customer of a programme: from the warehouse, and from what this project wrote into the CRM.

    The CRM's own tables are its own business. A tombstone, a digest without the id, keeps the customer's rows out of
    history if they are pulled again. Repeating it is safe, also after a kill between the two databases.

    Raises
    ------
    ErasureError
        The warehouse does not know the programme.
    """
    name = programme.programme
    with warehouse.begin() as connection:
        lock(connection, "history", name)
        lock(connection, "transitions", name)
        for shard in range(programme.shards):
            lock(connection, "transitions", name, str(shard))
        programme_id = connection.scalar(
            sa.text("select programme_id from nba.programmes where programme = :name"), {"name": name}
        )
        if programme_id is None:
            raise ErasureError(f"{name} has no history yet: there is nothing to erase")
        values = {
            "programme_id": programme_id,
            "programme": name,
            "salt": programme.salt,
            "customer_id": customer_id,
            "by": by,
        }
        connection.execute(
            sa.text(
                """
                insert into nba.erased (programme_id, customer, erased_by)
                values (:programme_id, nba.hash63(:programme, 'erased', :salt, :customer_id), :by)
                on conflict do nothing
                """
            ),
            values,
        )
        found = _from_warehouse(connection, name, values)
    with crm.begin() as connection:
        # After any publication that is under way: what it writes is erased as well.
        lock(connection, "publish", name)
        found += _from_crm(connection, programme, customer_id)
    return [part for part in found if part.rows]


def _from_warehouse(connection: Connection, name: str, values: dict[str, object]) -> list[Erased]:
    key = connection.scalar(
        sa.text(
            "select customer_key from history.customers"
            " where programme_id = :programme_id and customer_id = :customer_id"
        ),
        values,
    )
    found = []

    def delete(table: str, condition: str) -> None:
        done = connection.execute(sa.text(f"delete from {table} where {condition}"), values | {"key": key})
        found.append(Erased(f"warehouse {table}", done.rowcount))

    if key is not None:
        table = quote_identifier(f"transitions.{name}")
        if connection.scalar(sa.text("select to_regclass(:table)"), {"table": table}):
            delete(table, "customer_key = :key")
        delete("nba.scores", "customer_key = :key")
        for relation in HISTORY:
            delete(f"history.{relation}", "customer_key = :key")
        delete("history.customers", "customer_key = :key")
    delete("nba.quarantine", "programme_id = :programme_id and source_row ->> 'customer_id' = :customer_id")
    for relation in STAGING:
        # The pull's count of staged rows stays true: a batch under way is kept, its rows of this customer emptied.
        done = connection.execute(
            sa.text(
                f"""
                update staging.{relation} as s set quarantined = true, customer_id = null
                from nba.batches as b
                where b.batch_id = s.batch_id and b.programme_id = :programme_id and s.customer_id = :customer_id
                """
            ),
            values,
        )
        found.append(Erased(f"warehouse staging.{relation}", done.rowcount))
    return found


def _from_crm(connection: Connection, programme: Programme, customer_id: str) -> list[Erased]:
    relations, found = programme.crm.relations, []
    for relation in (relations.campaign_list, relations.decisions):
        table = quote_identifier(relation)
        if connection.scalar(sa.text("select to_regclass(:table)"), {"table": table}):
            done = connection.execute(
                sa.text(f"delete from {table} where programme = :programme and customer_id = :customer_id"),
                {"programme": programme.programme, "customer_id": customer_id},
            )
            found.append(Erased(f"CRM {relation}", done.rowcount))
    return found
