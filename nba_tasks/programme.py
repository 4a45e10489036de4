"""One programme: everything a YAML file says about one brand's or country's next-best-action setting."""

from __future__ import annotations

import datetime as dt
import difflib
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

NO_ACTION = "no_action"
MAX_ACTIONS = 31  # eligible sets are stored as 32-bit masks, bit i for the action with index i

Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
"""A name that becomes part of SQL: lower-case letters, digits and underscores, at most 40 characters."""

RelationName = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*(\.[a-zA-Z_][a-zA-Z0-9_]*)?$")]
"""A table or view of the CRM, optionally with its schema."""

Share = Annotated[float, Field(ge=0, le=1)]


class ProgrammeError(ValueError):
    """A programme file that cannot be used; the message names the file, the key and what is allowed."""


class Section(BaseModel):
    """A part of the programme file: unknown keys are refused, values are fixed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Relations(Section):
    """What the contract's relations are called in the CRM. `null` declares that an optional one does not exist."""

    customers: RelationName = "customers"
    contacts: RelationName = "contacts"
    events: RelationName = "events"
    actions: RelationName = "actions"
    customer_changes: RelationName | None = None
    action_changes: RelationName | None = None
    decisions: RelationName = "decisions"
    campaign_list: RelationName = "campaign_list"


class Crm(Section):
    """Where the source database is and what its relations are called."""

    url_variable: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")] = "NBA_CRM_URL"
    relations: Relations = Relations()
    recheck_days: int = Field(90, ge=1, description="days whose rows are compared with the source every night")


class Grid(Section):
    """The decision grid. Stored in the warehouse on the first run; changing it later needs `nba rebuild`."""

    interval_days: int = Field(7, ge=1, le=366)
    anchor: dt.date
    business_timezone: str
    stagger: bool = True
    settlement_lag_days: int = Field(3, ge=0)

    @field_validator("business_timezone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        if zone not in available_timezones():
            near = difflib.get_close_matches(zone, available_timezones(), n=3)
            raise ValueError(f"unknown time zone {zone!r}" + (f"; did you mean {' or '.join(near)}?" if near else ""))
        return zone

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.business_timezone)


class Channel(Section):
    """A channel and the customer column that holds consent to it (`null`: no consent needed)."""

    consent: Identifier | None = None


class Actions(Section):
    """How the action catalogue enters the decision."""

    no_action: bool = True
    features: tuple[Identifier, ...] = Field((), description="numeric columns of the actions relation")


class Event(Section):
    """What one event of a type is worth, and whether it harms or ends the relationship."""

    weight: float = 0.0
    measure: Literal["count", "value"] = "count"
    harm: bool = False
    ends: bool = False


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


Rule = Annotated[Consent | Cap | Range, Field(discriminator="kind")]


class Reward(Section):
    """Outcomes minus costs; the weights stand with the events."""

    charge_costs: bool = True
    lost_customer_value: float | None = Field(
        None, ge=0, description="charge for losing a customer; null: business as usual's value beyond the window"
    )


class Splits(Section):
    """Shares of customers who teach, choose and judge."""

    learn: Share = 0.5
    select: Share = 0.2
    gate: Share = 0.3

    @model_validator(mode="after")
    def _whole(self) -> Splits:
        if abs(self.learn + self.select + self.gate - 1) > 1e-9:
            raise ValueError(f"learn + select + gate must be 1, not {self.learn + self.select + self.gate:g}")
        return self


class Arms(Section):
    """Stable random comparison groups; whoever is in neither is served the policy."""

    holdout: Share = 0.0
    business_as_usual: Share = 0.0

    @model_validator(mode="after")
    def _room_to_serve(self) -> Arms:
        if self.holdout + self.business_as_usual >= 1:
            raise ValueError("holdout + business_as_usual leaves nobody to serve")
        return self


class Learning(Section):
    """Fitted Q iteration over extremely randomised trees."""

    discount: float = Field(0.95, ge=0, le=1, description="γ per decision interval")
    trees: int = Field(60, ge=1)
    min_samples_leaf: int = Field(50, ge=1)
    refits: int = Field(3, ge=1, description="sweeps that grow new trees before their structure is frozen")
    grow_rows: int = Field(200_000, ge=1, description="rows that trees are grown on; leaf averages always use all")
    max_sweeps: int = Field(500, ge=1)
    tolerance: float = Field(1e-3, gt=0, description="stop at this Bellman residual, as a share of the reward's spread")
    max_customers: int | None = Field(None, ge=1, description="learn from a sample of this many customers")


class Layers(Section):
    """What is put between the learned policy and the list."""

    support: Share = Field(
        0.05, description="τ: only actions with at least this share of the likeliest one's propensity"
    )
    mix: float | Literal["auto"] = Field(
        "auto", description="λ, the new policy's share; auto: chosen on the select split"
    )
    epsilon: Share = Field(0.05, description="share of decisions explored at random over supported actions")

    @field_validator("mix")
    @classmethod
    def _share(cls, mix: float | str) -> float | str:
        if isinstance(mix, float) and not 0 < mix <= 1:
            raise ValueError("mix is a share above 0 and at most 1, or auto")
        return mix


class Gate(Section):
    """The test that a candidate must pass; defaults are explained in docs/the-gate.md."""

    horizon: int = Field(4, ge=1, description="h, decisions per window")
    alpha: float = Field(0.05, gt=0, lt=0.5)
    margin: float = Field(0.0, ge=0)
    min_effective_size: float = Field(2000, ge=1)
    min_effective_share: Share = 0.10
    max_weight_share: float = Field(0.01, gt=0, le=1)
    min_propensity: float = Field(1e-3, gt=0, lt=1)
    mean_weight_alpha: float = Field(0.01, gt=0, lt=0.5)
    placebo_alpha: float = Field(0.01, gt=0, lt=0.5)
    max_several_contacts_share: Share = 0.05
    harm_relative: float = Field(0.20, ge=0)
    harm_absolute: float = Field(5e-4, ge=0)
    harm_min_events: float = Field(50, ge=0)
    min_power: float = Field(0.80, gt=0, lt=1)
    select_headroom: float = Field(
        1.5, ge=1, description="ESS on the select split, as a multiple of what the gate asks"
    )


class Validation(Section):
    """How much bad input a night survives."""

    max_quarantined_share: Share = 0.01
    freshness_days: int = Field(3, ge=0, description="the newest event may be this old")
    min_volume_share: Share = Field(0.3, description="yesterday's rows against the median of the last four weeks")


class Review(Section):
    """Who answers a promotion review."""

    auto_promote: bool = False
    reviewers: tuple[str, ...] = ()
    timeout_hours: float = Field(72, gt=0)


class Publish(Section):
    """What the nightly list does where there is no champion yet."""

    serve_version_0: bool = False


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
            if isinstance(rule, Cap) and rule.channel:
                _known(rule.channel, self.channels, f"rules.{rule.name}.channel", "channels")
            if isinstance(rule, Range):
                _known(rule.feature, dict.fromkeys(names), f"rules.{rule.name}.feature", "state")
        if self.learning.discount == 1 and self.reward.lost_customer_value is None:
            raise ValueError("reward.lost_customer_value must be given where learning.discount is 1 (0: costs nothing)")
        return self

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.state)

    @property
    def harms(self) -> tuple[str, ...]:
        return tuple(name for name, event in self.events.items() if event.harm)


def _known(value: str, allowed: dict[str, Any], key: str, where: str) -> None:
    if value not in allowed:
        raise ValueError(f"{key} is {value!r}, which `{where}` does not list; it lists {', '.join(allowed)}")


def read_programme(path: Path) -> Programme:
    """Read and check one programme file.

    Raises
    ------
    ProgrammeError
        The file is missing, is not YAML, or a key is unknown, missing or out of range. One line a fault.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProgrammeError(f"{path}: cannot be read ({error.strerror})") from error
    except yaml.YAMLError as error:
        raise ProgrammeError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ProgrammeError(f"{path}: must hold keys and values; see docs/bring-your-data.md for an example")
    try:
        return Programme.model_validate(content)
    except ValidationError as error:
        faults = "\n".join(f"  {_explain(fault)}" for fault in error.errors())
        raise ProgrammeError(f"{path}: {error.error_count()} fault(s)\n{faults}") from None


def _explain(fault: Any) -> str:
    """One line for one pydantic fault: the key, what is wrong, and what is allowed there."""
    tags = {"customer", "contacts", "events", "time", "consent", "cap", "range"}
    location = fault["loc"]
    # Discriminator values stand in the location behind a list position; the reader's file has no such key.
    parts = [str(p) for i, p in enumerate(location) if not (i and isinstance(location[i - 1], int) and p in tags)]
    key = ".".join(parts) or "(whole file)"
    if fault["type"] == "extra_forbidden":
        allowed = _allowed_keys(location[:-1])
        near = difflib.get_close_matches(parts[-1], allowed, n=1)
        hint = f" did you mean {near[0]}?" if near else ""
        return f"{key}: unknown key;{hint} allowed: {', '.join(allowed)}"
    message = fault["msg"].removeprefix("Value error, ")
    given = fault.get("input")
    shown = f" (found {given!r})" if isinstance(given, (str, int, float, bool)) else ""
    return f"{key}: {message}{shown}"


def _allowed_keys(location: tuple[int | str, ...]) -> list[str]:
    """Keys that the section at `location` knows."""
    section: Any = Programme
    tagged = {
        "state": {
            "customer": CustomerFeature, "contacts": ContactFeature, "events": EventFeature, "time": TimeFeature,
        },
        "rules": {"consent": Consent, "cap": Cap, "range": Range},
        "channels": Channel,
        "events": Event,
    }  # fmt: skip
    if location and location[0] in tagged:
        inner = tagged[str(location[0])]
        section = inner[str(location[2])] if isinstance(inner, dict) and len(location) > 2 else inner
    else:
        for part in location:
            section = section.model_fields[part].annotation
    return list(section.model_fields) if hasattr(section, "model_fields") else []


def read_programmes(folder: Path) -> dict[str, Programme]:
    """Every programme file (`*.yaml`) of a folder, by programme name.

    Raises
    ------
    ProgrammeError
        A file is faulty, or two files name the same programme.
    """
    programmes: dict[str, Programme] = {}
    for path in sorted(folder.glob("*.yaml")):
        programme = read_programme(path)
        if programme.programme in programmes:
            raise ProgrammeError(f"{path}: programme {programme.programme} is already defined by another file")
        programmes[programme.programme] = programme
    return programmes
