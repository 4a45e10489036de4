"""Samples for the gate's tests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nba_tasks.dataset import Transitions
from nba_tasks.gate import Sample
from nba_tasks.programme import Gate
from nba_tasks.windows import cut_windows
from tests.tiny_mdp import FATIGUE, LOGGING, TinyMdp, by_row

Floats = NDArray[np.float64]

SMALL = Gate(min_effective_size=200, harm_min_events=20)
"""The gate's thresholds for logs of a thousand customers."""

FUTILE = replace(
    FATIGUE,
    move=np.array([[[0.7, 0.3]] * 2, [[0.3, 0.7]] * 2]),
    pays=np.array([[0.25, 0.25], [0.40, 0.40]]),
    ends=np.full((2, 2), 0.02),
)
"""Contacts do nothing at all: every policy is worth the same."""


def make_sample(
    n: int = 1_500,
    seed: int = 0,
    *,
    mdp: TinyMdp = FATIGUE,
    epochs: int = 9,
    horizon: int = 4,
    incumbent: Floats = LOGGING,
    behaviour: Floats = LOGGING,
    harms: tuple[str, ...] = ("left",),
    logged: bool = True,
) -> tuple[Sample, Transitions]:
    """A log by `LOGGING`, judged with what the gate believes to be the `behaviour`."""
    log = mdp.simulate(LOGGING, n, epochs, seed, logged)
    sample = Sample.of(
        log,
        cut_windows(log, horizon),
        behaviour=by_row(behaviour, log),
        incumbent=by_row(incumbent, log),
        discount=0.9,
        harms=harms,
    )
    return sample, log
