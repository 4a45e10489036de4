"""What a report shows beside the verdict, as functions of arrays. Nothing here decides."""

from nba_tasks.gate.exhibits.bands import StateFeature
from nba_tasks.gate.exhibits.choices import ActionShare, Axis, Cell, StateMap
from nba_tasks.gate.exhibits.collection import Exhibits, collect
from nba_tasks.gate.exhibits.reliance import Calibration, CalibrationBin, TailPoint
from nba_tasks.gate.exhibits.segments import Segment
from nba_tasks.gate.exhibits.values import LEARNED, Alternative, ExplorationValue, LearnedGain, PolicyValue

__all__ = [
    "LEARNED",
    "ActionShare",
    "Alternative",
    "Axis",
    "Calibration",
    "CalibrationBin",
    "Cell",
    "Exhibits",
    "ExplorationValue",
    "LearnedGain",
    "PolicyValue",
    "Segment",
    "StateFeature",
    "StateMap",
    "TailPoint",
    "collect",
]
