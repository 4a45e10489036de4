"""Airflow's options as the environment variables that set them, read from its own description of them."""

from importlib.util import find_spec
from pathlib import Path

import yaml


def _known() -> frozenset[str]:
    spec = find_spec("airflow")
    assert spec is not None
    assert spec.origin is not None
    description = Path(spec.origin).parent / "config_templates" / "config.yml"
    sections = yaml.safe_load(description.read_text())
    return frozenset(
        f"AIRFLOW__{section}__{option}".upper()
        for section, content in sections.items()
        for option in (content or {}).get("options") or {}
    )


KNOWN = _known()
