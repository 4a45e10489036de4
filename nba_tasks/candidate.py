"""A candidate before the gate: its mix is chosen on the select split, it is judged on the gate split; only arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nba_tasks import unlogged
from nba_tasks.capacity import Prices
from nba_tasks.critics import Critics, Loss, Near
from nba_tasks.dataset import Catalogue, Transitions
from nba_tasks.estimators import charged
from nba_tasks.gate import MIXES, MixChoice, Sample, Verdict, choose_mix, judge
from nba_tasks.loading import Split
from nba_tasks.policy import ServedPolicy
from nba_tasks.programme import Programme

if TYPE_CHECKING:
    from nba_tasks.trial import Side


@dataclass(frozen=True)
class Trial:
    """A candidate before the gate: every part is computed when it is first asked for.

    Attributes
    ----------
    served : ServedPolicy
        The learned policy behind its layers; its mix is chosen here.
    sides : mapping of split to Side
        Learn (for the critics), select and gate.
    k : int
        How many candidates this incumbent has faced, this one included.
    """

    programme: Programme
    catalogue: Catalogue
    served: ServedPolicy
    sides: Mapping[Split, Side]
    k: int = 1

    @cached_property
    def loss(self) -> Loss:
        return Loss.of(self.programme, self.sides["learn"].data)

    @cached_property
    def critics(self) -> Critics:
        return Critics(self.programme, self.catalogue, self.served, self.sides["learn"], self.loss)

    def sample(self, split: Split) -> Sample:
        side = self.sides[split]
        return side.sample(self.programme, self.loss.charge(side.data))

    @cached_property
    def choosing(self) -> Sample:
        """The select split's windows."""
        return self.sample("select")

    @cached_property
    def foreseen(self) -> Near:
        """The critics on the select split."""
        return self.critics.near(self.mixes, self.sides["select"])

    @property
    def mixes(self) -> tuple[float, ...]:
        layers = self.programme.layers
        return MIXES if layers.mix == "auto" else (layers.mix,)

    @cached_property
    def choice(self) -> MixChoice:
        """The mix that is chosen on the select split, if any promises to pass."""
        select, learn = self.sides["select"], self.sides["learn"]
        return choose_mix(
            self.choosing,
            select.candidates(self.served),
            self.programme.gate,
            gate_customers=len(np.unique(self.sides["gate"].windows.customer)),
            mixes=self.mixes,
            k=self.k,
            critics_at=self.foreseen,
            taught=(self.sample("learn"), learn.candidates(self.served)),
        )

    @property
    def mix(self) -> float:
        """The chosen mix; where none qualifies, the one likeliest to pass, or the smallest where nothing is known."""
        forecasts = self.choice.forecasts
        likeliest = max(forecasts, key=lambda forecast: forecast.power).mix if forecasts else min(self.mixes)
        return self.choice.mix or likeliest

    @cached_property
    def judged(self) -> Sample:
        """The gate split's windows."""
        return self.sample("gate")

    @cached_property
    def modelled(self) -> Near:
        """The critics on the gate split."""
        return self.critics.near((self.mix,), self.sides["gate"])

    @cached_property
    def verdict(self) -> Verdict:
        programme, side = self.programme, self.sides["gate"]
        learn = self.sides["learn"]
        return judge(
            self.judged,
            side.candidate(self.served, self.mix),
            programme.gate,
            k=self.k,
            critics=self.modelled(self.mix),
            placebo=unlogged.placebo_of(learn, side, self.judged),
            tail_gain=self.critics.tail_gain(self.mix, side),
            yardstick=unlogged.yardstick_of(
                self.served.behaviour, learn.data, side, self.judged, programme.feature_names
            ),
            weeks=_weeks(programme, side.data),
            interval_days=programme.grid.interval_days,
            reward_range=self.reward_range,
        )

    @property
    def reward_range(self) -> tuple[float, float]:
        """Lowest and highest reward of a decision among the learn split's customers."""
        data = self.sides["learn"].data
        earned = charged(data.reward, data.lost, self.loss.charge(data))[~data.open]
        return float(earned.min()), float(earned.max())

    @property
    def prices(self) -> Prices | None:
        """Of the candidate at its mix."""
        night = self.sides["gate"].night
        return night.of_candidate(self.served, self.mix) if night else None


def _weeks(programme: Programme, data: Transitions) -> float:
    """Length of the log, for remedies in weeks."""
    return float(np.ptp(data.epoch) + 1) * programme.grid.interval_days / 7
