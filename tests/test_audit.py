"""A past decision is traced to its data, its policy, its gate and the person who approved it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from nba_tasks import audit, publish, score
from tests.loop import AS_OF, Installation


def told(made: Installation, customer: str, day: dt.date = AS_OF) -> dict[str, str]:
    lines = audit.why(made.crm, made.warehouse, made.programme, day, customer)
    return dict(line.split(": ", 1) for line in lines)


def listed(made: Installation) -> tuple[str, str, str]:
    """A customer on the list, with what they get and why."""
    query = "select customer_id, action_id, reason from campaign_list order by customer_id limit 1"
    with made.crm.connect() as connection:
        customer, action, reason = connection.exec_driver_sql(query).one()
    return customer, action, reason


def test_a_decision_of_business_as_usual(trained: Installation, night: Callable[..., Any]) -> None:
    night()
    customer, action, reason = listed(trained)
    found = told(trained, customer)
    assert list(found) == ["decision", "reason", "list", "data", "state", "policy"]
    assert found["decision"].startswith(f"{action} (on the list; arm: served policy; ")
    assert found["reason"] == reason
    assert "by run a run" in found["list"]
    assert found["data"].startswith("batch 1, pulled ")
    assert found["state"].count(",") == len(trained.programme.state) - 1
    assert "business as usual, which no gate judged" in found["policy"]


def test_a_decision_of_a_candidate_names_its_gate_and_who_approved_it(
    trained: Installation, night: Callable[..., Any], versions: tuple[int, int]
) -> None:
    night()
    with trained.crm.begin() as connection:
        connection.exec_driver_sql("delete from campaign_list; delete from decisions where programme is not null")
        connection.exec_driver_sql("delete from publications")
    serve = score.serving(trained.programme, versions[1])
    for shard in range(trained.programme.shards):
        score.score_shard(trained.warehouse, trained.programme, AS_OF, shard, serve)
    publish.publish(trained.crm, trained.warehouse, trained.programme, AS_OF, serve, "second", today=AS_OF)
    customer, _, _ = listed(trained)
    found = told(trained, customer)
    assert found["policy"].startswith(f"version {versions[1]}, learned from batch 1 as of {AS_OF}")
    assert f"against version {versions[0]}" in found["gate"]
    assert found["person"] == "nobody has decided about this gate"
    with trained.warehouse.begin() as connection:
        connection.exec_driver_sql(
            f"update nba.gates set decision = 'approved', decided_by = 'ana', decided_at = '2026-06-01 09:30+00' "
            f"where candidate_version = {versions[1]}"
        )
    assert told(trained, customer)["person"].startswith("approved by ana, 2026-06-01 ")
    publish.expire(trained.crm, trained.programme, AS_OF + dt.timedelta(days=1), "stopped by ana")
    assert "expired" in told(trained, customer)["list"]


def test_what_is_not_there_is_said(trained: Installation, night: Callable[..., Any]) -> None:
    night()
    with pytest.raises(audit.AuditError, match="published no list for 2020-01-01"):
        told(trained, "1", dt.date(2020, 1, 1))
    with pytest.raises(audit.AuditError, match="nobody was not decided for"):
        told(trained, "nobody")
