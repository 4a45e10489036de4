"""What each rule forbids, counted from the conditions' bits."""

from __future__ import annotations

import datetime as dt

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nba_tasks.eligibility import Condition, Mask, held_back
from nba_tasks.programme import Cap, Consent
from nba_tasks.shape import CatalogueAction

AS_OF = dt.date(2024, 6, 3)
ACTIONS = (
    CatalogueAction(0, "no_action", None, 0.0, None, None, ()),
    CatalogueAction(1, "email", "email", 0.0, None, None, ()),
    CatalogueAction(2, "call", "phone", 0.0, None, None, ()),
    CatalogueAction(3, "retired", "phone", 0.0, None, AS_OF, ()),
)
CONSENT = Consent(kind="consent", name="consent")
CAP = Cap(kind="cap", name="cap", max=1, epochs=2)
OVER = Cap(kind="cap", name="over", max=1, epochs=2, valid_to=AS_OF)
BOTH: tuple[Mask, ...] = ("logged", "target")
CONDITIONS = (
    Condition(CONSENT, "", channel="email", masks=("target",)),
    Condition(CONSENT, "", channel="email", masks=("logged",)),
    Condition(CONSENT, "", channel="phone", masks=("target",)),
    Condition(CAP, "", masks=BOTH),
    Condition(OVER, "", masks=BOTH),
)


@given(st.lists(st.integers(0, 31), max_size=20))
def test_each_rule_counts_whom_it_keeps_from_what(held: list[int]) -> None:
    found = held_back(CONDITIONS, ACTIONS, AS_OF, np.array(held, dtype=np.int64))
    no_email = [not bits & 1 for bits in held]
    no_phone = [not bits & 4 for bits in held]
    capped = [not bits & 8 for bits in held]
    either = [one or other for one, other in zip(no_email, no_phone, strict=True)]
    assert found == [
        {"rule": "consent", "customers": sum(either), "actions": {"email": sum(no_email), "call": sum(no_phone)}},
        {"rule": "cap", "customers": sum(capped), "actions": {"email": sum(capped), "call": sum(capped)}},
    ], "a rule that is over, a retired action, and the log's own consent count for nothing tonight"
