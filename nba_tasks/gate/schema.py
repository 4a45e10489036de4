"""The machine report's schema: what whoever reads `report.json` or the ledger may rely on."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMA_FILE = Path(__file__).with_name("report_schema.json")


class ReportError(ValueError):
    """A report that does not keep to its schema; the message names the key and the fault."""


@cache
def validator() -> Draft202012Validator:
    """The validator of `report_schema.json`."""
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def checked(content: dict[str, Any]) -> dict[str, Any]:
    """The report itself, if it keeps to its schema.

    Raises
    ------
    ReportError
        Names the first fault and how many there are.
    """
    faults = sorted(validator().iter_errors(content), key=lambda fault: str(fault.json_path))
    if faults:
        first = faults[0]
        raise ReportError(f"report: {len(faults)} fault(s), the first at {first.json_path}: {first.message:.300}")
    return content
