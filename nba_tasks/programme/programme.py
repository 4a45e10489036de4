"""One programme: everything a YAML file says about one brand's or country's next-best-action setting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from nba_tasks.programme.conditions import Reader
from nba_tasks.programme.features import ContactFeature, CustomerFeature, EventFeature, Feature
from nba_tasks.programme.rules import Cap, CoolOff, Quiet, Range, Rule, Suppression, Where
from nba_tasks.programme.section import Identifier, Section
from nba_tasks.programme.sections import (
    Actions,
    Arms,
    Channel,
    Crm,
    Event,
    Gate,
    Grid,
    Layers,
    Learning,
    Outcomes,
    Publish,
    Review,
    Reward,
    Rollout,
    Splits,
    Startup,
    Validation,
)


class Programme(Section):
    """One programme file, checked."""

    programme: Identifier
    description: str = ""
    salt: str = Field("1", description="changes every hash; fixed for the life of an installation")
    crm: Crm = Crm()
    grid: Grid
    channels: dict[Identifier, Channel]
    actions: Actions = Actions()
    events: dict[Identifier, Event] = Field(min_length=1)
    state: tuple[Feature, ...] = Field(min_length=1)
    rules: tuple[Rule, ...] = ()
    reward: Reward = Reward()
    splits: Splits = Splits()
    arms: Arms = Arms()
    shards: int = Field(4, ge=1, le=1024)
    learning: Learning = Learning()
    layers: Layers = Layers()
    gate: Gate = Gate()
    validation: Validation = Validation()
    review: Review = Review()
    publish: Publish = Publish()
    startup: Startup = Startup()
    rollout: Rollout = Rollout()
    outcomes: Outcomes = Outcomes()

    @model_validator(mode="after")
    def _names_agree(self) -> Programme:
        names = [feature.name for feature in self.state]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"state: {', '.join(twice)} named twice")
        for feature in self.state:
            if isinstance(feature, EventFeature):
                _known(feature.type, self.events, f"state.{feature.name}.type", "events")
            if isinstance(feature, ContactFeature) and feature.channel:
                _known(feature.channel, self.channels, f"state.{feature.name}.channel", "channels")
        rule_names = [rule.name for rule in self.rules]
        if twice := sorted({name for name in rule_names if rule_names.count(name) > 1}):
            raise ValueError(f"rules: {', '.join(twice)} named twice")
        for rule in self.rules:
            if isinstance(rule, Cap | CoolOff | Suppression | Quiet) and rule.channel:
                _known(rule.channel, self.channels, f"rules.{rule.name}.channel", "channels")
            if isinstance(rule, CoolOff):
                _known(rule.event, self.events, f"rules.{rule.name}.event", "events")
            if isinstance(rule, Where):
                self.condition_sql(rule, {name: name for name in names})
            if isinstance(rule, Range):
                _known(rule.feature, dict.fromkeys(names), f"rules.{rule.name}.feature", "state")
        if self.learning.discount == 1 and self.reward.lost_customer_value is None:
            raise ValueError("reward.lost_customer_value must be given where learning.discount is 1 (0: costs nothing)")
        return self

    def condition_sql(self, rule: Where, columns: Mapping[str, str]) -> str:
        """A rule's condition as SQL.

        Parameters
        ----------
        columns : mapping of feature to its SQL

        Raises
        ------
        ValueError
            The condition cannot be read.
        """
        categories = {f.name: f.categories for f in self.state if isinstance(f, CustomerFeature)}
        try:
            return Reader(rule.condition, columns, categories).sql()
        except ValueError as error:
            raise ValueError(f"rules.{rule.name}.condition {error}") from None

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.state)

    @property
    def flags(self) -> tuple[str, ...]:
        """Columns of the customers that only rules read: true, false or unknown; sorted."""
        consents = {channel.consent for channel in self.channels.values() if channel.consent}
        return tuple(sorted(consents | {rule.column for rule in self.rules if isinstance(rule, Suppression)}))

    @property
    def harms(self) -> tuple[str, ...]:
        return tuple(name for name, event in self.events.items() if event.harm)


def _known(value: str, allowed: dict[str, Any], key: str, where: str) -> None:
    if value not in allowed:
        raise ValueError(f"{key} is {value!r}, which `{where}` does not list; it lists {', '.join(allowed)}")
