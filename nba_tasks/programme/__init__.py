"""A programme: what one YAML file says about one brand's or country's next-best-action setting, read and checked."""

from nba_tasks.programme.features import (
    ContactFeature,
    CustomerFeature,
    EventFeature,
    Feature,
    TimeFeature,
)
from nba_tasks.programme.files import (
    read_programme,
    read_programmes,
)
from nba_tasks.programme.programme import (
    Programme,
)
from nba_tasks.programme.rules import (
    Cap,
    Consent,
    CoolOff,
    Quiet,
    Range,
    Rule,
    Where,
)
from nba_tasks.programme.section import (
    ProgrammeError,
    Section,
)
from nba_tasks.programme.sections import (
    MAX_ACTIONS,
    NO_ACTION,
    Actions,
    Arms,
    Channel,
    Crm,
    Event,
    Gate,
    Grid,
    Layers,
    Learning,
    Outcomes,
    Publish,
    Relations,
    Review,
    Reward,
    Splits,
    Startup,
    Validation,
)

__all__ = [
    "MAX_ACTIONS",
    "NO_ACTION",
    "Actions",
    "Arms",
    "Cap",
    "Channel",
    "Consent",
    "ContactFeature",
    "CoolOff",
    "Crm",
    "CustomerFeature",
    "Event",
    "EventFeature",
    "Feature",
    "Gate",
    "Grid",
    "Layers",
    "Learning",
    "Outcomes",
    "Programme",
    "ProgrammeError",
    "Publish",
    "Quiet",
    "Range",
    "Relations",
    "Review",
    "Reward",
    "Rule",
    "Section",
    "Splits",
    "Startup",
    "TimeFeature",
    "Validation",
    "Where",
    "read_programme",
    "read_programmes",
]
