"""Reading programme files: a fault is told by its key and what is allowed there."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, cast, get_args

import yaml
from pydantic import ValidationError

from nba_tasks.programme.features import Feature
from nba_tasks.programme.programme import Programme
from nba_tasks.programme.rules import Rule
from nba_tasks.programme.section import ProgrammeError, Section
from nba_tasks.programme.sections import Channel, Event


def _kinds(union: Any) -> dict[str, type[Section]]:
    """The members of a discriminated union (`Feature`, `Rule`) by the word that tells them apart."""
    members, field = get_args(union)
    return {get_args(member.model_fields[field.discriminator].annotation)[0]: member for member in get_args(members)}


FEATURES, RULES = _kinds(Feature), _kinds(Rule)


def read_programme(path: Path) -> Programme:
    """Read and check one programme file.

    Raises
    ------
    ProgrammeError
        The file is missing, is not YAML, or a key is unknown, missing or out of range. One line a fault.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProgrammeError(f"{path}: cannot be read ({error.strerror})") from error
    except yaml.YAMLError as error:
        raise ProgrammeError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ProgrammeError(f"{path}: must hold keys and values; see docs/bring-your-data.md for an example")
    try:
        return Programme.model_validate(content)
    except ValidationError as error:
        faults = "\n".join(f"  {_explain(fault)}" for fault in error.errors())
        raise ProgrammeError(f"{path}: {error.error_count()} fault(s)\n{faults}") from None


def _explain(fault: Any) -> str:
    """One line for one pydantic fault: the key, what is wrong, and what is allowed there."""
    kinds = {*FEATURES, *RULES}
    location = fault["loc"]
    # Discriminator values stand in the location behind a list position; the reader's file has no such key.
    parts = [str(p) for i, p in enumerate(location) if not (i and isinstance(location[i - 1], int) and p in kinds)]
    key = ".".join(parts) or "(whole file)"
    if fault["type"] == "extra_forbidden":
        allowed = list(_section_at(location[:-1]).model_fields)
        near = difflib.get_close_matches(parts[-1], allowed, n=1)
        hint = f" did you mean {near[0]}?" if near else ""
        return f"{key}: unknown key;{hint} allowed: {', '.join(allowed)}"
    message = fault["msg"].removeprefix("Value error, ")
    given = fault.get("input")
    shown = f" (found {given!r})" if isinstance(given, (str, int, float, bool)) else ""
    return f"{key}: {message}{shown}"


def _section_at(location: tuple[int | str, ...]) -> type[Section]:
    """The section that stands at a place of the file."""
    match location:
        case ("state", _, kind):
            return FEATURES[str(kind)]
        case ("rules", _, kind):
            return RULES[str(kind)]
        case ("channels", _):
            return Channel
        case ("events", _):
            return Event
    section: Any = Programme
    for part in location:
        section = section.model_fields[part].annotation
    return cast(type[Section], section)


def read_programmes(folder: Path) -> dict[str, Programme]:
    """Every programme file (`*.yaml`) of a folder, by programme name.

    Raises
    ------
    ProgrammeError
        A file is faulty, or two files name the same programme.
    """
    programmes: dict[str, Programme] = {}
    for path in sorted(folder.glob("*.yaml")):
        programme = read_programme(path)
        if programme.programme in programmes:
            raise ProgrammeError(f"{path}: programme {programme.programme} is already defined by another file")
        programmes[programme.programme] = programme
    return programmes
