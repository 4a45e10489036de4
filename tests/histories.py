"""CRMs that are awkward on purpose: nights of random histories, full of ties, boundaries, corrections and late rows."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from nba_tasks import contract
from nba_tasks.hashing import hash63
from nba_tasks.programme import NO_ACTION, Programme
from tests.transitions_oracle import Action, Contact, Customer, Decision, Event, Story, Told

ACTIONS: Mapping[str, str | None] = {
    NO_ACTION: None,
    "mail": "email",
    "offer": "email",
    "letter": "post",
    "call": "phone",
}
EVENTS = ("visit", "purchase", "complaint", "unsubscribe")
SEGMENTS = ("new", "loyal", "gone", None)  # the programme knows the first two
MUTABLE = ("consent_email", "consent_phone", "segment", "age")

T = TypeVar("T", Contact, Event, Decision, "Change")


@dataclass(frozen=True)
class Change:
    """A row of `customer_changes`."""

    at: dt.datetime
    column: str
    value: str | None


@dataclass(frozen=True)
class Person:
    """A row of `customers`."""

    customer_id: str
    created_at: dt.datetime
    closed_at: dt.datetime | None
    columns: Mapping[str, str | None]


@dataclass
class Crm:
    """What a CRM holds on one night, rows from after it included."""

    people: dict[str, Person]
    contacts: dict[str, list[Contact]]
    events: dict[str, list[Event]]
    decisions: dict[str, list[Decision]]
    changes: dict[str, list[Change]]
    actions: list[Action]
    cost_changes: list[tuple[str, dt.datetime, str]]


class Author:
    """Writes the nights of a CRM.

    Parameters
    ----------
    programme : Programme
        Whose grid says where the boundaries are.
    nights : sequence of date
        The `as_of` of each.
    integer_ids : bool
    """

    def __init__(self, programme: Programme, nights: Sequence[dt.date], seed: int, *, integer_ids: bool) -> None:
        self.programme, self.nights, self.integer_ids = programme, nights, integer_ids
        self.random = random.Random(seed)
        self.numbers = 0

    def write(self, customers: int) -> list[Crm]:
        """Every night's contents."""
        crm = Crm({}, {}, {}, {}, {}, self._catalogue(), [])
        for _ in range(customers):
            self._newcomer(crm)
        found = [crm]
        for _ in self.nights[1:]:
            found.append(self._another_day(found[-1]))
        return found

    # Instants --------------------------------------------------------------------------------------------------------

    def moment(self, customer_id: str, first: dt.date | None = None) -> dt.datetime:
        """An instant of the log, often on an epoch's boundary or at an hour when the clocks change."""
        grid = self.programme.grid
        day = first or grid.anchor - dt.timedelta(days=20)
        day += dt.timedelta(days=self.random.randrange(max(1, (self.nights[-1] - day).days + 3)))
        kind = self.random.random()
        if kind < 0.4:
            offset = hash63(self.programme.programme, "offset", self.programme.salt, customer_id) % grid.interval_days
            since = (day - grid.anchor).days - offset * grid.stagger
            day -= dt.timedelta(days=since % grid.interval_days)
            nudge = dt.timedelta(microseconds=self.random.choice((-1, 0, 1)))
            return self._instant(day, 0) + nudge
        if kind < 0.6:
            return self._instant(day, self.random.choice((0, 3600, 7200, 10_800, 86_399)))
        return self._instant(day, self.random.randrange(86_400))

    def _instant(self, day: dt.date, second: int) -> dt.datetime:
        local = dt.datetime.combine(day, dt.time(), self.programme.grid.zone) + dt.timedelta(seconds=second)
        return local.astimezone(dt.UTC)

    def _id(self) -> str:
        self.numbers += 1
        return str(self.numbers) if self.integer_ids else f"x{self.numbers:05}"

    # A CRM as it was at first ----------------------------------------------------------------------------------------

    def _catalogue(self) -> list[Action]:
        zone, first = self.programme.grid.zone, self.programme.grid.anchor
        actions = []
        for action_id, channel in ACTIONS.items():
            dates: list[dt.datetime | None] = [None, None]
            for side in (0, 1):
                if action_id != NO_ACTION and self.random.random() < 0.4:
                    day = first + dt.timedelta(days=self.random.randrange(-30, (self.nights[-1] - first).days + 9))
                    dates[side] = dt.datetime.combine(day, dt.time(self.random.choice((0, 12))), zone)
            cost = Told("cost", dt.datetime.min.replace(tzinfo=dt.UTC), 0, str(self.random.choice((0, 0.5, 2))))
            actions.append(Action(action_id, channel, dates[0], dates[1], [cost]))
        return actions

    def _newcomer(self, crm: Crm) -> None:
        key = self._id()
        created = self.moment(key)
        closed = self.moment(key, created.date()) if self.random.random() < 0.15 else None
        crm.people[key] = Person(key, created, closed, {column: self._value(column) for column in (*MUTABLE, "region")})
        crm.contacts[key] = [self._contact(key) for _ in range(self._few())]
        crm.events[key] = [self._event(key) for _ in range(self._few())]
        crm.decisions[key] = [self._decision(key) for _ in range(self._few())] if self.random.random() < 0.4 else []
        crm.changes[key] = []
        for _ in range(self._few() // 2):
            self._tell(crm, key)

    def _few(self) -> int:
        return self.random.choice((0, 1, 2, 3, 5, 9, 14))

    def _contact(self, key: str) -> Contact:
        return Contact(self._id(), self._tied(key), self.random.choice([a for a in ACTIONS if a != NO_ACTION]))

    def _event(self, key: str) -> Event:
        kind = self.random.choices(EVENTS, (6, 5, 2, 0.3))[0]
        value = round(self.random.uniform(0, 90), 2) if kind == "purchase" else self.random.choice((None, 1.5))
        return Event(self._id(), self._tied(key), kind, value)

    def _decision(self, key: str) -> Decision:
        chosen = self.random.sample(list(ACTIONS), self.random.randint(1, 3))
        probabilities = dict(zip(chosen, {1: (1.0,), 2: (0.75, 0.25), 3: (0.5, 0.25, 0.25)}[len(chosen)], strict=True))
        return Decision(self._id(), self._tied(key), self.random.choice(chosen), probabilities)

    def _tied(self, key: str) -> dt.datetime:
        """An instant, now and then the one before once more."""
        if self.random.random() > 0.15 or not hasattr(self, "last"):
            self.last = self.moment(key)
        return self.last

    def _tell(self, crm: Crm, key: str, since: dt.date | None = None) -> None:
        column, at = self.random.choice(MUTABLE), self.moment(key, since)
        if all((change.column, change.at) != (column, at) for change in crm.changes[key]):
            crm.changes[key].append(Change(at, column, self._value(column)))

    def _value(self, column: str) -> str | None:
        if column.startswith("consent"):
            return self.random.choice(("true", "true", "false", None))
        if column in ("segment", "region"):
            return self.random.choice(SEGMENTS)
        return self.random.choice(("31.5", "47", None))

    # And a day later -------------------------------------------------------------------------------------------------

    def _another_day(self, before: Crm) -> Crm:
        """The same CRM after a day of work: late rows, corrections, deletions, comers and goers, new prices."""
        crm = deepcopy(before)
        for _ in range(2):
            self._newcomer(crm)
        for key in self.random.sample(sorted(crm.people), len(crm.people) // 4):
            self._touch(crm, key)
        if self.random.random() < 0.3:
            action = self.random.choice([a for a in ACTIONS if a != NO_ACTION])
            at = self.moment(action, self.random.choice((None, self.nights[0])))
            if all((a, t) != (action, at) for a, t, _ in crm.cost_changes):
                crm.cost_changes.append((action, at, "1.25"))
        if self.random.random() < 0.3:
            crm.actions = self._catalogue()
        return crm

    def _touch(self, crm: Crm, key: str) -> None:
        """Change something about one customer."""
        person = crm.people[key]
        match self.random.randrange(9):
            case 0:
                crm.contacts[key].append(self._contact(key))
            case 1:
                crm.events[key].append(self._event(key))
            case 2:
                crm.decisions[key].append(self._decision(key))
            case 3:
                crm.contacts[key] = self._corrected(key, crm.contacts[key])
                crm.events[key] = self._corrected(key, crm.events[key])
            case 4:
                self._tell(crm, key, self.random.choice((None, self.nights[0])))
            case 5:
                column = self.random.choice((*MUTABLE, "region"))
                crm.people[key] = replace(person, columns={**person.columns, column: self._value(column)})
            case 6:
                closed = None if person.closed_at else self.moment(key, person.created_at.date())
                crm.people[key] = replace(person, closed_at=closed)
            case 7:
                crm.people[key] = replace(person, created_at=self.moment(key))
            case 8:
                del crm.people[key]  # their rows stay behind, as in many a CRM

    def _corrected(self, key: str, rows: list[T]) -> list[T]:
        """Some rows are gone, some happened at another time."""
        kept = [row for row in rows if self.random.random() < 0.7]
        return [replace(row, at=self.moment(key)) if self.random.random() < 0.3 else row for row in kept]


class Witness:
    """Remembers what each night could know: what `Story` says of the nights so far."""

    def __init__(self, programme: Programme) -> None:
        self.programme = programme
        self.seen: dict[str, list[Told]] = {}
        self.newest: dict[str, Person] = {}
        self.costs: dict[str, list[Told]] = {}
        self.entries: dict[str, tuple[Any, ...]] = {}

    def story(self, crm: Crm, night: int, as_of: dt.date, now: dt.datetime) -> Story:
        """What the programme knows after pulling a CRM on a night."""
        zone = self.programme.grid.zone
        midnight = dt.datetime.combine(as_of, dt.time(), zone)
        seen_at = max(midnight, now)
        read = set(contract.customer_columns(self.programme))
        people = {}
        for key, person in crm.people.items():
            if person.created_at < midnight:
                people[key] = replace(
                    person,
                    closed_at=person.closed_at if person.closed_at and person.closed_at < midnight else None,
                    columns={column: value for column, value in person.columns.items() if column in read},
                )
        for key, person in people.items():
            if self.newest.get(key) != person:
                told = [Told(column, seen_at, night, value) for column, value in person.columns.items()]
                self.seen.setdefault(key, []).extend(told)
        self.newest = people
        customers = [self._customer(crm, person, midnight, night) for person in self.newest.values()]
        return Story(self.programme, as_of, self._actions(crm, seen_at, night, midnight), customers)

    def _customer(self, crm: Crm, person: Person, midnight: dt.datetime, night: int) -> Customer:
        key = person.customer_id
        changes = [Told(c.column, c.at, night, c.value) for c in crm.changes[key] if c.at < midnight]
        return Customer(
            key,
            person.created_at,
            person.closed_at,
            person.columns,
            [*changes, *self.seen[key]],
            [contact for contact in crm.contacts[key] if contact.at < midnight],
            [event for event in crm.events[key] if event.at < midnight],
            [decision for decision in crm.decisions[key] if decision.at < midnight],
        )

    def _actions(self, crm: Crm, seen_at: dt.datetime, night: int, midnight: dt.datetime) -> list[Action]:
        """The catalogue with every cost told so far: a pull's counts from its day's midnight on."""
        found = []
        day = seen_at.astimezone(self.programme.grid.zone).replace(hour=0, minute=0, second=0, microsecond=0)
        for action in crm.actions:
            told = self.costs.setdefault(action.action_id, [])
            entry = (action.channel, action.active_from, action.active_to, action.costs[0].value)
            if self.entries.get(action.action_id) != entry:
                told.append(Told("cost", day, night, action.costs[0].value))
                self.entries[action.action_id] = entry
            changes = [
                Told("cost", at, night, cost)
                for changed, at, cost in crm.cost_changes
                if changed == action.action_id and at < midnight
            ]
            found.append(replace(action, costs=[*changes, *told]))
        return found
