"""The sections of a programme file besides its state and its rules: the CRM, the grid, learning, gate, publishing."""

from __future__ import annotations

import datetime as dt
import difflib
import itertools
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, field_validator, model_validator

from nba_tasks.programme.section import Identifier, RelationName, Section, Share

NO_ACTION = "no_action"
MAX_ACTIONS = 31  # eligible sets are stored as 32-bit masks, bit i for the action with index i


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
    """A channel: the customer column that holds consent to it (`null`: no consent needed), and its slots a night."""

    consent: Identifier | None = None
    daily_limit: int | None = Field(None, ge=0, description="contacts a night, over all of its actions; null: no limit")


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
    grow_rows: int = Field(
        200_000, ge=1, description="rows that each tree is grown on; the leaf averages that are kept use all"
    )
    max_sweeps: int = Field(500, ge=1)
    tolerance: float = Field(1e-3, gt=0, description="stop at this Bellman residual, as a share of the reward's spread")
    trace: Share = Field(0.7, description="λ, how much of what follows a decision is what the log saw, not the model")
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
    carve_out: Share = Field(0.05, description="share of the decisions that each new action gets where it is allowed")
    new_until: int = Field(
        500, ge=1, description="decisions for an action that the policy was learned from, from which on it is not new"
    )
    even_share: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="part of scarce slots dealt out in proportion to the wishes, whatever the value",
    )

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
    max_customers: int | None = Field(
        None, ge=1, description="choose, judge and learn the critics on a sample of this many customers each"
    )


class Validation(Section):
    """How much bad input a night survives."""

    max_quarantined_share: Share = 0.01
    freshness_days: int = Field(3, ge=0, description="the newest event may be this old")
    min_volume_share: Share = Field(0.3, description="yesterday's rows against the median of the last four weeks")
    max_vanished_share: Share = Field(0.05, description="scored customers who left the CRM before the list was written")


class Review(Section):
    """Who answers a promotion review."""

    auto_promote: bool = False
    reviewers: tuple[str, ...] = ()
    timeout_hours: float = Field(72, gt=0)


class Publish(Section):
    """What the nightly list does where there is no champion yet, and what it may cost."""

    serve_version_0: bool = False
    budget: float | None = Field(None, ge=0, description="cost of a night's contacts; null: no limit")


class Startup(Section):
    """Until the first promotion: business as usual with a random part, so that one day a gate can decide."""

    explore: Share = Field(
        0.0, description="share of decisions drawn evenly among allowed actions; 0: no start-up mode"
    )
    gain: float | None = Field(
        None,
        gt=0,
        description="gain of a new policy a window that is worth waiting for; null: a quarter of today's value",
    )


class Rollout(Section):
    """How a new champion takes over: by steps, whoever it has not reached keeping to the policy before."""

    steps: tuple[Annotated[int, Field(ge=1, le=100)], ...] = Field(
        (100,), min_length=1, description="per cent of the served customers, rising to 100"
    )
    clean_nights: int | None = Field(
        None, ge=1, description="published nights without alarm before the next step; null: a person takes each step"
    )

    @model_validator(mode="before")
    @classmethod
    def _steps_alone(cls, given: Any) -> Any:
        return {"steps": given} if isinstance(given, list | tuple) else given

    @model_validator(mode="after")
    def _rises(self) -> Rollout:
        if any(a >= b for a, b in itertools.pairwise(self.steps)) or self.steps[-1] != 100:
            raise ValueError(f"steps must rise to 100, as in [10, 50, 100]; they are {list(self.steps)}")
        return self


class Outcomes(Section):
    """When the daily look at what the lists earned raises an alert, and whom it tells."""

    notifier: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*\.[A-Za-z_]\w*$")] | None = Field(
        None, description="dotted path of an Airflow notifier's class; null: alerts are in the log and the table only"
    )
    notifier_arguments: dict[str, Any] = Field({}, description="what the notifier is made with; texts are templates")
    alpha: float = Field(0.05, gt=0, lt=0.5)
    max_differing_share: Share = Field(0.05, description="decisions whose state is known otherwise by now")
    min_delivered_share: Share = Field(0.9, description="listed contacts that were made")
    max_override_share: Share = Field(0.05, description="contacts that no decision asked for")
