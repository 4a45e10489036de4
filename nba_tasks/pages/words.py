"""The page that explains the gate without formulas: the same text as in the documentation."""

from __future__ import annotations

import re
from functools import cache

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from markdown_it import MarkdownIt
from markupsafe import Markup

from nba_tasks.pages.rendering import page
from nba_tasks.settings import REPOSITORY

router = APIRouter()

TEXT = REPOSITORY / "docs" / "the-gate-in-plain-words.md"
LINK = re.compile(r"\[([^\]]+)\]\([^)]+\.md[^)]*\)")


@router.get("/in-plain-words")
def in_plain_words(request: Request) -> HTMLResponse:
    """What a gate, a verdict and each figure mean."""
    return page(request, "words.html", text=_rendered())


@cache
def _rendered() -> Markup:
    """The document as HTML, its links to other documents as mere words: those are not served."""
    text = LINK.sub(r"\1", TEXT.read_text(encoding="utf-8"))
    return Markup(MarkdownIt("commonmark", {"html": False}).enable("table").render(text))
