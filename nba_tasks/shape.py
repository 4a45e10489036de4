"""The shape of a programme's transitions: how its YAML file becomes columns, expressions and masks in SQL."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from nba_tasks.database import quote_identifier, quote_literal
from nba_tasks.dataset import BoolArray, Catalogue, FloatArray
from nba_tasks.eligibility import Condition, Mask, bits, conditions_of, mask
from nba_tasks.programme import (
    NO_ACTION,
    CustomerFeature,
    Feature,
    Programme,
    ProgrammeError,
    TimeFeature,
)
from nba_tasks.series import Past
from nba_tasks.settings import settings

INTEGER_BITS = 32
"""Fewer conditions than this fit into an integer."""


@dataclass(frozen=True)
class CatalogueAction:
    """One action of the catalogue as a batch knows it; `index` is its bit in masks and its column in probabilities."""

    index: int
    action_id: str
    channel: str | None
    cost: float
    active_from: dt.date | None
    active_to: dt.date | None
    features: tuple[float, ...]
    daily_capacity: int | None = None
    newcomer: bool = False  # it came into the catalogue after the first night

    def active_on(self, day: dt.date) -> bool:
        """Whether the action may be chosen on a date: from `active_from` on, before `active_to`."""
        return (self.active_from is None or self.active_from <= day) and (
            self.active_to is None or day < self.active_to
        )


@dataclass(frozen=True)
class Column:
    """A column of the transitions table and the SQL expression that fills it."""

    name: str
    column: str
    type: Literal["smallint", "real", "boolean"]
    expression: str = ""
    event: str = ""
    measure: str = ""
    source: str = ""


@dataclass(frozen=True)
class Shape:
    """Everything that turns `sql/transitions/*.sql` into one programme's statements as of a date."""

    programme: Programme
    as_of: dt.date
    actions: tuple[CatalogueAction, ...]

    @property
    def table(self) -> str:
        return f"transitions.{self.programme.programme}"

    @cached_property
    def outcomes(self) -> tuple[Column, ...]:
        return tuple(
            Column(
                name=name,
                column=f"outcome_{name}",
                type="smallint" if event.measure == "count" else "real",
                event=name,
                measure=event.measure,
            )
            for name, event in self.programme.events.items()
        )

    @cached_property
    def features(self) -> tuple[Column, ...]:
        return tuple(
            Column(
                name=feature.name,
                column=f"state_{feature.name}",
                type="smallint" if feature.integral else "real",
                expression=self._expression(feature),
            )
            for feature in self.programme.state
        )

    @property
    def event_terms(self) -> list[dict[str, str]]:
        """What one event of each type with a weight adds to the reward: the type, and an expression of the event."""
        return [
            {"event": name, "amount": f"{event.weight!r}" + (" * e.value" if event.measure == "value" else "")}
            for name, event in self.programme.events.items()
            if event.weight
        ]

    @property
    def outcome_names(self) -> tuple[str, ...]:
        return (*self.programme.events, "contacts", "cost")

    def fingerprint(self, *, tonight: bool = False) -> str:
        """Changes whenever the same history would give other rows; `tonight`: or other actions were eligible tonight.

        An action's dates and a rule's validity are not part of it (see `eligibility`), nor is a new action: nobody was
        contacted with it before.
        """
        names = self.names()
        parts = [
            names[key] for key in ("shards", "zone", "anchor", "interval", "ending_events", "outcomes", "features")
        ]
        parts += [names[key] for key in ("fixed", "changing", "conditions", "reward")]
        parts += [[p.column for p in self.past.positions], self.programme.grid.settlement_lag_days, self.programme.salt]
        folder = settings().sql_folder / "transitions"
        parts += [(folder / f"{name}.sql").read_text() for name in ("members", "epochs", "cost", "build")]
        parts += [self.mask("target")] if tonight else []
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def catalogue(self) -> Catalogue:
        """What learning may know of each action: which one, its channel, its cost, the columns that the YAML names."""
        channels = list(self.programme.channels)
        rows = [
            [float(a.index == i) for i in range(len(self.actions))]
            + [float(a.channel == channel) for channel in channels]
            + [a.cost, *a.features]
            for a in self.actions
        ]
        return Catalogue(
            ids=tuple(a.action_id for a in self.actions),
            channels=tuple(a.channel for a in self.actions),
            cost=np.array([a.cost for a in self.actions], dtype=np.float32),
            features=np.array(rows, dtype=np.float32),
        )

    def new(self, decisions: Sequence[int]) -> BoolArray:
        """Actions that are too new to be learned from so many decisions each, of shape (n_actions,)."""
        enough = self.programme.layers.new_until
        return np.array([a.newcomer and n < enough for a, n in zip(self.actions, decisions, strict=True)], np.bool_)

    def likes(self, known: int) -> FloatArray:
        """Features of the actions behind the first `known`, as `catalogue` described those: none of them, but alike.

        Returns
        -------
        array of shape (n_actions - known, n_action_features)
        """
        everything = self.catalogue().features[known:]
        return np.delete(everything, np.arange(known, len(self.actions)), axis=1)

    @cached_property
    def past(self) -> Past:
        """What the state and the rules look back on."""
        channels = {a.index: a.channel for a in self.actions}
        return Past(self.programme.state, self.programme.rules, channels, {a.action_id: a.index for a in self.actions})

    @cached_property
    def conditions(self) -> tuple[Condition, ...]:
        """What the rules ask, in the order of the bits of `conditions`."""
        return self._conditions(tonight=False)

    def _conditions(self, *, tonight: bool) -> tuple[Condition, ...]:
        flags = {
            name: f"s.{quote_identifier(f'flag_{name}')}" if tonight else _value_of(f"flag_{name}", name)
            for name in self.programme.flags
        }
        return conditions_of(self.programme, self.past, {f.name: f.expression for f in self.features}, flags)

    def mask(self, which: Mask) -> str:
        """SQL for the eligible actions of a row `rows` with its `conditions` and `starts_on`."""
        return mask(
            self.conditions,
            self.actions,
            which,
            column="rows.conditions",
            starts_on="rows.starts_on",
            as_of=self.as_of,
            no_action=self.programme.actions.no_action,
        )

    def names(self, *, tonight: bool = False, changed_only: bool = False) -> dict[str, Any]:
        """What fills in the statements' templates.

        Parameters
        ----------
        tonight : bool
            For the customers who are due on `as_of`. Whether a contact is allowed is then a matter of now: consent, and
            who is on a list, are read as the batch found them.
        changed_only : bool
            For the customers of the temporary table `changed`.
        """
        grid = self.programme.grid
        changing = self._changing(flags=not tonight)
        integer = len(self.conditions) < INTEGER_BITS
        return {
            "table": self.table,
            "shards": self.programme.shards,
            "tonight": tonight,
            "changed_only": changed_only,
            "zone": grid.business_timezone,
            "anchor": grid.anchor.isoformat(),
            "interval": grid.interval_days,
            "ending_events": [name for name, event in self.programme.events.items() if event.ends],
            "outcomes": self.outcomes,
            "features": self.features,
            "series_list": self.past.series,
            "positions": self.past.positions,
            "fixed": self._fixed(flags=tonight),
            "changing": changing,
            "immutable": sorted({f.column for f in self._customer_features if f.immutable}),
            "mutable": sorted({column.source for column in changing}),
            "conditions_type": "integer" if integer else "bigint",
            "conditions": bits(self._conditions(tonight=tonight), "integer" if integer else "bigint"),
            "reward": self._reward(),
            "logged_mask": self.mask("logged"),
            "target_mask": self.mask("target"),
        }

    # What the state is made of ---------------------------------------------------------------------------------------

    def _fixed(self, *, flags: bool) -> list[Column]:
        """Columns that no epoch changes: of the customer's newest version `v`."""
        found = [
            Column(f.name, f"state_{f.name}", _type(f), _parsed(f, f"v.attributes ->> {quote_literal(f.column)}"))
            for f in self._customer_features
            if f.immutable
        ]
        if flags:
            found += [
                Column(name, f"flag_{name}", "boolean", f"nba.number(v.attributes ->> {quote_literal(name)}) = 1")
                for name in self.programme.flags
            ]
        return found

    def _changing(self, *, flags: bool) -> list[Column]:
        """Columns read off the values that a mutable column took; `source` is that column."""
        found = [
            Column(f.name, f"state_{f.name}", _type(f), _parsed(f, "value"), source=f.column)
            for f in self._customer_features
            if not f.immutable
        ]
        if flags:
            found += [
                Column(name, f"flag_{name}", "boolean", "nba.number(value) = 1", source=name)
                for name in self.programme.flags
            ]
        return found

    @property
    def _customer_features(self) -> list[CustomerFeature]:
        return [f for f in self.programme.state if isinstance(f, CustomerFeature)]

    def _expression(self, feature: Feature) -> str:
        """SQL for a feature, over the row `s` of an epoch."""
        match feature:
            case TimeFeature(measure="epoch"):
                return "s.epoch::smallint"
            case TimeFeature(measure="days_since_created"):
                return "least(s.starts_on - s.created_on, 32767)::smallint"
            case TimeFeature():
                return "extract(month from s.starts_on)::smallint"
            case CustomerFeature():
                column = f"state_{feature.name}"
                found = f"s.{quote_identifier(column)}" if feature.immutable else _value_of(column, feature.column)
                return f"coalesce({found}, ({feature.missing})::{_type(feature)})"
        return self.past.expression(feature)

    def _reward(self) -> str:
        """SQL for what an epoch earned, over what happened in it, `h`."""
        terms = [
            f"{self.programme.events[o.name].weight!r}::double precision * coalesce(h.{quote_identifier(o.column)}, 0)"
            for o in self.outcomes
            if self.programme.events[o.name].weight
        ]
        if self.programme.reward.charge_costs:
            terms.append("-coalesce(h.cost, 0)")
        return " + ".join(terms) or "0"


def _type(feature: CustomerFeature) -> Literal["smallint", "real"]:
    return "smallint" if feature.integral else "real"


def _value_of(column: str, source: str) -> str:
    """SQL for the value that a mutable column had when the epoch `s` started."""
    return f"s.{quote_identifier(f'values_{column}')}[s.{quote_identifier(f'at_{source}')}]"


def _parsed(feature: CustomerFeature, text: str) -> str:
    """SQL for a column's text as the feature's value; null where it is missing or means nothing."""
    if not feature.categories:
        return f"nba.number({text})"
    positions = " ".join(f"when {quote_literal(c)} then {i}" for i, c in enumerate(feature.categories))
    return f"(case {text} {positions} end)::smallint"


def read_shape(connection: Connection, programme: Programme, programme_id: int, batch_id: int, as_of: dt.date) -> Shape:
    """The shape as a batch knows the catalogue.

    Raises
    ------
    ProgrammeError
        The catalogue names a channel that the YAML does not list.
    """
    parameters = {"programme_id": programme_id, "batch_id": batch_id, "zone": programme.grid.business_timezone}
    # A retired action keeps its index and what was last known of it: its bit must not pass to another action.
    rows = connection.execute(
        sa.text(
            """
            select distinct on (a.action) a.action, a.action_id, v.channel, v.daily_capacity,
                coalesce(v.cost, 0) as cost, coalesce(v.features, '{}') as features,
                (v.active_from at time zone :zone)::date as active_from,
                (v.active_to at time zone :zone)::date as active_to,
                coalesce(v.superseded_by <= :batch_id, false) as gone,
                introduced.batch_id > begun.batch_id as newcomer
            from history.actions as a
            -- The catalogue need not list no_action, which then has no version.
            left join history.action_versions as v
                on v.programme_id = a.programme_id and v.action = a.action and v.batch_id <= :batch_id
            -- The night that found it, and the programme's first.
            left join lateral (
                select min(batch_id) as batch_id
                from history.action_versions as f
                where f.programme_id = a.programme_id and f.action = a.action
            ) as introduced on true
            cross join (
                select min(batch_id) as batch_id from history.action_versions where programme_id = :programme_id
            ) as begun
            where a.programme_id = :programme_id and (v.batch_id is not null or a.action = 0)
            order by a.action, v.batch_id desc
            """
        ),
        parameters,
    ).all()
    actions = tuple(_action(programme, row, as_of) for row in rows)
    return Shape(programme, as_of, actions)


def _action(programme: Programme, row: Any, as_of: dt.date) -> CatalogueAction:
    values = tuple(float(row.features.get(name) or 0) for name in programme.actions.features)
    if row.action_id == NO_ACTION:
        # Doing nothing is always possible and free, whatever a catalogue's row of that name says.
        return CatalogueAction(row.action, NO_ACTION, None, 0.0, None, None, values)
    if row.channel is not None and row.channel not in programme.channels:
        raise ProgrammeError(
            f"action {row.action_id} has channel {row.channel!r}, which the programme file does not list; "
            f"it lists {', '.join(programme.channels)}"
        )
    active_to = min(row.active_to or as_of, as_of) if row.gone else row.active_to
    return CatalogueAction(
        index=row.action,
        action_id=row.action_id,
        channel=row.channel,
        cost=row.cost,
        active_from=row.active_from,
        active_to=active_to,
        features=values,
        daily_capacity=row.daily_capacity,
        newcomer=bool(row.newcomer),
    )
