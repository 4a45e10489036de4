"""Which actions the rules allow: each rule is a condition on what was known, and a mask is read off the conditions.

A transition keeps which conditions held before its decision, one bit each, and no mask. Conditions depend on the
customer's past alone; which of them count depends on the rules' validity and the catalogue's dates, on the decision's
own day (the behaviour policy) or tonight (the candidate). So a rule that ends or an action that starts rewrites no row.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from nba_tasks.programme import (
    NO_ACTION,
    Cap,
    CoolOff,
    Programme,
    ProgrammeError,
    Quiet,
    Range,
    Rule,
    Suppression,
    Where,
)
from nba_tasks.series import Past

Mask = Literal["logged", "target"]

MAX_CONDITIONS = 63
"""Bits of the column that holds them."""


class Action(Protocol):
    """What the rules ask of an action; see `shape.CatalogueAction`."""

    @property
    def index(self) -> int: ...
    @property
    def action_id(self) -> str: ...
    @property
    def channel(self) -> str | None: ...
    @property
    def active_from(self) -> dt.date | None: ...
    @property
    def active_to(self) -> dt.date | None: ...
    def active_on(self, day: dt.date) -> bool: ...


@dataclass(frozen=True)
class Condition:
    """One bit of `conditions`.

    Attributes
    ----------
    rule : Rule
        Whose validity says when it counts.
    expression : str
        SQL, true where the rule allows its actions in an epoch.
    channel : str or None
        The actions concerned: of this channel (None: of any), …
    actions : tuple of str or None
        … or these.
    masks : tuple of Mask
        The masks that read it.
    """

    rule: Rule
    expression: str
    channel: str | None = None
    actions: tuple[str, ...] | None = None
    masks: tuple[Mask, ...] = ("logged", "target")

    def concerns(self, action: Action) -> bool:
        """Whether the action is bound by it."""
        if self.actions is not None:
            return action.action_id in self.actions
        return action.channel is not None and self.channel in (None, action.channel)

    def in_force(self, day: dt.date) -> bool:
        """Whether the rule counts on a date."""
        return in_force(self.rule, day)


def in_force(rule: Rule, day: dt.date) -> bool:
    """Whether a rule counts on a date."""
    return (rule.valid_from is None or rule.valid_from <= day) and (rule.valid_to is None or day < rule.valid_to)


def conditions_of(
    programme: Programme, past: Past, state: Mapping[str, str], flags: Mapping[str, str]
) -> tuple[Condition, ...]:
    """The conditions in the order of their bits.

    Parameters
    ----------
    state, flags : mappings of str to str
        SQL for each feature of the state, and for each column that only rules read (null: unknown).

    Raises
    ------
    ProgrammeError
        There are more than fit into the column.
    """
    found = tuple(condition for rule in programme.rules for condition in _of_rule(rule, programme, past, state, flags))
    if len(found) > MAX_CONDITIONS:
        raise ProgrammeError(
            f"rules: they ask for {len(found)} conditions (two a channel with consent, one for any other rule), "
            f"at most {MAX_CONDITIONS} are supported"
        )
    return found


def _of_rule(
    rule: Rule, programme: Programme, past: Past, state: Mapping[str, str], flags: Mapping[str, str]
) -> Iterable[Condition]:
    if isinstance(rule, Range):
        feature = f"({state[rule.feature]})"
        bounds = [f"{feature} >= {rule.min!r}::double precision"] if rule.min is not None else []
        bounds += [f"{feature} <= {rule.max!r}::double precision"] if rule.max is not None else []
        if bounds:
            yield Condition(rule, " and ".join(bounds), actions=rule.actions)
    elif isinstance(rule, Where):
        yield Condition(rule, programme.condition_sql(rule, state), actions=rule.actions)
    elif isinstance(rule, Cap):
        earlier = past.of_channel(rule.channel).count(rule.epochs - 1) if rule.epochs > 1 else "0"
        yield Condition(rule, f"{earlier} < {rule.max}", channel=rule.channel)
    elif isinstance(rule, CoolOff):
        yield Condition(rule, f"{past.of_event(rule.event).count(rule.epochs)} = 0", channel=rule.channel)
    elif isinstance(rule, Suppression):
        yield Condition(rule, f"{flags[rule.column]} is not true", channel=rule.channel)
    elif isinstance(rule, Quiet):
        dates = ", ".join(f"date '{day}'" for day in rule.dates)
        yield Condition(rule, f"s.starts_on not in ({dates})", channel=rule.channel)
    else:
        # Consent that is not known forbids tonight's actions; in the log it does not, since the contact may have been
        # lawful on grounds that we cannot see.
        for name, channel in programme.channels.items():
            if channel.consent:
                consent = flags[channel.consent]
                yield Condition(rule, f"{consent} is true", channel=name, masks=("target",))
                yield Condition(rule, f"{consent} is not false", channel=name, masks=("logged",))


def bits(conditions: Sequence[Condition], type_name: str) -> str:
    """SQL for the column `conditions`, over the row `s` of an epoch."""
    terms = [
        f"(({condition.expression})::integer::{type_name} << {position})"
        for position, condition in enumerate(conditions)
    ]
    return " | ".join(terms) or "0"


def mask(
    conditions: Sequence[Condition],
    actions: Iterable[Action],
    which: Mask,
    *,
    column: str,
    starts_on: str,
    as_of: dt.date,
    no_action: bool,
) -> str:
    """SQL for eligible actions as bits: active, and forbidden by no rule.

    Parameters
    ----------
    which : Mask
        By the rules and the catalogue of the decision's own day, or by tonight's.
    column, starts_on : str
        SQL for the row's conditions and its epoch's first day.
    no_action : bool
        Whether doing nothing may be chosen tonight.
    """
    parts = []
    for action in actions:
        bound = [(i, c) for i, c in enumerate(conditions) if which in c.masks and c.concerns(action)]
        if which == "target":
            allowed = action.active_on(as_of) and (action.action_id != NO_ACTION or no_action)
            needed = sum(1 << i for i, c in bound if c.in_force(as_of))
            tests = [f"{column} & {needed} = {needed}"] if needed else []
            tests += [] if allowed else ["false"]
        else:
            always = sum(1 << i for i, c in bound if c.rule.valid_from is None and c.rule.valid_to is None)
            tests = [f"{column} & {always} = {always}"] if always else []
            tests += [_in_its_time(i, c, column, starts_on) for i, c in bound if not always >> i & 1]
            tests += [f"{starts_on} >= date '{action.active_from}'"] if action.active_from else []
            tests += [f"{starts_on} < date '{action.active_to}'"] if action.active_to else []
        bit = 1 << action.index
        parts.append(f"case when {' and '.join(tests)} then {bit} else 0 end" if tests else str(bit))
    return f"({' | '.join(parts) or '0'})"


def _in_its_time(position: int, condition: Condition, column: str, starts_on: str) -> str:
    rule = condition.rule
    outside = [f"{starts_on} < date '{rule.valid_from}'"] if rule.valid_from else []
    outside += [f"{starts_on} >= date '{rule.valid_to}'"] if rule.valid_to else []
    return f"({' or '.join([*outside, f'{column} & {1 << position} <> 0'])})"


def held_back(
    conditions: Sequence[Condition], actions: Iterable[Action], as_of: dt.date, held: NDArray[np.int64]
) -> list[dict[str, Any]]:
    """What each rule forbids tonight, in the order of the rules; rules that bind nothing tonight are left out.

    Parameters
    ----------
    held : int array of shape (n,)
        Of each customer the conditions that hold, as bits.

    Returns
    -------
    list of dict
        `rule`, `customers` whom it keeps from at least one action, and the same for each action under `actions`. What
        several rules forbid counts with each of them.
    """
    found = []
    for rule in dict.fromkeys(condition.rule for condition in conditions):
        bound = [
            (1 << position, condition)
            for position, condition in enumerate(conditions)
            if condition.rule == rule and "target" in condition.masks and condition.in_force(as_of)
        ]
        forbidden = {
            action.action_id: np.any([held & bit == 0 for bit in bits_of_action], axis=0)
            for action in actions
            if action.active_on(as_of) and (bits_of_action := [bit for bit, c in bound if c.concerns(action)])
        }
        if forbidden:
            found.append(
                {
                    "rule": rule.name,
                    "customers": int(np.any(list(forbidden.values()), axis=0).sum()),
                    "actions": {name: int(which.sum()) for name, which in forbidden.items()},
                }
            )
    return found
