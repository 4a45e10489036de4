"""The state: features, each known strictly before the decision."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from nba_tasks.programme.section import Identifier, Section


class CustomerFeature(Section):
    """A column of the customers relation, as it was known when the decision was taken."""

    name: Identifier
    source: Literal["customer"]
    column: Identifier
    immutable: bool = False
    categories: tuple[str, ...] = Field((), description="text values in order; the feature is the position")
    missing: float = -1

    @property
    def integral(self) -> bool:
        return bool(self.categories)


class ContactFeature(Section):
    """Earlier contacts, of one channel or action or of any."""

    name: Identifier
    source: Literal["contacts"]
    channel: str | None = None
    action: str | None = None
    measure: Literal["count", "days_since_last", "days_since_first"] = "count"
    epochs: int | None = Field(None, ge=1, description="how many epochs back; null: from the beginning")
    missing: float = 9999

    @property
    def integral(self) -> bool:
        return True

    @model_validator(mode="after")
    def _one_filter(self) -> ContactFeature:
        if self.channel and self.action:
            raise ValueError("give a channel or an action, not both")
        if self.epochs and self.measure == "days_since_first":
            raise ValueError("days_since_first looks back to the beginning; drop `epochs`")
        return self


class EventFeature(Section):
    """Earlier events of one type."""

    name: Identifier
    source: Literal["events"]
    type: str
    measure: Literal["count", "sum", "days_since_last", "days_since_first"] = "count"
    epochs: int | None = Field(None, ge=1, description="how many epochs back; null: from the beginning")
    missing: float = 9999

    @property
    def integral(self) -> bool:
        return self.measure != "sum"

    @model_validator(mode="after")
    def _first_is_unbounded(self) -> EventFeature:
        if self.epochs and self.measure == "days_since_first":
            raise ValueError("days_since_first looks back to the beginning; drop `epochs`")
        return self


class TimeFeature(Section):
    """Time itself: the epoch's number, the customer's age with us, the season."""

    name: Identifier
    source: Literal["time"]
    measure: Literal["epoch", "days_since_created", "month"]

    @property
    def integral(self) -> bool:
        return True


Feature = Annotated[
    CustomerFeature | ContactFeature | EventFeature | TimeFeature,
    Field(discriminator="source"),
]
