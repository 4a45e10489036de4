"""The rules: which actions a customer is eligible for, and when each rule was in force."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from pydantic import Field

from nba_tasks.programme.section import Identifier, Section


class Consent(Section):
    """Only customers known to have given consent to the action's channel."""

    kind: Literal["consent"]
    name: Identifier
    valid_from: dt.date | None = None
    valid_to: dt.date | None = None


class Cap(Section):
    """At most `max` contacts (of one channel, or of any) in the last `epochs` epochs, the present one included."""

    kind: Literal["cap"]
    name: Identifier
    channel: str | None = None
    max: int = Field(ge=0)
    epochs: int = Field(ge=1)
    valid_from: dt.date | None = None
    valid_to: dt.date | None = None


class Range(Section):
    """These actions only where a feature of the state lies between `min` and `max`."""

    kind: Literal["range"]
    name: Identifier
    actions: tuple[str, ...] = Field(min_length=1)
    feature: Identifier
    min: float | None = None
    max: float | None = None
    valid_from: dt.date | None = None
    valid_to: dt.date | None = None


class Where(Section):
    """These actions only where a condition over the state's columns holds; see `conditions`."""

    kind: Literal["where"]
    name: Identifier
    actions: tuple[str, ...] = Field(min_length=1)
    condition: str
    valid_from: dt.date | None = None
    valid_to: dt.date | None = None


class CoolOff(Section):
    """No contact (of one channel, or at all) in the `epochs` epochs after an event, such as a complaint."""

    kind: Literal["cool_off"]
    name: Identifier
    event: Identifier
    channel: str | None = None
    epochs: int = Field(ge=1)
    valid_from: dt.date | None = None
    valid_to: dt.date | None = None


class Suppression(Section):
    """Nobody on a list: no contact (of one channel, or at all) where a column of the customers is true."""

    kind: Literal["suppression"]
    name: Identifier
    column: Identifier
    channel: str | None = None
    valid_from: dt.date | None = None
    valid_to: dt.date | None = None


class Quiet(Section):
    """No contact (of one channel, or at all) is decided on these dates."""

    kind: Literal["quiet"]
    name: Identifier
    dates: tuple[dt.date, ...] = Field(min_length=1)
    channel: str | None = None
    valid_from: dt.date | None = None
    valid_to: dt.date | None = None


Rule = Annotated[Consent | Suppression | Cap | Range | Where | CoolOff | Quiet, Field(discriminator="kind")]
