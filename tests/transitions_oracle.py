"""Transitions from their definition: one customer at a time, one epoch after the other, slowly and literally.

Nothing here knows SQL. A `Story` is what a programme has been told by a night, and `transitions_of` says what one
customer's rows must then be.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nba_tasks.hashing import hash63
from nba_tasks.programme import (
    NO_ACTION,
    Cap,
    ContactFeature,
    CoolOff,
    CustomerFeature,
    EventFeature,
    Feature,
    Programme,
    Quiet,
    Range,
    Rule,
    Suppression,
    TimeFeature,
    Where,
)

LARGEST = 32_767
"""What a small integer can hold: counts and days stop there."""


@dataclass(frozen=True)
class Told:
    """A value of a mutable column, and when it was recorded or found by a pull."""

    column: str
    at: dt.datetime
    night: int
    value: str | None


@dataclass(frozen=True)
class Contact:
    contact_id: str
    at: dt.datetime
    action_id: str


@dataclass(frozen=True)
class Event:
    event_id: str
    at: dt.datetime
    event_type: str
    value: float | None


@dataclass(frozen=True)
class Decision:
    decision_id: str
    at: dt.datetime
    action_id: str
    probabilities: Mapping[str, float]


@dataclass(frozen=True)
class Customer:
    """What is known of one customer."""

    customer_id: str
    created_at: dt.datetime
    closed_at: dt.datetime | None
    columns: Mapping[str, str | None]
    told: Sequence[Told]
    contacts: Sequence[Contact]
    events: Sequence[Event]
    decisions: Sequence[Decision]


@dataclass(frozen=True)
class Action:
    """An action's entry in the catalogue, and what its contacts cost from when on (`told` of the column `cost`)."""

    action_id: str
    channel: str | None
    active_from: dt.datetime | None
    active_to: dt.datetime | None
    costs: Sequence[Told]


@dataclass(frozen=True)
class Story:
    """What a programme knows on a night."""

    programme: Programme
    as_of: dt.date
    actions: Sequence[Action]
    customers: Sequence[Customer]

    @property
    def log_start(self) -> dt.date | None:
        """Local day of the first contact or decision of anybody."""
        moments = [contact.at for c in self.customers for contact in c.contacts]
        moments += [decision.at for c in self.customers for decision in c.decisions]
        return min(map(self.day, moments)) if moments else None

    def day(self, moment: dt.datetime) -> dt.date:
        """The local date of an instant: what the clocks showed, also where a moment was written that they skipped."""
        return moment.astimezone(dt.UTC).astimezone(self.programme.grid.zone).date()


@dataclass
class Row:
    """One transition, or the open row behind the last."""

    epoch: int
    state: dict[str, float]
    eligible_logged: set[str]
    eligible_target: set[str]
    open: bool
    action: str | None = None
    reward: float = 0.0
    propensity: float = np.nan
    done: bool = False
    outcomes: dict[str, float] = field(default_factory=dict)


def transitions_of(story: Story, customer: Customer) -> Iterator[Row]:
    """One customer's rows."""
    view = _View(story, customer)
    log_start = story.log_start
    assert log_start is not None
    settled_on = story.as_of - dt.timedelta(days=story.programme.grid.settlement_lag_days)
    epoch = 0
    while not (view.start(epoch) > story.day(customer.created_at) and view.start(epoch) >= log_start):
        epoch += 1
    end = view.end()
    while view.start(epoch) <= settled_on and (end is None or epoch <= end):
        is_open = view.start(epoch + 1) > settled_on
        row = Row(
            epoch=epoch,
            state={feature.name: view.feature(feature, epoch) for feature in story.programme.state},
            eligible_logged=view.eligible(epoch, view.start(epoch), tonight=False),
            eligible_target=view.eligible(epoch, story.as_of, tonight=True),
            open=is_open,
        )
        if not is_open:
            view.settle(row, done=epoch == end)
        yield row
        if is_open:
            return
        epoch += 1


@dataclass(frozen=True)
class _View:
    """A customer as of a night."""

    story: Story
    customer: Customer

    @property
    def programme(self) -> Programme:
        return self.story.programme

    def start(self, epoch: int) -> dt.date:
        """The local date on whose midnight an epoch starts."""
        grid, programme = self.programme.grid, self.programme
        offset = 0
        if grid.stagger:
            offset = hash63(programme.programme, "offset", programme.salt, self.customer.customer_id)
            offset %= grid.interval_days
        return grid.anchor + dt.timedelta(days=offset + epoch * grid.interval_days)

    def within(self, rows: Sequence[Any], first: int, behind: int) -> list[Any]:
        """Rows from the start of one epoch to the start of another."""
        return [row for row in rows if self.start(first) <= self.story.day(row.at) < self.start(behind)]

    def before(self, rows: Sequence[Any], epoch: int, epochs: int | None) -> list[Any]:
        """Rows strictly before an epoch, of the last `epochs` epochs or from the beginning."""
        if epochs is not None:
            return self.within(rows, epoch - epochs, epoch)
        return [row for row in rows if self.story.day(row.at) < self.start(epoch)]

    def end(self) -> int | None:
        """The epoch in which the relationship ended."""
        ends = {name for name, event in self.programme.events.items() if event.ends}
        days = [self.story.day(event.at) for event in self.customer.events if event.event_type in ends]
        if self.customer.closed_at is not None:
            days.append(self.story.day(self.customer.closed_at))
        if not days:
            return None
        epoch = 0
        while self.start(epoch) > min(days):
            epoch -= 1
        while self.start(epoch + 1) <= min(days):
            epoch += 1
        return epoch

    # The state -------------------------------------------------------------------------------------------------------

    def known(self, column: str, epoch: int) -> str | None:
        """A mutable column as the day before the epoch's start knew it."""
        told = [t for t in self.customer.told if t.column == column and self.story.day(t.at) < self.start(epoch)]
        return max(told, key=lambda t: (t.at, t.night)).value if told else None

    def feature(self, feature: Feature, epoch: int) -> float:
        match feature:
            case TimeFeature(measure="epoch"):
                return epoch
            case TimeFeature(measure="days_since_created"):
                return min((self.start(epoch) - self.story.day(self.customer.created_at)).days, LARGEST)
            case TimeFeature():
                return self.start(epoch).month
            case CustomerFeature():
                immutable = self.customer.columns.get(feature.column)
                value = immutable if feature.immutable else self.known(feature.column, epoch)
                if feature.categories:
                    return feature.categories.index(value) if value in feature.categories else int(feature.missing)
                number = _number(value)
                return feature.missing if number is None else number
            case ContactFeature():
                rows = self.before(self.contacts(feature.channel, feature.action), epoch, feature.epochs)
            case EventFeature():
                events = [event for event in self.customer.events if event.event_type == feature.type]
                rows = self.before(events, epoch, feature.epochs)
        if feature.measure == "count":
            return min(len(rows), LARGEST)
        if feature.measure == "sum":
            return float(sum(row.value for row in rows if row.value is not None))
        days = [self.story.day(row.at) for row in rows]
        if not days:
            return min(feature.missing, LARGEST)
        day = max(days) if feature.measure == "days_since_last" else min(days)
        return min((self.start(epoch) - day).days, LARGEST)

    def contacts(self, channel: str | None, action: str | None = None) -> list[Contact]:
        """The customer's contacts of a channel, of an action, or all."""
        channels = {a.action_id: a.channel for a in self.story.actions}
        return [
            contact
            for contact in self.customer.contacts
            if channel in (None, channels[contact.action_id]) and action in (None, contact.action_id)
        ]

    # What was allowed ------------------------------------------------------------------------------------------------

    def eligible(self, epoch: int, day: dt.date, *, tonight: bool) -> set[str]:
        """Actions that the rules and the catalogue of a day allow in the state of an epoch."""
        return {
            action.action_id
            for action in self.story.actions
            if self._active(action, day, tonight=tonight)
            and all(
                self._allows(rule, action, epoch, tonight=tonight)
                for rule in self.programme.rules
                if (rule.valid_from is None or rule.valid_from <= day)
                and (rule.valid_to is None or day < rule.valid_to)
            )
        }

    def _active(self, action: Action, day: dt.date, *, tonight: bool) -> bool:
        if action.action_id == NO_ACTION:
            return self.programme.actions.no_action or not tonight
        return not (action.active_from and day < self.story.day(action.active_from)) and not (
            action.active_to and day >= self.story.day(action.active_to)
        )

    def _allows(self, rule: Rule, action: Action, epoch: int, *, tonight: bool) -> bool:
        if isinstance(rule, Range):
            if action.action_id not in rule.actions:
                return True
            value = next(self.feature(f, epoch) for f in self.programme.state if f.name == rule.feature)
            return (rule.min is None or value >= rule.min) and (rule.max is None or value <= rule.max)
        if isinstance(rule, Where):
            return action.action_id not in rule.actions or self._holds(rule.condition, epoch)
        if action.channel is None:
            return True
        if isinstance(rule, Cap):
            if rule.channel not in (None, action.channel):
                return True
            return len(self.before(self.contacts(rule.channel), epoch, rule.epochs - 1)) < rule.max
        if isinstance(rule, CoolOff | Quiet):
            if rule.channel not in (None, action.channel):
                return True
            if isinstance(rule, Quiet):
                return self.start(epoch) not in rule.dates
            events = [event for event in self.customer.events if event.event_type == rule.event]
            return not self.before(events, epoch, rule.epochs)
        if isinstance(rule, Suppression):
            return rule.channel not in (None, action.channel) or _number(self.known(rule.column, epoch)) != 1
        column = self.programme.channels[action.channel].consent
        if column is None:
            return True
        given = _number(self.known(column, epoch))
        # Unknown consent forbids what is not done yet; in the log the contact may have been lawful all the same.
        return given == 1 if tonight else given is None or given == 1

    def _holds(self, condition: str, epoch: int) -> bool:
        """A condition over numbers, read as Python: the same words, but for = and <>."""
        python = re.sub(r"(?<![<>!])=", "==", condition).replace("<>", "!=")
        python = re.sub(r"(\w+) between (\S+) and (\S+)", r"(\2 <= \1 <= \3)", python)
        known = {f.name: np.float32(self.feature(f, epoch)) for f in self.programme.state}
        return bool(eval(python, {"__builtins__": {}}, known))

    # What happened ---------------------------------------------------------------------------------------------------

    def settle(self, row: Row, *, done: bool) -> None:
        """Write down what an epoch's decision and outcomes were."""
        contacts = sorted(self.within(self.customer.contacts, row.epoch, row.epoch + 1), key=_in_order)
        decisions = sorted(self.within(self.customer.decisions, row.epoch, row.epoch + 1), key=_in_order)
        events = self.within(self.customer.events, row.epoch, row.epoch + 1)
        if decisions:
            row.action = decisions[0].action_id
            row.propensity = decisions[0].probabilities[row.action]
            row.eligible_logged = set(decisions[0].probabilities)
        else:
            row.action = contacts[0].action_id if contacts else NO_ACTION
            row.eligible_logged.add(row.action)
        for name, event in self.programme.events.items():
            of_type = [e for e in events if e.event_type == name]
            counted = event.measure == "count"
            row.outcomes[name] = len(of_type) if counted else sum(e.value for e in of_type if e.value is not None)
        row.outcomes["contacts"] = len(contacts)
        row.outcomes["cost"] = sum(self._cost(contact) for contact in contacts)
        row.reward = sum(event.weight * row.outcomes[name] for name, event in self.programme.events.items())
        row.reward -= row.outcomes["cost"] * self.programme.reward.charge_costs
        row.done = done

    def _cost(self, contact: Contact) -> float:
        """What was last told of the action's cost; the first thing told stands for all time before it."""
        action = next(a for a in self.story.actions if a.action_id == contact.action_id)
        costs = sorted(action.costs, key=lambda told: (told.at, told.night))
        told = [t for t in costs if t.at <= contact.at] or costs[:1]
        return _number(told[-1].value) or 0.0


def _number(text: str | None) -> float | None:
    if text is None:
        return None
    return float({"true": 1, "false": 0}.get(text, text))


def _in_order(row: Any) -> tuple[dt.datetime, str]:
    return row.at, row.contact_id if isinstance(row, Contact) else row.decision_id
