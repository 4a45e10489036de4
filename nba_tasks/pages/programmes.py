"""The programme files as the pages read them: again whenever one changes."""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus

from fastapi import HTTPException

from nba_tasks.programme import Programme, read_programmes
from nba_tasks.settings import settings


def programme_named(name: str) -> Programme:
    """A programme's file.

    Raises
    ------
    HTTPException
        404: its file is gone.
    """
    folder = settings().programmes
    stamps = tuple(sorted((path.name, path.stat().st_mtime_ns) for path in folder.glob("*.y*ml")))
    known = _read(stamps)
    if name not in known:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"The programme file of {name} is gone; only its gates are kept.")
    return known[name]


@lru_cache(maxsize=1)
def _read(stamps: tuple[tuple[str, int], ...]) -> dict[str, Programme]:
    return read_programmes(settings().programmes)
