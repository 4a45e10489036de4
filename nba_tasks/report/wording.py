"""What a gate found, in sentences that need no statistics. Functions of its machine report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nba_tasks.report.numbers import count, percent, plain, signed

Report = Mapping[str, Any]


@dataclass(frozen=True)
class Check:
    """A rule of the gate as a checklist shows it."""

    title: str
    question: str
    status: str
    finding: str
    remedy: str

    @property
    def mark(self) -> str:
        """A sign of one letter."""
        return STATUS[self.status][0]

    @property
    def label(self) -> str:
        """The status in words."""
        return STATUS[self.status][1]


RULES: Mapping[str, tuple[str, str]] = {
    "evidence": ("Enough evidence", "Does the log hold enough decisions like the new policy's to judge it?"),
    "sanity": ("A log that adds up", "Do the logged probabilities describe how decisions were really made?"),
    "placebo": ("No effect before its cause", "Were customers alike before the contact whose effect is measured?"),
    "value": ("A gain", "Is it sure that the new policy earns more than the one in use?"),
    "tail": ("A gain that lasts", "Does what is expected after the tested weeks leave the gain standing?"),
    "agreement": ("Methods agree", "Do estimators that fail in different ways agree on who is ahead?"),
    "propensities": ("Logged by chance", "Were the chances of each decision logged, or had they to be estimated?"),
}
STATUS: Mapping[str, tuple[str, str]] = {
    "pass": ("✓", "met"),
    "note": ("!", "for you to judge"),
    "defer": ("…", "not yet"),
    "reject": ("✗", "broken"),
}
"""Of each status its mark and its name. `note` stands for a rule that never fails, where a person has to decide."""


def checklist(report: Report) -> list[Check]:
    """Every rule, in the gate's order."""
    return [_check(rule) for rule in report["rules"]]


def _check(rule: Mapping[str, Any]) -> Check:
    name = str(rule["rule"])
    if name.startswith("harm:"):
        harm = name.removeprefix("harm:").replace("_", " ")
        title, question = f"No more harm: {harm}", f"Is it sure that {harm} does not rise by more than you allow?"
    else:
        title, question = RULES.get(name, (name.replace("_", " ").capitalize(), ""))
    finding, status = str(rule["finding"]), str(rule["status"])
    if name == "propensities" and status == "pass" and rule["figures"]["logged_share"] < 1:
        status = "note"
    return Check(title, question, status, finding[:1].upper() + finding[1:], str(rule["remedy"] or ""))


def period(horizon: int, interval_days: int) -> str:
    """How long a window lasts: `4 weeks`, `10 days`."""
    days = horizon * interval_days
    number, unit = (days // 7, "week") if days % 7 == 0 else (days, "day")
    return f"{number} {unit}{'' if number == 1 else 's'}"


def confidence(alpha: float) -> str:
    """1 − α as a percentage that is never rounded up: a test with a level is never 100% sure."""
    digits = max(1, math.ceil(-math.log10(alpha)) - 1)
    return f"{math.floor((1 - alpha) * 10 ** (digits + 2)) / 10**digits:.{digits}f}%"


def headline(report: Report, interval_days: int) -> str:
    """The verdict in one sentence."""
    deciding, verdict = report["deciding"], report["verdict"]
    if deciding is None:
        return "Nothing could be judged: the log's probabilities cannot be used as they are."
    over = f"over {period(report['judged']['horizon'], interval_days)}"
    gain, lower, upper = (deciding[key] for key in ("estimate", "lower", "upper"))
    if verdict == "PROMOTE":
        return (
            f"The new policy is better: with it a customer would have been worth about {plain(gain)}"
            f"{_relative(report, gain)} more {over} than with the one in use, and with "
            f"{confidence(deciding['alpha'])} confidence at least {plain(lower)} more."
        )
    if not report["opened"]:
        return (
            "The test was not held: on the customers that are kept for choosing how far to step, no step looked "
            "likely to pass. Nothing was spent; the policy in use goes on."
        )
    broken = [
        rule["rule"] for rule in report["rules"] if rule["status"] == ("reject" if verdict == "REJECT" else "defer")
    ]
    if verdict == "REJECT":
        return _rejected(broken, over, gain, upper, deciding["margin"])
    return _deferred(broken, over, gain, lower, upper)


def _relative(report: Report, gain: float) -> str:
    """The gain as a share of what the policy in use earns; nothing where the report does not know that."""
    rows = (row["value"] for row in report.get("policies") or () if row["kind"] == "incumbent")
    value = next(rows, None)
    return f" ({percent(gain / value)})" if value and value > 0 else ""


def _rejected(broken: list[str], over: str, gain: float, upper: float, margin: float) -> str:
    if "sanity" in broken:
        return "The log does not describe how its decisions were made, so that no estimate from it can be trusted."
    if "value" in broken:
        asked = f", less than the {plain(margin)} that you ask for" if margin > 0 else ""
        return (
            f"The new policy must not be used: with it a customer would have been worth about {_more(gain)} {over} "
            f"than with the one in use, and surely no more than {signed(upper)}{asked}."
        )
    if harms := _harms(broken):
        return f"The new policy must not be used: it surely does more harm than you allow ({harms})."
    return f"The new policy must not be used: what the gate asks under “{_titles(broken)}” is broken."


def _deferred(broken: list[str], over: str, gain: float, lower: float, upper: float) -> str:
    if "value" in broken:
        return (
            f"Not enough evidence yet: with the new policy a customer seems to be worth {_more(gain)} {over} than with "
            f"the one in use, but anything from {signed(lower)} to {signed(upper)} is still possible."
        )
    if any(name.startswith("harm:") for name in broken):
        return (
            f"A customer seems to be worth {_more(gain)} {over} than with the policy in use, but it cannot be excluded "
            f"yet that {_harms(broken)} rises by more than you allow."
        )
    return (
        f"A customer seems to be worth {_more(gain)} {over} than with the policy in use, but that cannot be relied on "
        f"yet: what the gate asks under “{_titles(broken)}” is not met."
    )


def _more(gain: float) -> str:
    return f"{plain(abs(gain))} {'less' if gain < 0 else 'more'}"


def _titles(rules: list[str]) -> str:
    return ", ".join(RULES.get(name, (name, ""))[0] for name in rules)


def _harms(broken: list[str]) -> str:
    return " or ".join(name.removeprefix("harm:").replace("_", " ") for name in broken if name.startswith("harm:"))


@dataclass(frozen=True)
class Tile:
    """A figure that is shown large, with what it means."""

    title: str
    value: str
    meaning: str


def tiles(report: Report, interval_days: int) -> list[Tile]:
    """The figures that matter most."""
    judged, deciding = report["judged"], report["deciding"]
    found = [
        Tile("Judged on", f"{count(judged['customers'])} customers", "nobody learned from them"),
        Tile(
            "Chances logged",
            percent(judged["logged_share"], 0 if judged["logged_share"] in (0, 1) else 1),
            "of the decisions; the rest is estimated" if judged["logged_share"] < 1 else "of the decisions",
        ),
        Tile(
            "The new policy's share",
            percent(report["mix"]),
            "of the choices" + ("; the rest goes on as before" if report["mix"] < 1 else ""),
        ),
    ]
    if deciding is None:
        return found
    over = period(judged["horizon"], interval_days)
    ordinal = {1: "first", 2: "second", 3: "third"}.get(deciding["k"], f"{deciding['k']}th")
    surely = Tile(
        "Surely at least",
        signed(deciding["lower"]),
        f"with {confidence(deciding['alpha'])} confidence; {ordinal} candidate against this policy",
    )
    return [
        Tile("Gain a customer", signed(deciding["estimate"]), f"over {over}, after costs"),
        *([surely] if _proves(report) else []),
        *found,
        Tile(
            "Counts like", f"{count(_effective_size(report))} windows", f"of {count(judged['windows'])}, once weighted"
        ),
    ]


def _proves(report: Report) -> bool:
    """A test that was not held proves nothing, nor does a log that does not describe its own decisions."""
    return bool(report["opened"]) and all(r["status"] != "reject" for r in report["rules"] if r["rule"] == "sanity")


def _effective_size(report: Report) -> float | None:
    """What the candidate's evidence counts like, in windows."""
    for rule in report["rules"]:
        if rule["rule"] == "evidence":
            found: float | None = rule["figures"].get("candidate_effective_size")
            return found
    return None
