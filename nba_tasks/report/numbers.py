"""Figures as people read them."""

from __future__ import annotations

import math

SMALL = 1e-4
"""Below it three significant digits would need an exponent."""


def plain(value: float | None) -> str:
    """A figure with three significant digits."""
    if value is None or not math.isfinite(value):
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", "−")
    text = f"{value:.3g}" if abs(value) >= SMALL or value == 0 else f"{value:.6f}"
    return text.replace("-", "−")


def signed(value: float | None) -> str:
    """The same with its sign."""
    return plain(value) if value is None or not value > 0 else f"+{plain(value)}"


def percent(value: float | None, digits: int = 0) -> str:
    """A share."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}%}".replace("-", "−")


def count(value: float | None) -> str:
    """A number of things."""
    return "–" if value is None else f"{value:,.0f}"
