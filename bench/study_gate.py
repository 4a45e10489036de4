"""How often the gate errs, counted over thousands of logs whose truth is known exactly.

    python -m bench.study_gate [--quick] [--minutes 7] [--part false-promotions]

False promotions: candidates whose true gain is exactly 0, the hardest case, with λ so large that rule 1 only just lets
them pass. Clopper and Pearson's two-sided 95% interval of the share promoted must end at or below α. The first
candidate spends α₁ = 3.04% of it, so that 2,000 replicates suffice.

Coverage: each bound against the truth. Operating curve: promotions by the true gain of what would be published.

What was played is kept under the state folder: a run that was cut off, or ended by --minutes (exit status 75), goes on
where it stopped. --quick plays a few replicates of everything, and its targets say only that nothing is refuted.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Literal

import typer

from bench import gate_report as report
from bench.gate_plays import (
    FIRST_LOOK,
    LOOKS,
    NIGHTLY,
    play_coverage,
    play_curve,
    play_family,
    play_fixed,
    play_looks,
)
from bench.gate_settings import Setting
from bench.replicates import Kept, Point, Record, play_all
from bench.targets import Target, conclude

Part = Literal["false-promotions", "coverage", "curve"]
PARTS: tuple[Part, ...] = ("false-promotions", "coverage", "curve")

CODE = (
    "bench/gate_plays.py",
    "bench/gate_settings.py",
    "nba_tasks/bounds.py",
    "nba_tasks/estimators.py",
    "nba_tasks/windows.py",
    "nba_tasks/gate/*.py",
    "nba_tasks/simulators/tabular.py",
)
"""What the figures depend on."""

REPLICATES = 2_000

FIXED = (
    Setting("horizon_1", 1, 5_000, 1.0),
    Setting("horizon_4", 4, 2_500, 0.6),
    Setting("horizon_8", 8, 2_300, 0.4),
    Setting("harm_heavy", 4, 3_000, 0.45, market="harm_heavy"),
)
LOOKING = Setting("nightly_looks", 4, FIRST_LOOK + NIGHTLY * (LOOKS - 1), 0.5, windows=1)
FAMILY = Setting("fifty_candidates", 2, 2_700, 0.35, windows=1)
REPORTED = (
    Setting("estimated_propensities", 4, 2_500, 0.5, logged=False),
    Setting("staggered_and_ended", 4, 5_000, 0.5, staggered=True),
    Setting("another_policy_logged", 4, 3_500, 0.3, incumbent="another"),
)
COVERED = (
    *(Setting(f"h4_{n}_{mix}", 4, n, mix) for n in (500, 2_000, 8_000) for mix in (0.2, 0.6)),
    Setting("h1_2000", 1, 2_000, 1.0),
    Setting("h8_2000", 8, 2_000, 0.4),
    *(Setting(f"harm_heavy_{n}", 4, n, 0.45, market="harm_heavy") for n in (500, 2_000, 8_000)),
    Setting("estimated_2000", 4, 2_000, 0.4, logged=False),
)
GAINS = (-0.05, -0.025, 0.0, 0.025, 0.05, 0.075, 0.10)
CURVES = (
    Setting("curve_h1", 1, 5_000, 0.5),
    Setting("curve_h4", 4, 2_500, 0.4),
    Setting("curve_h4_large", 4, 10_000, 0.4),
    Setting("curve_h8", 8, 2_300, 0.35),
    Setting("curve_estimated", 4, 2_500, 0.4, logged=False),
    Setting("curve_estimated_large", 4, 10_000, 0.4, logged=False),
)


def points(part: Part, quick: bool) -> Iterator[Point]:
    """What a part plays."""
    if part == "false-promotions":
        for setting in FIXED:
            yield Point(setting.name, partial(play_fixed, setting), 40 if quick else REPLICATES)
        yield Point(LOOKING.name, partial(play_looks, LOOKING), 20 if quick else REPLICATES, batch=10)
        yield Point(FAMILY.name, partial(play_family, FAMILY), 20 if quick else REPLICATES, batch=10)
        for setting in REPORTED:
            yield Point(setting.name, partial(play_fixed, setting), 6 if quick else 1_000)
    elif part == "coverage":
        for setting in COVERED:
            yield Point(setting.name, partial(play_coverage, setting), 6 if quick else 600)
    else:
        for setting in CURVES:
            full = 100 if setting.customers >= 10_000 else 300
            yield Point(setting.name, partial(play_curve, setting, GAINS), 4 if quick else full, batch=5)


def main(
    quick: Annotated[bool, typer.Option(help="a few replicates of everything")] = False,
    minutes: Annotated[float | None, typer.Option(help="stop then; a later run goes on")] = None,
    part: Annotated[list[str] | None, typer.Option(help="one of the parts; all if left out")] = None,
    processes: Annotated[int, typer.Option(min=1, help="how many play side by side")] = 2,
    first: Annotated[str | None, typer.Option(help="a point that is played before the others")] = None,
) -> None:
    """Count the gate's errors; exits 1 where a target falls short."""
    parts = [name for name in PARTS if not part or name in part]
    if unknown := set(part or ()) - set(PARTS):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}; the parts are {', '.join(PARTS)}")
    kept, targets = Kept("gate", CODE), list[Target]()
    played = [point for name in parts for point in points(name, quick)]
    played.sort(key=lambda point: point.name != first)
    found = play_all(played, kept, processes=processes, minutes=minutes)
    for name in parts:
        print(f"\n{name}")
        if name == "false-promotions":
            print(*report.false_promotions({p.name: found[p.name] for p in points(name, quick)}), sep="\n")
            key = {s.name: found[s.name] for s in (*FIXED, LOOKING, FAMILY)}
            targets += report.false_promotion_targets(key, quick)
            _families(found[FAMILY.name], found[LOOKING.name])
        elif name == "coverage":
            print(*report.coverage({s.name: (s, found[s.name]) for s in COVERED}), sep="\n")
        else:
            curves, gains = {s.name: (s, found[s.name]) for s in CURVES}, {s.name: GAINS for s in CURVES}
            print(*report.curve(curves, gains), sep="\n")
            picture = kept.folder / "operating-curve.png"
            report.plot_curve(curves, gains, picture)
            print(f"plot: {picture}")
    print()
    conclude(targets)


def _families(family: list[Record], looks: list[Record]) -> None:
    begun, failed = sum(r["families"] for r in family), sum(r["failed"] for r in family)
    print(f"incumbents in the rows of fifty: {begun:,}, of which {failed:,} were replaced by a worthless candidate")
    fixed = sum(r["one_look_bound"] for r in looks) / len(looks)
    print(f"a bound for one look, applied nightly, would have passed the value test once in {fixed:.1%} of the runs")


if __name__ == "__main__":
    typer.run(main)
