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
    Range,
    Rule,
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
    "read_programme",
    "read_programmes",
]
