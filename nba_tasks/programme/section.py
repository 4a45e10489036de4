"""What every part of a programme file is made of: sections that refuse unknown keys, and the types of names."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
"""A name that becomes part of SQL: lower-case letters, digits and underscores, at most 40 characters."""

RelationName = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*(\.[a-zA-Z_][a-zA-Z0-9_]*)?$")]
"""A table or view of the CRM, optionally with its schema."""

Share = Annotated[float, Field(ge=0, le=1)]


class ProgrammeError(ValueError):
    """A programme file that cannot be used; the message names the file, the key and what is allowed."""


class Section(BaseModel):
    """A part of the programme file: unknown keys are refused, values are fixed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)
