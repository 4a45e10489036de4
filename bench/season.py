"""Half a year of the whole loop: lists, answers, training, gates and promotions, against three other ways to choose.

    python -m bench.season [--quick] [--seasons 200] [--minutes 7]

Every season begins with half a year of the CRM team's own contacts (the sales-channels simulator) and goes on for 26
weeks. The same customers live through them four times, under the same luck: with this project's lists (a tenth of the
customers stay with business as usual), with business as usual, with myopic targeting (greedy on the value of the next
week), and with a contact to everybody who may have one. Learner, mix, gate, layers, draw and the weekly look at
outcomes are the product's own functions; only the databases are left out, and a proposed demotion is followed at once.

Where letters are added the CRM team knows none of them, before and after; our lists draw them for a few by chance until
they are known well enough to be learned about. Where the CRM team kept no propensities, those of its half-year are
estimated, our lists' are logged, and a person approves what the gate would promote.

A promotion's truth is measured when it is made: everybody plays a window under the candidate and under the policy in
use, in futures of the same luck. `--quick` trains once a quarter instead of every week, and plays few seasons.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from scipy.stats import beta
from scipy.stats import t as student

from bench.replicates import Kept, Point, Record, play_all
from bench.season_play import OTHERS, play_season
from bench.season_setting import WEEKS, Setting
from bench.targets import Target, conclude
from nba_tasks.settings import REPOSITORY

CODE = (
    "bench/season_play.py", "bench/season_setting.py", "bench/season_world.py", "dags/programmes/sales_channels.yaml",
    "nba_tasks/programme/sections.py", "nba_tasks/candidate.py", "nba_tasks/critics.py", "nba_tasks/dataset.py",
    "nba_tasks/drawing.py", "nba_tasks/estimators.py", "nba_tasks/hashing.py", "nba_tasks/policy.py",
    "nba_tasks/realised.py", "nba_tasks/train.py", "nba_tasks/trial.py", "nba_tasks/unlogged.py",
    "nba_tasks/windows.py", "nba_tasks/gate/*.py", "nba_tasks/learners/*.py", "nba_tasks/simulators/*.py",
)  # fmt: skip

TURN, RETIREMENT, ADDITION = 6, 13, 4
SOON, LATER = 6, 16
"""Weeks after a turn of the market by which the policy in use must be gone or no worse, and by which it must gain."""

HARMFUL, PROMOTED, GAIN = 0.05, 0.80, 0.03
PICTURE = REPOSITORY / "docs" / "images" / "season.png"
LINES = ("ours", *OTHERS)


def settings(quick: bool) -> tuple[Setting, ...]:
    """The market as it is, one that turns, one from which letters are retired, and one into which they come; and a CRM
    team that kept no propensities. Each has customers of its own, so that no promotion counts twice."""
    every, name = (13, "_quick") if quick else (1, "")
    return (
        Setting(f"season{name}", every=every),
        Setting(f"turn{name}", 1_000, every=every, turns=TURN),
        Setting(f"retirement{name}", 2_000, every=every, retires=RETIREMENT),
        Setting(f"addition{name}", 3_000, every=every, adds=ADDITION),
        Setting(f"unlogged{name}", 4_000, every=every, unlogged=True),
    )


def promotions(records: Sequence[Record]) -> list[dict[str, Any]]:
    return [event for record in records for event in record["events"] if event["verdict"] == "PROMOTE"]


def total(record: Record, line: str, figure: str = "value", first: int = 0, last: int = WEEKS) -> float:
    """A figure of one line, summed over weeks."""
    return float(sum(week[figure] for week in record["weeks"][line][first:last]))


def over_usual(record: Record, line: str, first: int = 0, last: int = WEEKS) -> float:
    """What a way of choosing earned more than business as usual, as a share."""
    return total(record, line, first=first, last=last) / total(record, OTHERS[0], first=first, last=last) - 1


def unsubscribes_per_value(record: Record, line: str) -> float:
    return total(record, line, "unsubscribes") / total(record, line)


def clopper_pearson_upper(found: int, of: int, confidence: float = 0.95) -> float:
    """The upper bound of a share; 1 where nothing was counted."""
    return 1.0 if found == of else float(beta.ppf(confidence, found + 1, of - found))


def targets(
    seasons: Sequence[Record],
    turned: Sequence[Record],
    retired: Sequence[Record],
    added: Sequence[Record],
    unlogged: Sequence[Record],
) -> list[Target]:
    """The promises, as far as seasons were played."""
    found = []
    if seasons:
        made = promotions([*seasons, *turned, *retired, *added, *unlogged])
        harmful = sum(event["true"][0] < 0 for event in made)
        share = float(np.mean([bool(promotions([season])) for season in seasons]))
        gain = float(np.median([over_usual(season, "ours") for season in seasons]))
        ratio = [unsubscribes_per_value(s, "ours") / unsubscribes_per_value(s, OTHERS[0]) for s in seasons]
        found += [
            Target("season_harmful_promotions", clopper_pearson_upper(harmful, len(made)), HARMFUL, at_most=True),
            Target("season_promoted", share, PROMOTED),
            Target("season_gain_over_usual", gain, GAIN),
            Target("season_unsubscribes_per_value", float(np.median(ratio)), 1.0, at_most=True),
        ]
    if turned:
        found += [
            Target("season_turn_soon", share_or_demoted(turned), 0.0),
            Target("season_turn_later", pooled(turned, TURN + LATER, WEEKS), 0.0, strict=True),
        ]
    if retired:
        letters = sum(total(season, "ours", "mail", RETIREMENT) for season in retired)
        found.append(Target("season_letters_after_retirement", letters, 0, at_most=True))
    if added:
        found.append(Target("season_addition_later", pooled(added, ADDITION + LATER, WEEKS), 0.0, strict=True))
    if unlogged:
        found.append(Target("season_unlogged_later", pooled(unlogged, LATER, WEEKS), 0.0, strict=True))
    return found


def share_or_demoted(turned: Sequence[Record]) -> float:
    """Of seasons whose policy was not taken out of use soon after the turn: the gain over business as usual then."""
    kept = [
        season
        for season in turned
        if not any(e["verdict"] == "DEMOTE" and TURN < e["week"] <= TURN + SOON for e in season["events"])
    ]
    return pooled(kept, TURN + SOON, TURN + SOON + 4) if kept else 0.0


def pooled(seasons: Sequence[Record], first: int, last: int) -> float:
    """The gain over business as usual of some weeks, over all seasons together."""
    ours, usual = (sum(total(s, line, first=first, last=last) for s in seasons) for line in ("ours", OTHERS[0]))
    return ours / usual - 1


def print_table(seasons: Sequence[Record]) -> None:
    """Each way of choosing beside the log's: per 1,000 decisions, with 95% intervals over the seasons."""
    print("\nper 1,000 decisions, mean over the seasons (95% interval); a reward point is a euro")
    print(f"{'':24}" + "".join(f"{'log' if line == OTHERS[0] else line:>26}" for line in LINES))
    for name, figure in TABLE.items():
        cells = [interval([figure(season, line) for season in seasons]) for line in LINES]
        print(f"{name:24}" + "".join(f"{cell:>26}" for cell in cells))


def interval(values: Sequence[float]) -> str:
    """Mean and interval of independent seasons."""
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return f"{mean:,.3f}"
    half = float(student.ppf(0.975, n - 1)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return f"{mean:,.3f} ({mean - half:,.3f} to {mean + half:,.3f})"


def _per_thousand(figure: str, season: Record, line: str) -> float:
    return 1_000 * total(season, line, figure) / total(season, line, "decisions")


def _contacts(season: Record, line: str) -> float:
    return sum(total(season, line, channel) for channel in ("email", "mail", "phone"))


TABLE: dict[str, Callable[[Record, str], float]] = {
    "total reward": partial(_per_thousand, "reward"),
    "with lost customers": partial(_per_thousand, "value"),
    "no action": partial(_per_thousand, "no_action"),
    "e-mails": partial(_per_thousand, "email"),
    "letters": partial(_per_thousand, "mail"),
    "calls": partial(_per_thousand, "phone"),
    "cost": partial(_per_thousand, "cost"),
    "reward per contact": lambda season, line: total(season, line, "reward") / _contacts(season, line),
    "cost per reward": lambda season, line: total(season, line, "cost") / total(season, line, "reward"),
    "unsubscribes": partial(_per_thousand, "unsubscribes"),
}


def print_seasons(name: str, seasons: Sequence[Record]) -> None:
    """A line a season, and under it what its gates promised beside what came true."""
    print(f"\n{name}: value over business as usual in {WEEKS} weeks")
    print("season     ours   myopic  everyone  gates opened")
    for number, season in enumerate(seasons):
        shares = "  ".join(f"{over_usual(season, line):+7.1%}" for line in ("ours", "myopic", "everyone"))
        opened = sum(event["verdict"] != "DEMOTE" for event in season["events"])
        print(f"{number:6}  {shares}  {opened:12}")
        for event in season["events"]:
            print(f"        week {event['week']:2}: {_told(event)}")


def _told(event: dict[str, Any]) -> str:
    if event["verdict"] == "DEMOTE":
        return f"demoted, {event['why']}"
    estimate, lower, upper = event["promised"]
    told = (
        f"{event['verdict']} at λ = {event['mix']:.2f}, gain of a window {estimate:+.3f} ({lower:+.3f} to {upper:+.3f})"
    )
    if "true" in event:
        told += f"; in truth {event['true'][0]:+.3f} (s. e. {event['true'][1]:.3f})"
    return told


def draw_picture(seasons: Sequence[Record], path: Path) -> None:
    """Cumulative value over business as usual, contacts, cost and unsubscribes, as means over the seasons."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(11, 7), sharex=True, layout="constrained")
    for axis, (title, names) in zip(axes.flat, PANELS.items(), strict=True):
        for line in LINES:
            weekly = [[sum(week[name] for name in names) for week in s["weeks"][line]] for s in seasons]
            axis.plot(range(1, WEEKS + 1), np.cumsum(np.mean(weekly, axis=0)), label=line)
        axis.set_title(title, loc="left")
    for event in promotions(seasons):
        axes[0, 0].axvline(event["week"], color="black", alpha=0.5 / len(seasons), linewidth=1)
    axes[0, 0].legend(frameon=False)
    for axis in axes[1]:
        axis.set_xlabel("week")
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


PANELS = {
    "cumulative value, € (black: promotions)": ("value",),
    "contacts": ("email", "mail", "phone"),
    "cost, €": ("cost",),
    "unsubscribes": ("unsubscribes",),
}


def main(
    quick: Annotated[bool, typer.Option(help="train once a quarter; few seasons")] = False,
    seasons: Annotated[int | None, typer.Option(min=0, help="of the market as it is")] = None,
    turns: Annotated[int | None, typer.Option(min=0, help="seasons in which the market turns")] = None,
    retirements: Annotated[int | None, typer.Option(min=0, help="seasons in which letters are retired")] = None,
    additions: Annotated[int | None, typer.Option(min=0, help="seasons in which letters are new")] = None,
    unlogged: Annotated[int | None, typer.Option(min=0, help="seasons behind a log without propensities")] = None,
    minutes: Annotated[float | None, typer.Option(help="stop after so many, and go on from there next time")] = None,
    processes: Annotated[int, typer.Option(min=1)] = 2,
    picture: Annotated[Path, typer.Option(help="where the picture goes")] = PICTURE,
) -> None:
    """Play seasons; exits 1 where a target falls short, 75 where seasons are left."""
    asked = (seasons, turns, retirements, additions, unlogged)
    usual = (3, 1, 1, 1, 1) if quick else (200, 30, 10, 10, 10)
    counts = [given if wanted is None else wanted for wanted, given in zip(asked, usual, strict=True)]
    played = settings(quick)
    points = [
        Point(setting.name, partial(play_season, setting), count, batch=1)
        for setting, count in zip(played, counts, strict=True)
    ]
    records = play_all(points, Kept("season", CODE), processes=processes, minutes=minutes)
    found = [records[setting.name] for setting in played]
    for setting, some in zip(played, found, strict=True):
        if some:
            print_seasons(setting.name, some)
    if found[0]:
        print_table(found[0])
        draw_picture(found[0], picture)
        print(f"\npicture: {picture}")
    made = promotions([record for some in found for record in some])
    print(f"\n{sum(map(len, found))} seasons, {len(made)} promotions")
    conclude(targets(*found))


if __name__ == "__main__":
    typer.run(main)
