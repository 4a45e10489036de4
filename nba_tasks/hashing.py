"""One hash per purpose: stable, independent random numbers for customers, equal in Python and in SQL.

The SQL twin is `nba.hash63` in sql/warehouse/functions.sql.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Purpose = Literal["offset", "shard", "split", "arm", "draw", "moment", "window", "rollout"]

BUCKETS = 2**63


def hash63(programme: str, purpose: Purpose, salt: str, customer_id: str | int) -> int:
    """First 8 bytes (big-endian, without the top bit) of SHA-256 of `programme|purpose|salt|customer_id`.

    Returns
    -------
    int
        Uniform on 0 … 2⁶³ − 1, independent between purposes.
    """
    text = f"{programme}|{purpose}|{salt}|{customer_id}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") & (BUCKETS - 1)


def uniforms(programme: str, purpose: Purpose, salt: str, customer_ids: Iterable[str | int]) -> NDArray[np.float64]:
    """One number in [0, 1) per customer, from `hash63`."""
    return np.array([hash63(programme, purpose, salt, c) for c in customer_ids], dtype=np.float64) / BUCKETS
