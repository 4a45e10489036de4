"""The gate: the test that a candidate must pass before it may replace the incumbent."""

from nba_tasks.gate.figures import Figure, OutcomeFigure
from nba_tasks.gate.mixing import MIXES, MixChoice, MixForecast, choose_mix
from nba_tasks.gate.placebo import BeforeContact, Placebo
from nba_tasks.gate.rules import Deciding, RuleResult
from nba_tasks.gate.sample import GateError, Sample, check_splits
from nba_tasks.gate.sensitivity import Sensitivity, Yardstick
from nba_tasks.gate.verdict import SCHEMA, Judged, Verdict, judge

__all__ = [
    "MIXES",
    "SCHEMA",
    "BeforeContact",
    "Deciding",
    "Figure",
    "GateError",
    "Judged",
    "MixChoice",
    "MixForecast",
    "OutcomeFigure",
    "Placebo",
    "RuleResult",
    "Sample",
    "Sensitivity",
    "Verdict",
    "Yardstick",
    "check_splits",
    "choose_mix",
    "judge",
]
