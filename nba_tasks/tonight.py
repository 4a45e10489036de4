"""Tonight's draw: what every customer's layers give, within tonight's capacities and budget.

Where the catalogue or the programme file limits nothing, each customer is drawn for by themselves. Otherwise the slots
are dealt to the arms by head count, so that the arms stay comparable; each arm's prices are computed from all of its
customers' probabilities before any draw; and everybody is drawn for together, so that no limit is ever exceeded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nba_tasks.arms import BUSINESS_AS_USUAL, HOLDOUT, PREVIOUS, SERVED
from nba_tasks.capacity import Limit, Prices, movable, solve_prices
from nba_tasks.dataset import FloatArray
from nba_tasks.drawing import draw, draw_together
from nba_tasks.policy import Floats
from nba_tasks.shape import Shape


@dataclass(frozen=True)
class Use:
    """One limit of a night.

    Attributes
    ----------
    name : str
    at_most : float
        Slots, or currency.
    wished, used : float
        Expected use before the limit was looked at, and what was drawn.
    price : float or None
        What one more slot, or unit of currency, would bring the served policy; None where its values are not known.
    price_at_training : float or None
        What the gate judged the policy with; None where the limit was not there then, or nothing was judged.
    """

    name: str
    at_most: float
    wished: float
    used: float
    price: float | None
    price_at_training: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        text = f"{self.name}: {self.used:,.0f} of {self.at_most:,.0f} used, {self.wished:,.0f} wished"
        unit = "unit" if self.name == BUDGET else "slot"
        if self.price:
            text += f"; one more {unit} is worth {self.price:.2f}"
        if self.price_at_training is not None and self.price is not None:
            text += f" (the gate reckoned with {self.price_at_training:.2f})"
        return text


@dataclass(frozen=True)
class Night:
    """What was drawn.

    Attributes
    ----------
    probability : array of shape (n, n_actions)
        With which each action was drawn, exactly.
    action : int array of shape (n,)
    uses : tuple of Use
        Empty where nothing is limited.
    """

    probability: Floats
    action: NDArray[np.int64]
    uses: tuple[Use, ...] = ()


BUDGET = "budget"


class LimitBroken(RuntimeError):
    """A draw beyond a limit: a fault of this program, found before anything is published."""


def limits_of(shape: Shape) -> list[Limit]:
    """The limits of a night: the catalogue's daily capacities, the channels' daily limits, the nightly budget."""
    programme, actions = shape.programme, shape.actions
    limits = [
        Limit(a.action_id, tuple(float(b.index == a.index) for b in actions), float(a.daily_capacity))
        for a in actions
        if a.daily_capacity is not None
    ]
    for name, channel in programme.channels.items():
        if channel.daily_limit is not None:
            limits.append(
                Limit(f"channel {name}", tuple(float(a.channel == name) for a in actions), channel.daily_limit)
            )
    if programme.publish.budget is not None:
        limits.append(Limit(BUDGET, tuple(a.cost for a in actions), programme.publish.budget))
    return [limit for limit in limits if max(limit.use) > 0]


def draw_night(
    shape: Shape,
    arm: NDArray[np.str_],
    value: FloatArray,
    probability: Floats,
    uniform: FloatArray,
    seed: int,
    at_training: Prices | None = None,
) -> Night:
    """Draw an action for every customer due.

    Parameters
    ----------
    arm : array of shape (n,)
    value, probability : arrays of shape (n, n_actions)
        Expected values (NaN where unknown), and what the layers before give.
    uniform : array of shape (n,)
        A number in [0, 1) for each customer, by hash.
    seed : int
        Of what is drawn together; the night's, so that a repeated run draws alike.
    at_training : Prices, optional
        With which the served policy was judged: shown beside the night's own.

    Raises
    ------
    LimitBroken
        The draw exceeds a limit.
    """
    limits = limits_of(shape)
    if not limits or not len(arm):
        return Night(probability, draw(probability, uniform) if len(arm) else np.zeros(0, np.int64))
    priced, prices = _priced(
        [_rounded_down(limit) for limit in limits], arm, value, probability, shape.programme.layers.even_share
    )
    order = np.argsort(uniform, kind="stable")  # says nothing of the customers
    action = np.empty(len(arm), dtype=np.int64)
    action[order] = draw_together(priced[order], [a.channel for a in shape.actions], np.random.default_rng(seed))
    uses = _uses(limits, probability, action, prices, value[arm == SERVED])
    known = at_training.of_limits if at_training else {}
    return Night(priced, action, tuple(replace(use, price_at_training=known.get(use.name)) for use in uses))


def _priced(
    limits: Sequence[Limit],
    arm: NDArray[np.str_],
    value: FloatArray,
    probability: Floats,
    even_share: float,
) -> tuple[Floats, Prices]:
    """Probabilities within the limits, arm by arm, and the served policy's prices.

    Business as usual is thinned in proportion, whatever the served policy thinks of its customers: it would not be
    business as usual otherwise. What it leaves is the served policy's. While that is rolled out, it is shared with the
    policy before by head count, each going by its own values: no more slots for the few than all would get.
    """
    found = probability.copy()
    left = list(limits)

    def within(rows: NDArray[np.bool_], its: FloatArray, limits: Sequence[Limit], even_share: float = 0.0) -> Prices:
        prices = solve_prices(found[rows], its, movable(found[rows], its), limits, even_share=even_share)
        found[rows] = prices.within(found[rows], its)
        return prices

    def shares(limits: Sequence[Limit], share: float) -> list[Limit]:
        return [replace(limit, at_most=limit.at_most * share) for limit in limits]

    usual, before, served = (arm == code for code in (BUSINESS_AS_USUAL, PREVIOUS, SERVED))
    if usual.any():
        nothing_known = np.full((int(usual.sum()), value.shape[1]), np.nan)
        within(usual, nothing_known, shares(limits, usual.sum() / np.count_nonzero(arm != HOLDOUT)))
        taken = found[usual].sum(axis=0)
        left = [replace(k, at_most=max(k.at_most - float(np.dot(k.use, taken)), 0.0)) for k in limits]
    if before.any():
        reached = served.sum() / (served.sum() + before.sum())
        within(before, value[before], shares(left, 1 - reached), even_share)
        left = shares(left, reached)
    return found, within(served, value[served], left, even_share)


def _rounded_down(limit: Limit) -> Limit:
    """A limit that leaves room for counts rounded up: less than one contact of each action beyond the expectation."""
    spare = sum(limit.use) if limit.name == BUDGET else 0.0
    return replace(limit, at_most=max(limit.at_most - spare, 0.0))


def _uses(
    limits: Sequence[Limit], wished: Floats, action: NDArray[np.int64], prices: Prices, value: FloatArray
) -> Sequence[Use]:
    contacts = np.bincount(action, minlength=wished.shape[1])
    known = value.size > 0 and not np.isnan(value).all()
    uses = [
        Use(
            name=limit.name,
            at_most=limit.at_most,
            wished=float(np.dot(limit.use, wished.sum(axis=0))),
            used=float(np.dot(limit.use, contacts)),
            price=prices.of_limits[limit.name] if known else None,
        )
        for limit in limits
    ]
    if broken := [use for use in uses if use.used > use.at_most + 1e-6]:
        raise LimitBroken("; ".join(map(str, broken)))
    return uses
