"""Tables, targets and plots of the study of the gate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from bench.gate_settings import Setting
from bench.replicates import Record
from bench.targets import Target
from nba_tasks.bounds import spent_alpha
from nba_tasks.programme import Gate

ALPHA = Gate().alpha
EVIDENCE_SHARE = 0.8


def exact_interval(count: int, total: int) -> tuple[float, float]:
    """Clopper and Pearson's two-sided 95% interval of a share."""
    found = stats.binomtest(count, total).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


def share(records: Sequence[Record], key: str) -> str:
    """A share in per cent with its interval."""
    count, total = sum(bool(r[key]) for r in records), len(records)
    low, high = exact_interval(count, total)
    return f"{count / total:.2%} ({low:.2%} … {high:.2%})"


def false_promotions(found: Mapping[str, Sequence[Record]]) -> Iterator[str]:
    """The table of promotions where nothing is gained."""
    yield "| point | replicates | rule 1 passes | value test alone | full gate |"
    yield "|---|---|---|---|---|"
    for name, records in found.items():
        evidence = sum(bool(r["evidence"]) for r in records) / len(records)
        row = (name, f"{len(records):,}", f"{evidence:.0%}", share(records, "value"), share(records, "promoted"))
        yield f"| {' | '.join(row)} |"


def false_promotion_targets(found: Mapping[str, Sequence[Record]], quick: bool) -> Iterator[Target]:
    """α must not be exceeded with 95% confidence; a quick run can only fail to refute that."""
    for name, records in found.items():
        low, high = exact_interval(sum(bool(r["promoted"]) for r in records), len(records))
        label = f"false_promotions_{name}"
        yield (
            Target(f"{label}_not_refuted", low, ALPHA, at_most=True)
            if quick
            else Target(label, high, ALPHA, at_most=True)
        )
        yield Target(f"evidence_{name}", sum(bool(r["evidence"]) for r in records) / len(records), EVIDENCE_SHARE)


def coverage(found: Mapping[str, tuple[Setting, Sequence[Record]]]) -> Iterator[str]:
    """The table of misses: how often a lower bound lies above the truth, an upper one below it."""
    yield f"nominal on each side: {spent_alpha(ALPHA, 1):.2%}"
    yield ""
    yield "| market | h | customers | λ | bound | truth below the lower bound | truth above the upper bound |"
    yield "|---|---|---|---|---|---|---|"
    for setting, records in found.values():
        where = (setting.market.replace("_", " "), setting.horizon, f"{setting.customers:,}", setting.mix)
        for bound in records[0]:
            sides = []
            for side in (0, 1):
                count = sum(bool(r[bound][side]) for r in records)
                low, high = exact_interval(count, len(records))
                sides.append(f"{count / len(records):.1%} ({low:.1%} … {high:.1%})")
            yield f"| {' | '.join(map(str, (*where, bound, *sides)))} |"


def curve(found: Mapping[str, tuple[Setting, Sequence[Record]]], gains: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """The table of promotions by true gain."""
    yield "| h | customers | λ | propensities | true gain | value test alone | full gate | missed |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, (setting, records) in found.items():
        value, promoted = (np.mean([r[key] for r in records], axis=0) for key in ("value", "promoted"))
        for i, gain in enumerate(gains[name]):
            missed = f"{1 - promoted[i]:.0%}" if gain > 0 else ""
            row = (setting.horizon, f"{setting.customers:,}", setting.mix, kind(setting), f"{gain:+.1%}")
            yield f"| {' | '.join(map(str, (*row, f'{value[i]:.1%}', f'{promoted[i]:.1%}', missed)))} |"


def kind(setting: Setting) -> str:
    """Where propensities come from."""
    return "logged" if setting.logged else "estimated"


def plot_curve(
    found: Mapping[str, tuple[Setting, Sequence[Record]]], gains: Mapping[str, Sequence[float]], path: Path
) -> None:
    """Promotions against the true gain: value test alone dashed, full gate solid."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 5.5))
    for colour, (name, (setting, records)) in zip(plt.colormaps["tab10"].colors, found.items(), strict=False):  # type: ignore[attr-defined]
        value, promoted = (np.mean([r[key] for r in records], axis=0) for key in ("value", "promoted"))
        x = [100 * gain for gain in gains[name]]
        label = f"h = {setting.horizon}, {setting.customers:,} customers, {kind(setting)}"
        axes.plot(x, 100 * promoted, marker="o", color=colour, label=label)
        axes.plot(x, 100 * value, linestyle="--", color=colour, alpha=0.6)
    axes.axhline(100 * ALPHA, color="black", linewidth=0.8)
    axes.annotate("α = 5%", (axes.get_xlim()[0], 100 * ALPHA), textcoords="offset points", xytext=(4, 4))
    axes.axvline(0, color="grey", linewidth=0.6)
    axes.set_xlabel("true gain of the candidate as published, % of the incumbent's value")
    axes.set_ylabel("promoted, % of logs (dashed: value test alone)")
    axes.set_ylim(-2, 102)
    axes.legend(loc="upper left", fontsize=8)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
