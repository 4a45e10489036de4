"""How a season is played: its market, its customers, and the programme file at its size."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace

from bench.study_loop import programme_of
from nba_tasks.programme import Programme
from nba_tasks.simulators.market import DEFAULT

WEEKS = 26
GROW_ROWS = 30_000

TURNED = replace(DEFAULT, mail_effect=0.034, phone_effect=0.02, fatigue=0.8, irritation=1.0)
"""A market that turns: letters and calls at the low end of the simulator's ranges, weariness at the high end."""


@dataclass(frozen=True)
class Setting:
    """How a season is played.

    Attributes
    ----------
    name : str
    first : int
        Number of its first season: no other setting's seasons have the same customers.
    customers : int
    every : int
        Weeks between two trainings.
    trees : int
    usual : float
        Share of customers in the business-as-usual arm.
    turns, retires, adds : int or None
        Week of the season in which the market turns, or letters leave the catalogue; or come into it for the first
        time, having been unknown to the CRM team.
    unlogged : bool
        Whether the CRM team kept no propensities: those of its half-year are estimated.
    luck : int
        Futures in which the truth of a promotion is measured.
    stagger : bool
        Whether the customers' weeks begin on different days.
    gate : pairs of str and number
        Settings of the gate that differ from the programme file's.
    """

    name: str
    first: int = 0
    customers: int = 8_000
    every: int = 1
    trees: int = 12
    usual: float = 0.1
    turns: int | None = None
    retires: int | None = None
    adds: int | None = None
    unlogged: bool = False
    luck: int = 2
    stagger: bool = True
    gate: tuple[tuple[str, float], ...] = ()


def programme_for(setting: Setting, number: int) -> Programme:
    """The demo's programme file at a season's size; a salt of its own gives every season other splits and draws."""
    shipped = programme_of("sales_channels")
    learning = shipped.learning.model_dump() | {"trees": setting.trees, "grow_rows": GROW_ROWS}
    changes = {
        "learning": learning,
        "arms": {"business_as_usual": setting.usual, "holdout": 0.0},
        "grid": shipped.grid.model_dump() | {"stagger": setting.stagger},
        "gate": shipped.gate.model_dump() | dict(setting.gate),
        "salt": f"season {number}",
    }
    return Programme.model_validate(shipped.model_dump() | changes)


def date_of(programme: Programme, epoch: int) -> dt.date:
    """The day on which an epoch begins for customers whose grid is not shifted."""
    return programme.grid.anchor + epoch * dt.timedelta(days=programme.grid.interval_days)
