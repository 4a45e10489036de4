"""The shape of a programme's transitions: how its YAML file becomes columns, expressions and masks in SQL."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from nba_tasks.database import quote_identifier, quote_literal
from nba_tasks.dataset import Catalogue
from nba_tasks.programme import (
    NO_ACTION,
    Cap,
    ContactFeature,
    CustomerFeature,
    EventFeature,
    Feature,
    Programme,
    ProgrammeError,
    Range,
    Rule,
    TimeFeature,
)

Mask = Literal["logged", "target"]


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
    type: Literal["smallint", "real"]
    expression: str = ""
    event: str = ""
    measure: str = ""


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
    def outcome_names(self) -> tuple[str, ...]:
        return (*self.programme.events, "contacts", "cost")

    def fingerprint(self) -> str:
        """Changes whenever the same history would give other rows."""
        shaping = self.programme.model_dump_json(
            include={"grid", "channels", "actions", "events", "state", "rules", "reward", "shards", "salt"}
        )
        return hashlib.sha256(f"{shaping}|{self.actions}".encode()).hexdigest()[:16]

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

    def names(self, *, tonight: bool = False) -> dict[str, Any]:
        """What fills in the statements' templates."""
        grid = self.programme.grid
        consents = {c.consent for c in self.programme.channels.values() if c.consent}
        mutable = {f.column for f in self.programme.state if isinstance(f, CustomerFeature) and not f.immutable}
        return {
            "table": self.table,
            "shards": self.programme.shards,
            "tonight": tonight,
            "zone": grid.business_timezone,
            "anchor": grid.anchor.isoformat(),
            "interval": grid.interval_days,
            "ending_events": [name for name, event in self.programme.events.items() if event.ends],
            "actions": self.actions,
            "outcomes": self.outcomes,
            "features": self.features,
            "series_list": list(self._series.values()),
            "windows": [
                {"column": f"window_{name}", "expression": text} for name, text in self._windows.items()
            ],
            "mutable": sorted(mutable if tonight else mutable | consents),
            "consents": [
                {
                    "column": f"consent_{column}",
                    "expression": f"nba.number({self._now(column) if tonight else self._as_of(column)}) = 1",
                }
                for column in sorted(consents)
            ],
            "reward": self._reward(),
            "logged_mask": self._mask("logged"),
            "target_mask": self._mask("target"),
        }  # fmt: skip

    # What an epoch sums up -----------------------------------------------------------------------------------------

    def _series_of(self, feature: ContactFeature | EventFeature) -> tuple[str, dict[str, str]]:
        """The per-epoch series that a feature looks back on."""
        if isinstance(feature, EventFeature):
            what, condition = f"event_{feature.type}", f"event_type = {quote_literal(feature.type)}"
        elif feature.channel:
            what, condition = f"channel_{feature.channel}", self._of_channel(feature.channel)
        elif feature.action:
            index = next((a.index for a in self.actions if a.action_id == feature.action), None)
            if index is None:
                raise ProgrammeError(
                    f"state.{feature.name}.action is {feature.action!r}, which the catalogue does not hold; it holds "
                    + ", ".join(a.action_id for a in self.actions)
                )
            what, condition = f"action_{index}", f"action = {index}"
        else:
            what, condition = "contact", "action is not null"
        measure = {"count": "count", "sum": "sum", "days_since_last": "last", "days_since_first": "first"}[
            feature.measure
        ]
        aggregate = {"count": "count(*)", "sum": "sum(value)", "last": "max(day)", "first": "min(day)"}[measure]
        column = f"{measure}_{what}"
        return column, {"column": column, "aggregate": aggregate, "condition": condition}

    def _cap_series(self, cap: Cap) -> dict[str, str]:
        what = f"channel_{cap.channel}" if cap.channel else "contact"
        condition = self._of_channel(cap.channel) if cap.channel else "action is not null"
        return {"column": f"count_{what}", "aggregate": "count(*)", "condition": condition}

    def _of_channel(self, channel: str) -> str:
        indices = [a.index for a in self.actions if a.channel == channel]
        return f"action in ({', '.join(map(str, indices))})" if indices else "false"

    @cached_property
    def _series(self) -> dict[str, dict[str, str]]:
        series = dict(self._series_of(f) for f in self.programme.state if isinstance(f, (ContactFeature, EventFeature)))
        series |= {
            s["column"]: s for rule in self.programme.rules if isinstance(rule, Cap) for s in [self._cap_series(rule)]
        }
        return series

    # What the state looks back on ----------------------------------------------------------------------------------

    @cached_property
    def _windows(self) -> dict[str, str]:
        windows = {}
        for feature in self.programme.state:
            if isinstance(feature, (ContactFeature, EventFeature)):
                column, series = self._series_of(feature)
                function = series["aggregate"].split("(")[0].replace("count", "sum")
                windows[feature.name] = _over(function, column, feature.epochs)
        for rule in self.programme.rules:
            if isinstance(rule, Cap) and rule.epochs > 1:
                windows[f"cap {rule.name}"] = _over("sum", self._cap_series(rule)["column"], rule.epochs - 1)
        return windows

    def _as_of(self, column: str) -> str:
        """A mutable customer column as it was known when the epoch started."""
        return f"{quote_identifier(f'as_of_{column}')}.value"

    def _now(self, column: str) -> str:
        """A customer column as the batch found it: what never changes, and tonight's consent, which is no state."""
        return f"m.attributes ->> {quote_literal(column)}"

    def _expression(self, feature: Feature) -> str:
        match feature:
            case TimeFeature(measure="epoch"):
                return "s.epoch::smallint"
            case TimeFeature(measure="days_since_created"):
                return "least(s.starts_on - m.created_on, 32767)::smallint"
            case TimeFeature():
                return "extract(month from s.starts_on)::smallint"
            case CustomerFeature():
                return self._customer_expression(feature)
        window = f"s.{quote_identifier(f'window_{feature.name}')}"
        if feature.measure == "count":
            return f"least(coalesce({window}, 0), 32767)::smallint"
        if feature.measure == "sum":
            return f"coalesce({window}, 0)::real"
        return f"least(coalesce(s.starts_on - {window}, {feature.missing:.0f}), 32767)::smallint"

    def _customer_expression(self, feature: CustomerFeature) -> str:
        text = self._now(feature.column) if feature.immutable else self._as_of(feature.column)
        if not feature.categories:
            return f"coalesce(nba.number({text}), {feature.missing})::real"
        positions = " ".join(f"when {quote_literal(c)} then {i}" for i, c in enumerate(feature.categories))
        return f"(case {text} {positions} else {feature.missing:.0f} end)::smallint"

    # What an epoch earned, and what was allowed ----------------------------------------------------------------------

    def _reward(self) -> str:
        terms = [
            f"{self.programme.events[o.name].weight!r} * r.{quote_identifier(o.column)}"
            for o in self.outcomes
            if self.programme.events[o.name].weight
        ]
        if self.programme.reward.charge_costs:
            terms.append("-r.cost")
        return " + ".join(terms) or "0"

    def _mask(self, mask: Mask) -> str:
        """Eligible actions as bits: active, and forbidden by no rule.

        Consent that is not known forbids tonight's actions; in the log it does not, since the contact may have been
        lawful on grounds that we cannot see.
        """
        parts = []
        for action in self.actions:
            conditions = [text for rule in self.programme.rules for text in self._allows(rule, action, mask)]
            if mask == "target":
                on = action.active_on(self.as_of) and (
                    action.action_id != NO_ACTION or self.programme.actions.no_action
                )
                conditions += [] if on else ["false"]
            else:
                conditions += [f"r.starts_on >= date '{action.active_from}'"] if action.active_from else []
                conditions += [f"r.starts_on < date '{action.active_to}'"] if action.active_to else []
            parts.append(
                f"case when {' and '.join(conditions)} then {1 << action.index} else 0 end"
                if conditions
                else str(1 << action.index)
            )
        return "(" + " | ".join(parts) + ")"

    def _allows(self, rule: Rule, action: CatalogueAction, mask: Mask) -> list[str]:
        """The SQL condition under which a rule allows an action; none where the rule does not concern it."""
        condition = None
        if isinstance(rule, Range):
            if action.action_id in rule.actions:
                feature = f"r.{quote_identifier(f'state_{rule.feature}')}"
                bounds = [f"{feature} >= {rule.min!r}"] if rule.min is not None else []
                bounds += [f"{feature} <= {rule.max!r}"] if rule.max is not None else []
                condition = " and ".join(bounds) or None
        elif action.channel is None:
            return []
        elif isinstance(rule, Cap):
            if rule.channel in (None, action.channel):
                earlier = f"coalesce(r.{quote_identifier(f'window_cap {rule.name}')}, 0)" if rule.epochs > 1 else "0"
                condition = f"{earlier} < {rule.max}"
        elif consent := self.programme.channels[action.channel].consent:
            condition = f"coalesce(r.{quote_identifier(f'consent_{consent}')}, {str(mask == 'logged').lower()})"
        if condition is None:
            return []
        if mask == "target":
            in_force = (rule.valid_from is None or rule.valid_from <= self.as_of) and (
                rule.valid_to is None or self.as_of < rule.valid_to
            )
            return [condition] if in_force else []
        outside = [f"r.starts_on < date '{rule.valid_from}'"] if rule.valid_from else []
        outside += [f"r.starts_on >= date '{rule.valid_to}'"] if rule.valid_to else []
        return [f"({' or '.join([*outside, condition])})"]


def _over(function: str, column: str, epochs: int | None) -> str:
    """A function over the epochs before the present one."""
    start = "unbounded" if epochs is None else str(epochs)
    return (
        f"{function}(t.{quote_identifier(column)}) over "
        f"(partition by t.customer_key order by t.epoch range between {start} preceding and 1 preceding)"
    )


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
            select distinct on (a.action) a.action, a.action_id, v.channel,
                coalesce(v.cost, 0) as cost, coalesce(v.features, '{}') as features,
                (v.active_from at time zone :zone)::date as active_from,
                (v.active_to at time zone :zone)::date as active_to,
                coalesce(v.superseded_by <= :batch_id, false) as gone
            from history.actions as a
            -- The catalogue need not list no_action, which then has no version.
            left join history.action_versions as v
                on v.programme_id = a.programme_id and v.action = a.action and v.batch_id <= :batch_id
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
    return CatalogueAction(row.action, row.action_id, row.channel, row.cost, row.active_from, active_to, values)
