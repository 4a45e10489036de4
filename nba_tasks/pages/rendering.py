"""From a template to a response: figures in words, and the headers that keep a page to this machine."""

from __future__ import annotations

import datetime as dt
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse

from nba_tasks.report.numbers import count, percent, plain, signed

HERE = Path(__file__).parent
STATIC = HERE / "static"

PLOT_STYLE = "'sha256-+TfQir1nvDucAdvE6XUQBt4ayUjpAWkbw2kCdSfekHM='"
"""The one style element that the chart library writes itself, allowed by what it says."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        f"style-src 'self' {PLOT_STYLE}",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
        "base-uri 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@cache
def templates() -> jinja2.Environment:
    """The templates; everything that they print is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "signed": signed,
        "plain": plain,
        "percent": percent,
        "count": count,
        "moment": moment,
        "day": day,
    }
    return environment


def page(request: Request, template: str, code: int = 200, **context: Any) -> HTMLResponse:
    """A page as a response; `root` in a template is the address under which the pages are mounted."""
    root = request.scope.get("root_path", "")
    known = {"root": root, "airflow": root.rsplit("/", 1)[0], "standalone": False}
    text = templates().get_template(template).render(known | context)
    return HTMLResponse(text, code, {**HEADERS, "Cache-Control": "no-store"})


def pages_of(total: int, rows: int) -> int:
    """How many pages a list fills; one even where it is empty."""
    return max(1, -(-total // rows))


def moment(value: dt.datetime | None, zone: str = "UTC") -> str:
    """An instant in the business time zone."""
    return "–" if value is None else f"{value.astimezone(ZoneInfo(zone)):%-d %b %Y, %H:%M}"


def day(value: dt.date | None) -> str:
    """A date."""
    return "–" if value is None else f"{value:%-d %b %Y}"
