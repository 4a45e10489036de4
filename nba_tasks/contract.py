"""The CRM contract: which relations and columns the source database must hold, and `nba check`, which compares it.

Everything here only reads the source.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from nba_tasks.database import execute, quote_identifier
from nba_tasks.programme import (
    MAX_ACTIONS,
    NO_ACTION,
    ContactFeature,
    CustomerFeature,
    Programme,
)

Kind = Literal["id", "text", "time", "number", "integer", "boolean", "texts", "numbers"]

ACCEPTED: Mapping[Kind, tuple[str, ...]] = {
    "id": ("text", "varchar", "bpchar", "int2", "int4", "int8", "uuid"),
    "text": ("text", "varchar", "bpchar", "enum"),
    "time": ("timestamptz",),
    "number": ("int2", "int4", "int8", "float4", "float8", "numeric"),
    "integer": ("int2", "int4", "int8"),
    "boolean": ("bool",),
    "texts": ("_text", "_varchar"),
    "numbers": ("_float8", "_float4", "_numeric"),
}
"""PostgreSQL types (as in `pg_type.typname`; `enum` stands for all of them) that serve as each kind of column."""

WORDS: Mapping[Kind, str] = {
    "id": "text or integer",
    "text": "text",
    "time": "timestamp with time zone",
    "number": "a numeric type",
    "integer": "an integer type",
    "boolean": "boolean",
    "texts": "text[]",
    "numbers": "double precision[]",
}

CAST: Mapping[Kind, str] = {
    "id": "text",
    "text": "text",
    "time": "timestamptz",
    "number": "double precision",
    "integer": "integer",
    "boolean": "boolean",
    "texts": "text[]",
    "numbers": "double precision[]",
}
"""The warehouse's type for each kind of column."""


@dataclass(frozen=True)
class Relation:
    """One relation of the contract.

    Attributes
    ----------
    columns : mapping of str to Kind
        Columns that every programme needs; those of feature and consent columns come from its file.
    key : str or None
        The column that identifies a row of the source.
    time : str or None
        The column that says when it happened; relations that have one are pulled by local day.
    """

    name: str
    columns: Mapping[str, Kind]
    key: str | None = None
    time: str | None = None


RELATIONS: Mapping[str, Relation] = {
    relation.name: relation
    for relation in (
        Relation("customers", {"customer_id": "id", "created_at": "time", "closed_at": "time"}, key="customer_id"),
        Relation(
            "actions",
            {
                "action_id": "id",
                "channel": "text",
                "cost": "number",
                "active_from": "time",
                "active_to": "time",
                "daily_capacity": "integer",
            },
            key="action_id",
        ),
        Relation(
            "contacts",
            {"contact_id": "id", "customer_id": "id", "contacted_at": "time", "action_id": "id", "decision_id": "id"},
            key="contact_id",
            time="contacted_at",
        ),
        Relation(
            "events",
            {"event_id": "id", "customer_id": "id", "occurred_at": "time", "event_type": "text", "value": "number"},
            key="event_id",
            time="occurred_at",
        ),
        Relation(
            "decisions",
            {
                "decision_id": "id",
                "customer_id": "id",
                "decided_at": "time",
                "action_id": "id",
                "eligible_actions": "texts",
                "probabilities": "numbers",
            },
            key="decision_id",
            time="decided_at",
        ),
        Relation(
            "customer_changes",
            {"customer_id": "id", "changed_at": "time", "attribute": "text", "value": "text"},
            time="changed_at",
        ),
        Relation(
            "action_changes",
            {"action_id": "id", "changed_at": "time", "attribute": "text", "value": "text"},
            time="changed_at",
        ),
    )
}
"""The contract, in the order in which the relations depend on each other."""


@dataclass(frozen=True)
class Finding:
    """One way in which a database differs from the contract: what, where, and what to do.

    Attributes
    ----------
    level : {'error', 'warning'}
        With an error nothing can be pulled, or whole relations would be refused.
    """

    level: Literal["error", "warning"]
    where: str
    problem: str
    advice: str

    def __str__(self) -> str:
        return f"{self.level}: {self.where}: {self.problem}. {self.advice}."


class ContractError(ValueError):
    """A source database that cannot be pulled; the message has one line a fault."""


@dataclass(frozen=True)
class Source:
    """What the source database holds of the contract.

    Attributes
    ----------
    columns : mapping of str to mapping of str to str
        PostgreSQL type of every column, by relation of the contract; absent relations are left out.
    findings : tuple of Finding
        Faults of its structure.
    """

    columns: Mapping[str, Mapping[str, str]]
    findings: tuple[Finding, ...]

    def refuse_errors(self) -> None:
        """Raise `ContractError` where the structure has an error."""
        if errors := [str(finding) for finding in self.findings if finding.level == "error"]:
            raise ContractError("the CRM database does not keep the contract:\n  " + "\n  ".join(errors))


def relation_name(programme: Programme, relation: str) -> str | None:
    """What the CRM calls a relation of the contract; None where the programme says that it has none."""
    name: str | None = getattr(programme.crm.relations, relation)
    return name


def customer_columns(programme: Programme) -> tuple[str, ...]:
    """Columns of customers that rules read, and those of features, sorted."""
    return tuple(sorted({*programme.flags} | {f.column for f in programme.state if isinstance(f, CustomerFeature)}))


def inspect(connection: Connection, programme: Programme) -> Source:
    """Compare the structure of the source database with the contract: relations, columns, types, privileges."""
    columns: dict[str, Mapping[str, str]] = {}
    findings: list[Finding] = []
    for relation in RELATIONS.values():
        name = relation_name(programme, relation.name)
        if name is None:
            continue
        found = _columns(connection, name)
        if not found:
            findings.append(_absent(relation.name, name))
            continue
        if not connection.scalar(
            sa.text("select has_table_privilege(to_regclass(:name), 'select')"), {"name": quote_identifier(name)}
        ):
            user = connection.scalar(sa.text("select quote_ident(current_user)"))
            findings.append(
                Finding("error", name, f"{user} may not read it", f"Run as its owner: grant select on {name} to {user}")
            )
        columns[relation.name] = found
        findings += _column_findings(name, found, relation.columns, programme)
    if "customers" in columns:
        findings += _attribute_findings(programme, columns["customers"])
    if "actions" in columns:
        wanted: dict[str, Kind] = dict.fromkeys(programme.actions.features, "number")
        findings += _column_findings(programme.crm.relations.actions, columns["actions"], wanted, programme)
    return Source(columns, tuple(findings))


def check(crm: Engine, programme: Programme) -> list[Finding]:
    """Compare a source database with the contract, structure and contents. This is `nba check`.

    Returns
    -------
    list of Finding
        Errors first; empty where all is well.
    """
    with crm.connect().execution_options(postgresql_readonly=True) as connection:
        source = inspect(connection, programme)
        findings = list(source.findings)
        if not any(finding.level == "error" for finding in findings):
            findings += _content_findings(connection, programme, source)
    findings += _history_findings(programme)
    return sorted(findings, key=lambda finding: finding.level)


def _columns(connection: Connection, name: str) -> dict[str, str]:
    """Type of each column of a table or view; empty where there is none of that name."""
    rows = execute(connection, "pull/columns", {"name": quote_identifier(name)})
    return {row.column: row.type for row in rows}


def _absent(relation: str, name: str) -> Finding:
    if relation == "decisions":
        return Finding(
            "warning",
            name,
            "there is no such table or view",
            "No propensity was logged, so every one will be estimated; the first published list creates the table",
        )
    optional = relation.endswith("_changes")
    return Finding(
        "error",
        name,
        "there is no such table or view",
        f"Create it, or give its name (with its schema) as crm.relations.{relation}"
        + (", or leave that key out: the relation is optional" if optional else ""),
    )


def _column_findings(
    name: str, found: Mapping[str, str], wanted: Mapping[str, Kind], programme: Programme
) -> Iterable[Finding]:
    for column, kind in wanted.items():
        actual = found.get(column)
        where = f"{name}.{column}"
        if actual is None:
            advice = f"Add it as {WORDS[kind]}, or put a view with that column in the table's place"
            yield Finding("error", where, "the column is missing", advice)
        elif kind == "time" and actual in ("timestamp", "date"):
            zone = programme.grid.business_timezone
            yield Finding(
                "error",
                where,
                f"it is {'a naive timestamp, so the instant is unknown' if actual == 'timestamp' else 'a date'}",
                f"Run, if it means local time: alter table {name} alter column {column} type timestamptz"
                f" using {column}::timestamp at time zone '{zone}' (or do so in a view)",
            )
        elif actual not in ACCEPTED[kind]:
            yield Finding(
                "error",
                where,
                f"its type is {actual}, not {WORDS[kind]}",
                f"Change the type, or cast it in a view: {column}::{CAST[kind]}",
            )


def _attribute_findings(programme: Programme, found: Mapping[str, str]) -> Iterable[Finding]:
    """Columns of customers that rules read, and those of features."""
    name = programme.crm.relations.customers
    flags: dict[str, Kind] = dict.fromkeys(programme.flags, "boolean")
    yield from _column_findings(name, found, flags, programme)
    for feature in programme.state:
        if not isinstance(feature, CustomerFeature) or feature.column in flags:
            continue
        where, actual = f"{name}.{feature.column}", found.get(feature.column)
        usable = (
            (*ACCEPTED["text"], *ACCEPTED["number"], "bool") if feature.categories else (*ACCEPTED["number"], "bool")
        )
        if actual is None:
            advice = f"Add it, or take the feature {feature.name} out of `state`"
            yield Finding("error", where, "the column is missing", advice)
        elif actual not in usable:
            hint = (
                "list its values as `categories`" if actual in ACCEPTED["text"] else "derive a number from it in a view"
            )
            yield Finding(
                "error", where, f"its type is {actual}, which the feature {feature.name} cannot use", hint.capitalize()
            )


def _content_findings(connection: Connection, programme: Programme, source: Source) -> Iterable[Finding]:
    """The catalogue, event types and row counts against the programme file. Reads contacts and events once."""
    names = {relation: quote_identifier(relation_name(programme, relation) or relation) for relation in source.columns}
    yield from _catalogue_findings(connection, programme, names)
    catalogue = set(connection.scalars(sa.text(f"select action_id::text from {names['actions']}")))
    for relation, column in (("contacts", "action_id"), ("events", "event_type")):
        counts = {
            row.value: row.rows
            for row in connection.execute(
                sa.text(f'select "{column}"::text as value, count(*) as rows from {names[relation]} group by 1')
            )
        }
        known = catalogue - {NO_ACTION} if relation == "contacts" else set(programme.events)
        listed = "the catalogue" if relation == "contacts" else "the file's `events`"
        where = f"{relation_name(programme, relation)}.{column}"
        if not counts:
            yield Finding("error", where, "there is no row", "A policy is learned from history: load it first")
            continue
        for value in sorted(map(str, set(counts) - known)):
            yield Finding(
                "error" if counts.get(value, 0) > 0.01 * sum(counts.values()) else "warning",
                where,
                f"{value!r} ({counts.get(value, counts.get(None, 0)):,} rows) is not in {listed}",
                f"Add it to {listed}, or filter it out in a view; else these rows go to quarantine",
            )
        if relation == "events":
            for value in sorted(known - set(counts)):
                yield Finding("warning", where, f"no event has the type {value!r}", "Check its spelling in `events`")


def _catalogue_findings(connection: Connection, programme: Programme, names: Mapping[str, str]) -> Iterable[Finding]:
    where = programme.crm.relations.actions
    rows = connection.execute(sa.text(f"select action_id::text, channel::text from {names['actions']}")).all()
    ids = {row.action_id for row in rows} | {NO_ACTION}  # it is always there, listed or not
    if len(ids) > MAX_ACTIONS:
        yield Finding(
            "error",
            where,
            f"{len(ids)} actions; at most {MAX_ACTIONS} are supported",
            "Group offers, or split the programme",
        )
    for row in rows:
        if row.action_id != NO_ACTION and row.channel not in programme.channels:
            yield Finding(
                "error",
                f"{where}.channel",
                f"action {row.action_id!r} has the channel {row.channel!r}, which `channels` does not list",
                f"`channels` lists {', '.join(programme.channels) or 'nothing'}: add it there, or correct the row",
            )
    for feature in programme.state:
        if isinstance(feature, ContactFeature) and feature.action and feature.action not in ids:
            yield Finding(
                "error",
                where,
                f"state.{feature.name}.action is {feature.action!r}, which the catalogue does not list",
                "Correct the name, or add the action",
            )


def _history_findings(programme: Programme) -> Iterable[Finding]:
    """Mutable columns whose earlier values nobody recorded."""
    if programme.crm.relations.customer_changes is not None:
        return
    mutable = {f.column for f in programme.state if isinstance(f, CustomerFeature) and not f.immutable}
    for column in sorted(mutable.union(programme.flags)):
        yield Finding(
            "warning",
            f"{programme.crm.relations.customers}.{column}",
            "it may change and there is no customer_changes, so it counts as unknown before the first night's snapshot",
            "Name the relation as crm.relations.customer_changes"
            + ("" if column in programme.flags else ", or declare the feature `immutable: true` if it never changes"),
        )
