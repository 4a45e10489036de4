"""What the state looks back on: each customer's past as sorted arrays, and the features read off them.

A series is the sorted days of one kind of contact or event. What had happened before a day is then the number of its
days below, found by bisection (`width_bucket`): nothing at or after an epoch's start can be reached from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from nba_tasks.database import quote_identifier, quote_literal
from nba_tasks.programme import (
    Cap,
    ContactFeature,
    CoolOff,
    EventFeature,
    ProgrammeError,
    Rule,
)

ContactOrEvent = ContactFeature | EventFeature


@dataclass(frozen=True)
class Series:
    """One kind of contact or event.

    Attributes
    ----------
    name : str
        Its arrays are `days_NAME` and, where values are summed, `totals_NAME`: the running total behind each day.
    source : {'contact', 'event'}
        The statement's relation that holds it.
    condition : str
        SQL for which of its rows belong.
    """

    name: str
    source: Literal["contact", "event"]
    condition: str
    totals: bool = False

    @property
    def days(self) -> str:
        return quote_identifier(f"days_{self.name}")

    @property
    def running(self) -> str:
        return quote_identifier(f"totals_{self.name}")

    def before(self, epochs: int = 0) -> str:
        """Column: how many of its days lie before the epoch that is `epochs` earlier."""
        return quote_identifier(f"before_{self.name}" + (f"_{epochs}" if epochs else ""))

    def count(self, epochs: int | None) -> str:
        """SQL for how many lie in the `epochs` epochs before the present one (None: in all of them)."""
        text = f"coalesce(s.{self.before()}, 0)"
        return text if epochs is None else f"({text} - coalesce(s.{self.before(epochs)}, 0))"


@dataclass(frozen=True)
class Position:
    """A series' position that the statement works out once per epoch: `epochs` back from the epoch's start."""

    series: Series
    epochs: int

    @property
    def column(self) -> str:
        return self.series.before(self.epochs)


class Past:
    """The series of a programme and the positions in them that its features and rules need.

    Parameters
    ----------
    channels : mapping of int to str or None
        The channel of each action's index.
    indices : mapping of str to int
        The index of each action id.
    """

    def __init__(
        self,
        state: Iterable[object],
        rules: Iterable[Rule],
        channels: Mapping[int, str | None],
        indices: Mapping[str, int],
    ) -> None:
        self._channels, self._indices = channels, indices
        self._series: dict[str, Series] = {}
        self._positions: dict[str, Position] = {}
        for feature in state:
            if isinstance(feature, ContactFeature | EventFeature):
                self._need(self.of_feature(feature), feature.epochs)
        for rule in rules:
            if isinstance(rule, Cap) and rule.epochs > 1:
                self._need(self.of_channel(rule.channel), rule.epochs - 1)
            if isinstance(rule, CoolOff):
                self._need(self.of_event(rule.event), rule.epochs)

    @property
    def series(self) -> Sequence[Series]:
        """Every series, once."""
        return tuple(self._series.values())

    @property
    def positions(self) -> Sequence[Position]:
        """Every position, once."""
        return tuple(self._positions.values())

    def _need(self, series: Series, epochs: int | None) -> None:
        known = self._series.get(series.name)
        self._series[series.name] = series if known is None or series.totals else known
        for back in (0, epochs or 0):
            position = Position(series, back)
            self._positions[position.column] = position

    def of_channel(self, channel: str | None) -> Series:
        """Contacts of a channel (None: of any)."""
        if channel is None:
            return Series("contacts", "contact", "true")
        indices = [str(index) for index, of in self._channels.items() if of == channel]
        return Series(f"channel_{channel}", "contact", f"action in ({', '.join(indices)})" if indices else "false")

    def of_event(self, event_type: str) -> Series:
        """Events of a type."""
        return Series(f"event_{event_type}", "event", f"event_type = {quote_literal(event_type)}")

    def of_feature(self, feature: ContactOrEvent) -> Series:
        """The series that a feature looks back on.

        Raises
        ------
        ProgrammeError
            It names an action that the catalogue does not hold.
        """
        if isinstance(feature, EventFeature):
            events = self.of_event(feature.type)
            if feature.measure == "sum":
                # Its own series: a running total has no place for an event without a value.
                condition = f"{events.condition} and value is not null"
                return Series(f"values_{feature.type}", "event", condition, totals=True)
            return events
        if feature.action is None:
            return self.of_channel(feature.channel)
        index = self._indices.get(feature.action)
        if index is None:
            raise ProgrammeError(
                f"state.{feature.name}.action is {feature.action!r}, which the catalogue does not hold; it holds "
                + ", ".join(self._indices)
            )
        return Series(f"action_{index}", "contact", f"action = {index}")

    def expression(self, feature: ContactOrEvent) -> str:
        """SQL for a feature's value in the epoch that starts on `s.starts_on`."""
        series = self.of_feature(feature)
        position = f"s.{series.before()}"
        match feature.measure:
            case "count":
                return f"least({series.count(feature.epochs)}, 32767)::smallint"
            case "sum":
                earlier = f"s.{series.running}[s.{series.before(feature.epochs)}]" if feature.epochs else "0"
                return f"(coalesce(s.{series.running}[{position}], 0) - coalesce({earlier}, 0))::real"
            case "days_since_first":
                since = f"case when {position} > 0 then s.starts_on - s.{series.days}[1] end"
            case _:
                since = f"s.starts_on - s.{series.days}[{position}]"
                if feature.epochs:
                    since = f"case when {position} > s.{series.before(feature.epochs)} then {since} end"
        return f"least(coalesce({since}, {feature.missing:.0f}), 32767)::smallint"
