"""What capacity costs: prices, the layer and the draw for a large night, and how near the value comes to the bound.

    python -m bench.capacity [--customers 1900000]

The night: 8 actions in 3 channels, a capacity for two of them, a limit for two channels and a budget, each well below
what the policy wishes. Timed is everything beyond scoring: prices, every customer's probabilities, and a draw that
meets the limits. Beside it stands the floor: copying those probabilities once.

The bound: by weak duality no way of serving the customers is worth more than Σ max(v − price) + price · limit, at any
prices. It is computed where everybody wishes the best action, so that it bounds every assignment there is.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from bench.targets import Target, conclude
from nba_tasks.capacity import Limit, solve_prices
from nba_tasks.drawing import draw_together

Floats = NDArray[np.float64]

CHANNELS = (None, "email", "email", "email", "mail", "mail", "phone", "phone")
COST = np.array([0.0, 0.02, 0.02, 0.03, 0.6, 0.7, 2.0, 2.5], dtype=np.float32)

SECONDS = 60
VALUE_SHARE = 0.99


def night(customers: int, seed: int) -> tuple[Floats, NDArray[np.float32], NDArray[np.bool_]]:
    """Wished probabilities (half greedy, half anything), values and eligible actions."""
    random = np.random.default_rng(seed)
    gain = np.array([0, 0.1, 0.12, 0.1, 0.6, 0.7, 2.0, 2.5], dtype=np.float32)
    value = random.standard_exponential((customers, len(COST)), dtype=np.float32) * gain - COST
    eligible = random.random((customers, len(COST)), dtype=np.float32) < 0.8
    eligible[:, 0] = True
    anything = eligible * random.random((customers, len(COST)), dtype=np.float32)
    wished = 0.5 * (anything / anything.sum(axis=1, keepdims=True)).astype(np.float64)
    wished[np.arange(customers), np.where(eligible, value, -np.inf).argmax(axis=1)] += 0.5
    wished[:, 0] += 1 - wished.sum(axis=1)
    return wished, value, eligible


def limits_of(wished: Floats) -> list[Limit]:
    """Five limits, the tightest at 30% of what is wished."""
    total = wished.sum(axis=0)

    def slots(*actions: int) -> tuple[float, ...]:
        return tuple(float(a in actions) for a in range(len(COST)))

    return [
        Limit("call", slots(6), float(int(0.3 * total[6]))),
        Limit("letter", slots(4), float(int(0.5 * total[4]))),
        Limit("channel phone", slots(6, 7), float(int(0.35 * total[6:8].sum()))),
        Limit("channel mail", slots(4, 5), float(int(0.6 * total[4:6].sum()))),
        Limit("budget", tuple(COST.tolist()), 0.4 * float(COST @ total)),
    ]


def within(limits: Sequence[Limit], drawn: NDArray[np.int64]) -> bool:
    """Whether a draw meets every limit; the budget may round up by less than one contact of each action."""
    contacts = np.bincount(drawn, minlength=len(COST))
    spare = [float(COST.sum()) if limit.name == "budget" else 0.0 for limit in limits]
    return all(limit.use @ contacts <= limit.at_most + more for limit, more in zip(limits, spare, strict=True))


def share_of_bound(customers: int, seed: int) -> float:
    """Value over no action, as a share of the most that anybody could reach within the limits."""
    wished, value, eligible = night(customers, seed)
    wished = np.zeros(wished.shape)
    wished[np.arange(customers), np.where(eligible, value, -np.inf).argmax(axis=1)] = 1
    limits = limits_of(wished)
    prices = solve_prices(wished, value, eligible, limits)
    served = prices.apply(wished, value, eligible)
    best = np.where(eligible, value - prices.of_actions, -np.inf).max(axis=1)
    bound = float(best.sum()) + sum(prices.of_limits[limit.name] * limit.at_most for limit in limits)
    nothing = float(value[:, 0].sum(dtype=np.float64))
    return (float((served * value).sum()) - nothing) / (bound - nothing)


def main(
    customers: Annotated[int, typer.Option(min=1000)] = 1_900_000,
    seed: int = 0,
) -> None:
    """Time a large night; exits 1 where a target falls short."""
    wished, value, eligible = night(customers, seed)
    limits = limits_of(wished)
    begun = time.monotonic()
    floor = wished.copy()
    copied = time.monotonic() - begun
    del floor

    begun = time.monotonic()
    prices = solve_prices(wished, value, eligible, limits, even_share=0.1)
    solved = time.monotonic() - begun
    served = prices.apply(wished, value, eligible)
    applied = time.monotonic() - begun - solved
    random = np.random.default_rng(seed)
    order = random.permutation(customers)
    drawn = draw_together(served[order], CHANNELS, random)
    seconds = time.monotonic() - begun

    print(f"{customers:,} customers, {len(COST)} actions, {len(limits)} limits")
    print(f"prices {solved:.1f} s, layer {applied:.1f} s, draw {seconds - solved - applied:.1f} s; copy {copied:.2f} s")
    print(*(f"one more {name}: {price:.3f}" for name, price in prices.of_limits.items()), sep="\n")
    print(f"cut off after pricing: {1 - prices.trim.min():.2%} of what was left")
    conclude(
        [
            Target("capacity_seconds", seconds * customers / 1_900_000, SECONDS, at_most=True),
            Target("capacity_limits_met", float(within(limits, drawn)), 1),
            Target("capacity_value_share", share_of_bound(min(customers, 300_000), seed + 1), VALUE_SHARE),
        ]
    )


if __name__ == "__main__":
    typer.run(main)
