"""A gate's charts as pictures (PNG) for MLflow and the documentation; the pages draw the same charts in the browser.

Colours are Okabe and Ito's, which the colour-blind can tell apart; marks differ in shape as well.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nba_tasks.report.chart import Chart
from nba_tasks.report.numbers import percent, plain, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]

WIDTH = 8.0
"""Inches."""

COLOURS = {
    "candidate": "#0072b2", "incumbent": "#d55e00", "log": "#000000", "baseline": "#5f6b73", "other": "#5f6b73",
}  # fmt: skip
MARKS = {"candidate": "o", "incumbent": "s", "log": "D", "baseline": "^", "other": "^"}
GREY, TINT = "#8a8f94", "#0072b2"


def picture(chart: Chart) -> bytes:
    """Draw one chart with its title; PNG."""
    buffer = io.BytesIO()
    drawn(chart).savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def drawn(chart: Chart) -> Figure:
    """One chart with its title."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 4.0), layout="constrained")
    figure.suptitle(chart.title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    DRAWN[chart.kind](figure, chart)
    return figure


def _forest(figure: Figure, chart: Chart) -> None:
    """Estimates with their ranges, one a line, under a heading where they come in groups."""
    lines: list[Row] = []
    for row in chart.data["rows"]:
        if "group" in row and (not lines or lines[-1].get("group") != row["group"]):
            lines.append({"heading": row["group"], "group": row["group"]})
        lines.append(row)
    labels = [_wrapped(row.get("heading", row.get("label", ""))) for row in lines]
    heights = [max(1.0, 0.62 * (1 + label.count("\n"))) for label in labels]
    places = [sum(heights[:i]) + height / 2 for i, height in enumerate(heights)]
    figure.set_figheight(1.35 + 0.27 * sum(heights) + (0.3 if chart.legend else 0))
    axes = figure.subplots()
    share = bool(chart.data.get("percent"))
    form: Callable[[Any], str] = _signed_percent if share else signed if chart.data.get("zero") else plain
    seen: set[str] = set()
    for position, row in zip(places, lines, strict=True):
        if "heading" in row or row["value"] is None:
            continue
        colour, mark = COLOURS[row["kind"]], MARKS[row["kind"]]
        if row["lower"] is not None and row["upper"] is not None:
            axes.plot([row["lower"], row["upper"]], [position] * 2, color=colour, lw=1.8, solid_capstyle="butt")
        label = chart.legend.get(row["kind"]) if row["kind"] not in seen else None
        seen.add(row["kind"])
        axes.plot(row["value"], position, mark, color=colour, ms=6, label=label)
        text = f"{form(row['value'])}  ({form(row['lower'])} to {form(row['upper'])})"
        axes.annotate(text, (1.02, position), xycoords=("axes fraction", "data"), va="center", fontsize=8)
    if chart.data.get("zero"):
        axes.axvline(0, color=GREY, lw=1, zorder=0)
    axes.set_yticks(places, labels)
    for tick, row in zip(axes.get_yticklabels(), lines, strict=True):
        tick.set_fontweight("bold" if "heading" in row else "normal")
    axes.set_ylim(sum(heights) + 0.1, -0.1)
    axes.tick_params(axis="y", length=0)
    _finish(axes, chart.data["x"], "", percent_x=share)
    axes.spines["left"].set_visible(False)
    if chart.legend:
        figure.legend(loc="outside lower left", ncols=4, frameon=False, fontsize=9)


def _shares(figure: Figure, chart: Chart) -> None:
    """Shares of the actions, a bar for each policy."""
    rows, series = chart.data["rows"], chart.data["series"]
    figure.set_figheight(1.5 + 0.75 * len(rows))
    axes = figure.subplots()
    height = 0.8 / len(series)
    for number, (key, name) in enumerate(series.items()):
        places = [position + (number - (len(series) - 1) / 2) * height for position in range(len(rows))]
        shares = [row[key] or 0.0 for row in rows]
        axes.barh(places, shares, height * 0.9, color=COLOURS[key], label=name)
        for place, share in zip(places, shares, strict=True):
            axes.annotate(
                percent(share, 1), (share, place), (4, 0), textcoords="offset points", va="center", fontsize=8
            )
    axes.set_yticks(range(len(rows)), [_wrapped(row["label"]) for row in rows])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.tick_params(axis="y", length=0)
    _finish(axes, chart.data["x"], "", percent_x=True)
    figure.legend(loc="outside lower left", ncols=len(series), frameon=False, fontsize=9)


def _lines(figure: Figure, chart: Chart) -> None:
    """Curves; the weight's tail on logarithmic axes, where its heavy end can be seen."""
    axes = figure.subplots()
    smallest = 1.0
    for number, line in enumerate(chart.data["lines"]):
        x, y = zip(*line["points"], strict=True)
        smallest = min(smallest, *x)
        axes.plot(x, y, ("-", "--")[number % 2], marker=MARKS[line["kind"]], ms=4, color=COLOURS[line["kind"]],
                  label=line["label"])  # fmt: skip
    if chart.data.get("diagonal"):
        even = [smallest * (1 / smallest) ** (step / 50) for step in range(51)]
        axes.plot(even, even, ":", color=GREY, lw=1.2, label="if all counted alike")
    axes.set_xscale("log")
    axes.set_yscale("log")
    _finish(axes, chart.data["x"], chart.data["y"], percent_x=True, percent_y=True)
    axes.legend(frameon=False, fontsize=9)


def _calibration(figure: Figure, chart: Chart) -> None:
    """Predicted against observed shares, a panel for each action."""
    panels = chart.data["panels"]
    across = min(len(panels), 4)
    down = -(-len(panels) // across)
    figure.set_size_inches(max(WIDTH, 2.2 * across), 2.3 * down + 0.9)
    grid = figure.subplots(down, across, squeeze=False)
    for axes, panel in zip(grid.flat, panels, strict=False):
        x, y = ([one[key] for one in panel["bins"]] for key in ("predicted", "observed"))
        # A share of exactly 0 or 1 may lie outside its range by rounding.
        below = [max(0.0, one["observed"] - one["lower"]) for one in panel["bins"]]
        above = [max(0.0, one["upper"] - one["observed"]) for one in panel["bins"]]
        end = 1.05 * max(*x, *y, *(one["upper"] for one in panel["bins"]), 0.01)
        axes.plot([0, end], [0, end], color=GREY, lw=1, zorder=0)
        axes.errorbar(x, y, yerr=[below, above], fmt="o", ms=4, color=TINT, elinewidth=1.2)
        axes.set_xlim(0, end)
        axes.set_ylim(0, end)
        axes.set_aspect("equal")
        axes.locator_params(nbins=4)
        lines = [_wrapped(part, 21) for part in panel["label"].split(": ")]
        axes.set_title("\n".join(lines), fontsize=9)
        _finish(axes, "", "", percent_x=True, percent_y=True)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    figure.supxlabel("predicted by the model", fontsize=9)
    figure.supylabel("really taken", fontsize=9)


def _band(figure: Figure, chart: Chart) -> None:
    """A value and its range over a share."""
    axes = figure.subplots()
    rows = [row for row in chart.data["rows"] if row["value"] is not None]
    x = [row["x"] for row in rows]
    bounded = [row for row in rows if row["lower"] is not None and row["upper"] is not None]
    axes.fill_between(
        [row["x"] for row in bounded], [row["lower"] for row in bounded], [row["upper"] for row in bounded],
        color=TINT, alpha=0.2, lw=0, label="range that the log leaves open",
    )  # fmt: skip
    axes.plot(x, [row["value"] for row in rows], "-o", ms=4, color=TINT, label="estimate")
    _finish(axes, chart.data["x"], chart.data["y"], percent_x=True)
    axes.legend(frameon=False, fontsize=9)


def _mix(figure: Figure, chart: Chart) -> None:
    """What the customers kept for choosing promise of every share."""
    axes = figure.subplots()
    rows, x = chart.data["rows"], [row["x"] for row in chart.data["rows"]]
    axes.axhline(0, color=GREY, lw=1, zorder=0)
    axes.plot(x, _numbers(rows, "value"), "-o", ms=4, color=COLOURS["candidate"], label=chart.legend["candidate"])
    axes.plot(x, _numbers(rows, "lower"), "--s", ms=4, color=COLOURS["incumbent"], label=chart.legend["log"])
    if (chosen := chart.data["chosen"]) is not None:
        axes.axvline(chosen, color=GREY, lw=1.2, ls=":", label=f"chosen: {percent(chosen)}")
    _finish(axes, chart.data["x"], chart.data["y"], percent_x=True)
    axes.legend(frameon=False, fontsize=9)


def _map(figure: Figure, chart: Chart) -> None:
    """The action chosen most often in each field; the darker the field, the higher its value."""
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.colors import Normalize

    x, y, cells = chart.data["x"], chart.data["y"], chart.data["cells"]
    figure.set_size_inches(max(WIDTH, 1.5 + 1.15 * len(x["ticks"])), 1.8 + 0.62 * len(y["ticks"]))
    axes = figure.subplots()
    value = np.full((len(y["ticks"]), len(x["ticks"])), np.nan)
    for cell in cells:
        value[cell["y"], cell["x"]] = np.nan if cell["value"] is None else cell["value"]
    shown = axes.pcolormesh(value, cmap="cividis_r", norm=Normalize(*_span(value)), edgecolors="white", lw=1.5)
    for cell in cells:
        place = value[cell["y"], cell["x"]]
        shade = colormaps["cividis_r"](shown.norm(place)) if np.isfinite(place) else (1, 1, 1)
        dark = 0.299 * shade[0] + 0.587 * shade[1] + 0.114 * shade[2] < 0.5
        text = f"{_wrapped(cell['action_id'], 14)}\n{percent(cell['share'])}"
        axes.text(cell["x"] + 0.5, cell["y"] + 0.5, text, ha="center", va="center", fontsize=8,
                  color="white" if dark else "black")  # fmt: skip
    axes.set_xticks([i + 0.5 for i in range(len(x["ticks"]))], [_wrapped(t, 14) for t in x["ticks"]])
    axes.set_yticks([i + 0.5 for i in range(len(y["ticks"]))], [_wrapped(t) for t in y["ticks"]])
    axes.tick_params(length=0)
    _finish(axes, x["label"], y["label"])
    axes.spines[["left", "bottom"]].set_visible(False)
    figure.colorbar(shown, label="expected value from then on", aspect=14, shrink=0.9)


DRAWN: Mapping[str, Callable[[Figure, Chart], None]] = {
    "forest": _forest,
    "shares": _shares,
    "lines": _lines,
    "calibration": _calibration,
    "band": _band,
    "mix": _mix,
    "map": _map,
}


def _finish(axes: Axes, x: str, y: str, *, percent_x: bool = False, percent_y: bool = False) -> None:
    """What all pictures share: labels, shares as percentages, no box."""
    from matplotlib.ticker import FuncFormatter

    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8.5)
    axes.spines[["top", "right"]].set_visible(False)
    for axis, wanted in ((axes.xaxis, percent_x), (axes.yaxis, percent_y)):
        if wanted:
            axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.4g}%".replace("-", "−")))


def _span(value: Any) -> tuple[float, float]:
    """The lowest and the highest number; a little apart where they are one."""
    import numpy as np

    low, high = (float(np.nanmin(value)), float(np.nanmax(value))) if np.isfinite(value).any() else (0.0, 0.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _numbers(rows: Sequence[Row], key: str) -> list[float]:
    return [float("nan") if row[key] is None else float(row[key]) for row in rows]


def _signed_percent(share: float | None) -> str:
    return percent(share, 1) if share is None or share <= 0 else f"+{percent(share, 1)}"


def _wrapped(text: str, width: int = 28) -> str:
    """Long names over several lines; `$` is only itself."""
    return "\n".join(textwrap.wrap(text, width)).replace("$", r"\$")
