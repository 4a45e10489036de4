from __future__ import annotations

import json
from typing import Any

import pytest

from nba_tasks.gate import judge
from nba_tasks.gate.exhibits import Exhibits
from nba_tasks.gate.plain import plain
from nba_tasks.gate.schema import ReportError, checked
from tests.gate.cases import SMALL, make_sample
from tests.gate.exhibits.test_collection import HALF_BETTER, exhibits
from tests.tiny_mdp import by_row


def report(n: int, shown: Exhibits | None = None) -> dict[str, Any]:
    """A report as the gate step puts it together."""
    sample, log = make_sample(n)
    verdict = judge(sample, by_row(HALF_BETTER, log), SMALL, bootstrap_replicates=20)
    content = {
        **verdict.to_dict(),
        **plain(shown or exhibits(sample, log)),
        "candidate_version": 2,
        "incumbent_version": 1,
        "mix": 0.5,
        "opened": True,
        "lost_customer_value": 5.0,
        "choice": {"mix": 0.5, "forecasts": [], "reasons": []},
        "links": {"mlflow_run_id": "run", "dag_run_id": None},
    }
    found: dict[str, Any] = json.loads(json.dumps(content, allow_nan=False))
    return found


@pytest.mark.parametrize("n", [1, 2, 300])
def test_reports_of_any_size_keep_to_the_schema(n: int) -> None:
    checked(report(n))


def test_a_report_without_exhibits_keeps_to_the_schema() -> None:
    checked(report(50, Exhibits()))


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
        checked(report(50) | {key: value})


def test_a_missing_key_is_refused() -> None:
    content = report(50)
    del content["state_map"]
    with pytest.raises(ReportError, match="'state_map' is a required property"):
        checked(content)
