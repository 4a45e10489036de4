from __future__ import annotations

import pytest

from nba_tasks.gate.exhibits import Exhibits
from nba_tasks.gate.schema import ReportError, checked
from tests.gate.reports import make_report


@pytest.mark.parametrize("n", [1, 2, 300])
def test_reports_of_any_size_keep_to_the_schema(n: int) -> None:
    checked(make_report(n))


def test_a_report_without_exhibits_keeps_to_the_schema() -> None:
    checked(make_report(50, Exhibits()))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("schema", 1, r"\$\.schema: 2 was expected"),
        ("verdict", "MAYBE", r"\$\.verdict: 'MAYBE' is not one of"),
        ("mix", 1.5, r"\$\.mix"),
        ("policies", [{"policy": "x"}], r"\$\.policies\[0\]: 'kind' is a required property"),
        ("links", None, r"\$\.links: None is not of type 'object'"),
    ],
)
def test_a_faulty_report_is_refused_by_key(key: str, value: object, message: str) -> None:
    with pytest.raises(ReportError, match=message):
        checked(make_report(50) | {key: value})


def test_a_missing_key_is_refused() -> None:
    content = make_report(50)
    del content["state_map"]
    with pytest.raises(ReportError, match="'state_map' is a required property"):
        checked(content)
