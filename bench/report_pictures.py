"""The pictures of docs/the-gate.md: a gate of the demo's simulated retailer, drawn as MLflow shows it.

    python -m bench.report_pictures [--seed 1] [--customers 20000]

Plays a history, learns from it and holds the gate by the product's own functions, then writes docs/images/report-*.png.
Takes about a minute on two free cores.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from bench.study_loop import CUSTOMERS, catalogue_of, programme_of, split_customers
from nba_tasks.gate.schema import checked
from nba_tasks.learners.look_alikes import LookAlikes
from nba_tasks.policy import ServedPolicy
from nba_tasks.report import Report, pictures_of
from nba_tasks.settings import REPOSITORY
from nba_tasks.simulators import sales_channels
from nba_tasks.simulators.market import DEFAULT, Market
from nba_tasks.train import fit
from nba_tasks.trial import judge_candidate, sides_of

IMAGES = REPOSITORY / "docs" / "images"

SHOWN = ("values", "ahead", "outcomes", "segments", "state_map", "weight_tail", "calibration", "value_by_epsilon")
"""What the documentation shows."""


def report_of(customers: int, seed: int, market: Market = DEFAULT) -> Report:
    """The machine report of one history's first gate."""
    programme = programme_of("sales_channels")
    simulation = sales_channels.simulate(customers, seed, market)
    grid, played = simulation.grid, sales_channels.to_transitions(simulation)
    settled = np.sum([grid.settled(epoch) for epoch in grid.epochs], axis=0)
    last_epoch = grid.epochs.start + settled - 1
    splits = split_customers(programme, played, last_epoch[np.searchsorted(grid.customer, played.customer)])
    catalogue = catalogue_of(programme, sales_channels.catalogue(market), grid.as_of)
    learn, layers = splits["learn"].transitions, programme.layers
    behaviour, fitted = fit(programme, learn, catalogue, seed)
    served = ServedPolicy(behaviour, fitted.q, behaviour, support=layers.support, mix=1.0, epsilon=layers.epsilon)
    sides = sides_of(programme, splits, served)
    look_alikes = LookAlikes.fit(fitted.q, learn, programme.learning.discount)
    held = judge_candidate(programme, catalogue, served, sides, look_alikes=look_alikes)
    links = {"mlflow_run_id": f"bench.report_pictures, seed {seed}", "dag_run_id": None}
    return checked(held.to_dict(2, 1) | {"links": links})


def write(report: Report, interval_days: int, folder: Path) -> None:
    """Draw what the documentation shows."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, png in pictures_of(report, interval_days).items():
        if name in SHOWN:
            (folder / f"report-{name.replace('_', '-')}.png").write_bytes(png)


def main(
    seed: Annotated[int, typer.Option()] = 1,
    customers: Annotated[int, typer.Option(min=100)] = CUSTOMERS,
    folder: Annotated[Path, typer.Option(help="where the pictures go")] = IMAGES,
) -> None:
    """Hold a gate and draw it."""
    report = report_of(customers, seed)
    write(report, programme_of("sales_channels").grid.interval_days, folder)
    print(f"{report['verdict']}: {len(SHOWN)} pictures in {folder}")


if __name__ == "__main__":
    typer.run(main)
