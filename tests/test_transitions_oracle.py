"""Transitions in SQL against their definition in Python, on histories that are awkward on purpose."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from nba_tasks import transitions
from nba_tasks.batches import read_batch
from nba_tasks.dataset import Transitions
from nba_tasks.loading import load
from nba_tasks.programme import Programme
from nba_tasks.shape import Shape
from nba_tasks.simulators.crm import create_contract
from tests.databases import Databases, TestServer, valid_night
from tests.histories import Author, Crm, Witness
from tests.transitions_oracle import Row, Story, transitions_of

CUSTOMERS = 60
EXAMPLES = 20
"""Each of three nights: 3,600 customers' histories and more."""

FEATURES: tuple[dict[str, Any], ...] = (
    {"name": "age", "source": "customer", "column": "age"},
    {"name": "segment", "source": "customer", "column": "segment", "categories": ["new", "loyal"]},
    {"name": "region", "source": "customer", "column": "region", "categories": ["loyal", "new"], "immutable": True},
    {"name": "consent_email", "source": "customer", "column": "consent_email", "missing": 0.5},
    {"name": "emails_3", "source": "contacts", "channel": "email", "epochs": 3},
    {"name": "contacts", "source": "contacts"},
    {"name": "contacts_2", "source": "contacts", "epochs": 2},
    {"name": "offers", "source": "contacts", "action": "offer", "epochs": 5},
    {"name": "since_call", "source": "contacts", "channel": "phone", "measure": "days_since_last"},
    {"name": "since_contact", "source": "contacts", "measure": "days_since_last", "epochs": 2},
    {"name": "first_letter", "source": "contacts", "action": "letter", "measure": "days_since_first"},
    {"name": "visits", "source": "events", "type": "visit", "epochs": 1},
    {"name": "spent", "source": "events", "type": "purchase", "measure": "sum"},
    {"name": "spent_3", "source": "events", "type": "purchase", "measure": "sum", "epochs": 3},
    {"name": "visited_value", "source": "events", "type": "visit", "measure": "sum", "epochs": 4},
    {"name": "since_purchase", "source": "events", "type": "purchase", "measure": "days_since_last", "missing": 77},
    {"name": "since_visit", "source": "events", "type": "visit", "measure": "days_since_last", "epochs": 2},
    {"name": "first_visit", "source": "events", "type": "visit", "measure": "days_since_first"},
    {"name": "epoch", "source": "time", "measure": "epoch"},
    {"name": "tenure", "source": "time", "measure": "days_since_created"},
    {"name": "month", "source": "time", "measure": "month"},
)

ERAS = {
    # A change of clocks in each; in São Paulo midnight itself was skipped, Apia lost a whole day, Havana has one twice.
    "Europe/Berlin": dt.date(2031, 2, 20),
    "America/New_York": dt.date(2031, 9, 20),
    "America/Sao_Paulo": dt.date(2018, 10, 1),
    "Pacific/Apia": dt.date(2011, 12, 1),
    "America/Havana": dt.date(2023, 10, 1),
    "Asia/Kolkata": dt.date(2031, 1, 1),
}
"""Where the grids begin. The years to come let snapshots count; in the past they were taken too late."""

days = st.none() | st.integers(0, 70)


@st.composite
def rules(draw: st.DrawFn, anchor: dt.date, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Some rules, each with or without an end and a beginning."""

    def validity() -> dict[str, Any]:
        first, last = draw(days), draw(days)
        dates = {"valid_from": first, "valid_to": last}
        return {key: None if day is None else anchor + dt.timedelta(days=day) for key, day in dates.items()}

    found: list[dict[str, Any]] = [{"kind": "consent", **validity()} for _ in range(draw(st.integers(0, 2)))]
    if draw(st.booleans()):
        listed = {"column": "consent_phone", "channel": draw(st.sampled_from([None, "post", "phone"]))}
        found.append({"kind": "suppression", **listed, **validity()})
    for _ in range(draw(st.integers(0, 3))):
        channel = draw(st.sampled_from([None, "email", "post", "phone"]))
        cap = {"channel": channel, "max": draw(st.integers(0, 2)), "epochs": draw(st.integers(1, 4))}
        found.append({"kind": "cap", **cap, **validity()})
    if draw(st.booleans()):
        numbers = [name for name in names if name not in ("segment", "region")]
        one, other = draw(st.sampled_from(numbers)), draw(st.sampled_from(numbers))
        number, operator = draw(st.integers(0, 4)), draw(st.sampled_from(["=", "<>", "<", "<=", ">", ">="]))
        condition = draw(
            st.sampled_from(
                [
                    f"{one} {operator} {number} or {other} > 1 and not {one} <= 2",
                    f"not ({one} between 1 and {number} or {other} in (0, 3)) and {other} {operator} 0.5",
                ]
            )
        )
        found.append({"kind": "where", "actions": ["offer", "call"], "condition": condition, **validity()})
    for _ in range(draw(st.integers(0, 2))):
        channel = draw(st.sampled_from([None, "email", "phone"]))
        if draw(st.booleans()):
            event = draw(st.sampled_from(["visit", "complaint"]))
            rule = {"kind": "cool_off", "event": event, "epochs": draw(st.integers(1, 3))}
        else:
            quiet = draw(st.lists(st.integers(0, 70), min_size=1, max_size=20))
            rule = {"kind": "quiet", "dates": [anchor + dt.timedelta(days=day) for day in quiet]}
        found.append({**rule, "channel": channel, **validity()})
    if draw(st.booleans()):
        bounds = {"min": draw(st.none() | st.integers(0, 3)), "max": draw(st.none() | st.floats(2, 40, width=32))}
        actions = draw(st.sampled_from([["mail"], ["offer", "call"]]))
        feature = draw(st.sampled_from(names))
        found.append({"kind": "range", "actions": actions, "feature": feature, **bounds, **validity()})
    return [{"name": f"rule_{i}", **rule} for i, rule in enumerate(found)]


@st.composite
def programmes(draw: st.DrawFn) -> Programme:
    """Programmes with every kind of feature, rule and grid."""
    zone = draw(st.sampled_from(sorted(ERAS)))
    anchor = ERAS[zone]
    chosen = draw(st.lists(st.sampled_from(FEATURES), min_size=5, unique_by=lambda f: f["name"]))
    return Programme.model_validate(
        {
            "programme": "shop",
            "salt": draw(st.sampled_from("abc")),
            "shards": draw(st.integers(1, 2)),
            "crm": {
                "relations": {"customer_changes": "customer_changes", "action_changes": "action_changes"},
                "recheck_days": 5_000,
            },
            "grid": {
                "interval_days": draw(st.sampled_from([1, 5, 7, 14])),
                "anchor": anchor,
                "business_timezone": zone,
                "stagger": draw(st.booleans()),
                "settlement_lag_days": draw(st.integers(0, 4)),
            },
            "channels": {"email": {"consent": "consent_email"}, "phone": {"consent": "consent_phone"}, "post": {}},
            "actions": {"no_action": draw(st.booleans())},
            "events": {
                "visit": {"weight": 0.1},
                "purchase": {"weight": 1, "measure": "value"},
                "complaint": {"weight": -3, "harm": True},
                "unsubscribe": {"ends": draw(st.booleans())},
            },
            "state": chosen,
            "rules": draw(rules(anchor, tuple(f["name"] for f in chosen))),
            "reward": {"charge_costs": draw(st.booleans())},
        }
    )


@dataclass
class Warehouse:
    """Databases with the programme's builds."""

    databases: Databases
    programme: Programme

    def create(self, *, integer_ids: bool) -> None:
        """Make the contract's relations, ids as integers or as text."""
        self.databases.run("drop schema public cascade; create schema public")
        create_contract(self.databases.crm, {"age": "double precision", "segment": "text", "region": "text"})
        if integer_ids:
            self.databases.run(
                "alter table customers alter customer_id type bigint using customer_id::bigint",
                *(f"alter table {r} alter customer_id type bigint using customer_id::bigint" for r in PEOPLES),
            )

    def fill(self, crm: Crm) -> None:
        """Let the CRM hold exactly these rows."""
        self.databases.run(f"truncate customers, actions, action_changes, {', '.join(PEOPLES)}")
        with self.databases.crm.begin() as connection:
            for relation, rows in tables(crm).items():
                if rows:
                    columns = ", ".join(rows[0])
                    values = ", ".join(f":{column}" for column in rows[0])
                    connection.execute(sa.text(f"insert into {relation} ({columns}) values ({values})"), rows)

    def night(self, as_of: dt.date) -> None:
        """Pull, merge and build what changed."""
        valid_night(self.databases, self.programme, as_of)
        self.build(as_of)

    def build(self, as_of: dt.date) -> None:
        """Bring the transitions up to date."""
        for shard in transitions.prepare(self.databases.warehouse, self.programme, as_of):
            transitions.build_shard(self.databases.warehouse, self.programme, as_of, shard)

    def rows(self) -> list[Any]:
        """Every row as it stands in the table."""
        return self.databases.rows("select * from transitions.shop order by customer_key, epoch")

    def loaded(self, as_of: dt.date) -> tuple[Shape, list[Transitions], dict[int, str]]:
        """What learning reads, and whose each key is."""
        with self.databases.warehouse.connect() as connection:
            batch = read_batch(connection, self.programme, as_of)
            shape = transitions.shape_of(connection, self.programme, batch)
            parts = [load(connection, shape, split).transitions for split in ("learn", "select", "gate")]
        return shape, parts, dict(self.databases.rows("select customer_key, customer_id from history.customers"))


PEOPLES = ("contacts", "events", "decisions", "customer_changes")


def tables(crm: Crm) -> dict[str, list[dict[str, Any]]]:
    """The contract's relations."""
    return {
        "customers": [
            {"customer_id": p.customer_id, "created_at": p.created_at, "closed_at": p.closed_at, **p.columns}
            for p in crm.people.values()
        ],
        "contacts": [
            {"contact_id": c.contact_id, "customer_id": key, "contacted_at": c.at, "action_id": c.action_id}
            for key, rows in crm.contacts.items()
            for c in rows
        ],
        "events": [
            {
                "event_id": e.event_id,
                "customer_id": key,
                "occurred_at": e.at,
                "event_type": e.event_type,
                "value": e.value,
            }
            for key, rows in crm.events.items()
            for e in rows
        ],
        "decisions": [
            {"decision_id": d.decision_id, "customer_id": key, "decided_at": d.at, "action_id": d.action_id}
            | {"eligible_actions": list(d.probabilities), "probabilities": list(d.probabilities.values())}
            for key, rows in crm.decisions.items()
            for d in rows
        ],
        "customer_changes": [
            {"customer_id": key, "changed_at": c.at, "attribute": c.column, "value": c.value}
            for key, rows in crm.changes.items()
            for c in rows
        ],
        "actions": [
            {"action_id": a.action_id, "channel": a.channel, "cost": a.costs[0].value}
            | {"active_from": a.active_from or dt.datetime(1999, 1, 1, tzinfo=dt.UTC), "active_to": a.active_to}
            for a in crm.actions
        ],
        "action_changes": [
            {"action_id": action, "changed_at": at, "attribute": "cost", "value": cost}
            for action, at, cost in crm.cost_changes
        ],
    }


def compare(story: Story, warehouse: Warehouse) -> int:
    """Compare every customer's rows with the definition; returns how many customers had some."""
    shape, parts, ids = warehouse.loaded(story.as_of)
    names = [action.action_id for action in shape.actions]
    compared = 0
    for customer in story.customers:
        expected = list(transitions_of(story, customer))
        found = [
            (part, row)
            for part in parts
            for row in np.flatnonzero([ids[key] == customer.customer_id for key in part.customer.tolist()])
        ]
        assert [int(part.epoch[row]) for part, row in found] == [row.epoch for row in expected], customer
        for (part, index), row in zip(found, expected, strict=True):
            same(part, int(index), row, names, (story.programme, customer))
        compared += bool(expected)
    return compared


def same(part: Transitions, index: int, row: Row, names: list[str], context: object) -> None:
    """Compare one row."""
    state = dict(zip(row.state, part.state[index].tolist(), strict=True))
    assert state == pytest.approx(row.state, rel=1e-5, abs=1e-4), (row.epoch, context)
    logged, target = (
        {n for n, bit in zip(names, mask[index], strict=True) if bit}
        for mask in (part.eligible_logged, part.eligible_target)
    )
    assert logged == row.eligible_logged, (row.epoch, context)
    assert target == row.eligible_target, (row.epoch, context)
    assert bool(part.open[index]) == row.open, (row.epoch, context)
    if not row.open:
        assert names[part.action[index]] == row.action, (row.epoch, context)
        outcomes = dict(zip(part.outcome_names, part.outcomes[index].tolist(), strict=True))
        assert outcomes == pytest.approx(row.outcomes, rel=1e-5, abs=1e-4), (row.epoch, context)
        assert part.reward[index] == pytest.approx(row.reward, rel=1e-5, abs=1e-4), (row.epoch, context)
        assert part.propensity[index] == pytest.approx(row.propensity, nan_ok=True), (row.epoch, context)
        assert bool(part.done[index]) == row.done, (row.epoch, context)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    # A failure names its customer: shrinking a whole CRM would take minutes and say no more.
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
@given(
    programme=programmes(),
    seed=st.integers(0, 2**32),
    integer_ids=st.booleans(),
    first=st.integers(40, 70),
    steps=st.lists(st.integers(1, 9), min_size=2, max_size=2),
)
def test_every_night_is_as_defined_and_as_built_anew(
    server: TestServer, programme: Programme, seed: int, integer_ids: bool, first: int, steps: list[int]
) -> None:
    """Late rows, corrections, deletions and new prices come between the nights; only what changed is built."""
    nights = [programme.grid.anchor + dt.timedelta(days=sum([first, *steps[:i]])) for i in range(3)]
    author, witness = Author(programme, nights, seed, integer_ids=integer_ids), Witness(programme)
    warehouse = Warehouse(server.databases(), programme)
    warehouse.create(integer_ids=integer_ids)
    for number, (crm, as_of) in enumerate(zip(author.write(CUSTOMERS), nights, strict=True)):
        warehouse.fill(crm)
        story = witness.story(crm, number, as_of, dt.datetime.now(dt.UTC))
        warehouse.night(as_of)
        compare(story, warehouse)
        updated = warehouse.rows()
        with warehouse.databases.warehouse.begin() as connection:
            connection.exec_driver_sql("delete from nba.transition_shards")
        warehouse.build(as_of)
        assert warehouse.rows() == updated
