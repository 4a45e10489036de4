"""The review on real stores: who may move the champion, and when."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from nba_tasks import ledger, registry, review, steps
from tests.databases import killed_at
from tests.loop import Installation


def decided(made: Installation, verdict: str, **changes: Any) -> int:
    """A copy of the ledger's gate with another verdict, as the newest gate."""
    gate = ledger.last_gate(made.warehouse, "sales_channels")
    assert gate is not None
    columns = {
        name: gate[name]
        for name in gate
        if name not in ("gate_id", "programme", "decision", "decided_by", "decided_at", "comment")
    }
    columns |= {"verdict": verdict, "attempt": None, "candidate_version": gate["candidate_version"] + 100, **changes}
    with made.warehouse.begin() as connection:
        return ledger.record(connection, columns)


def test_only_an_approved_promote_moves_the_champion(trained: Installation, versions: tuple[int, int]) -> None:
    incumbent, candidate = versions
    for verdict in ("DEFER", "REJECT"):
        gate_id = decided(trained, verdict)
        with pytest.raises(review.ReviewError, match=f"ended in {verdict}"):
            review.decide(trained.warehouse, trained.programme, gate_id, approve=True, decided_by="ann")
        with trained.warehouse.begin() as connection:
            connection.exec_driver_sql(f"delete from nba.gates where gate_id = {gate_id}")
    rejected = decided(trained, "PROMOTE")
    review.decide(trained.warehouse, trained.programme, rejected, approve=False, decided_by="ann", comment="not now")
    assert registry.incumbent(trained.programme) == incumbent
    with pytest.raises(review.ReviewError, match="was rejected by ann"):
        review.decide(trained.warehouse, trained.programme, rejected, approve=True, decided_by="bob")
    with trained.warehouse.begin() as connection:
        connection.exec_driver_sql(f"delete from nba.gates where gate_id = {rejected}")
        connection.exec_driver_sql("update nba.gates set verdict = 'PROMOTE'")
    gate = ledger.last_gate(trained.warehouse, "sales_channels")
    assert gate is not None
    for _ in range(2):  # a repeated approval is the same approval
        made = review.decide(trained.warehouse, trained.programme, gate["gate_id"], approve=True, decided_by="ann")
        assert made.champion_version == candidate
    assert registry.version_of(trained.programme, "previous") == incumbent


def test_an_overtaken_or_outdated_approval_is_refused(trained: Installation, versions: tuple[int, int]) -> None:
    older = decided(trained, "PROMOTE")
    newer = decided(trained, "PROMOTE", candidate_version=999)
    with pytest.raises(review.ReviewError, match=f"overtaken by gate {newer}"):
        review.decide(trained.warehouse, trained.programme, older, approve=True, decided_by="ann")
    outdated = decided(trained, "PROMOTE", candidate_version=1000, incumbent_version=77)
    with pytest.raises(review.ReviewError, match="train again"):
        review.decide(trained.warehouse, trained.programme, outdated, approve=True, decided_by="ann")


def test_auto_promote_answers_only_logged_propensities(trained: Installation, versions: tuple[int, int]) -> None:
    answering = type(trained.programme).model_validate(
        trained.programme.model_dump() | {"review": {"auto_promote": True}}
    )
    for propensities in ("mixed", "estimated"):
        gate_id = decided(trained, "PROMOTE", propensities=propensities, candidate_version=len(propensities) + 500)
        assert steps.review_report(answering, gate_id, "a run")["route"] == "ask"
        with pytest.raises(review.ReviewError, match="needs a person"):
            review.decide(trained.warehouse, answering, gate_id, approve=True, decided_by=review.AUTO)
    gate_id = decided(trained, "PROMOTE", candidate_version=versions[1])
    with trained.warehouse.begin() as connection:
        connection.exec_driver_sql(f"update nba.gates set verdict = 'PROMOTE' where gate_id = {gate_id}")
        connection.exec_driver_sql(f"delete from nba.gates where gate_id > {gate_id}")
    assert steps.review_report(answering, gate_id, "a run")["route"] == "approve_automatically"
    assert steps.review_report(trained.programme, gate_id, "a run")["route"] == "ask"


def test_rollback_puts_the_previous_champion_back(trained: Installation, versions: tuple[int, int]) -> None:
    incumbent, candidate = versions
    with pytest.raises(registry.RegistryError, match="no earlier champion"):
        registry.rollback(trained.programme)
    registry.promote(trained.programme, candidate, instead_of=incumbent)
    assert registry.rollback(trained.programme) == (candidate, incumbent)
    assert registry.version_of(trained.programme, "champion") == incumbent


def test_an_approval_killed_anywhere_can_be_repeated_and_never_reads_as_a_rejection(
    trained: Installation, versions: tuple[int, int]
) -> None:
    """Two stores: killed between them, the candidate is champion and the ledger says nothing yet."""
    incumbent, candidate = versions
    with trained.warehouse.begin() as connection:
        connection.exec_driver_sql("update nba.gates set verdict = 'PROMOTE'")
    gate = ledger.last_gate(trained.warehouse, "sales_channels")
    assert gate is not None

    def decide(approve: bool) -> review.Decision:
        gate_id = gate["gate_id"]
        return review.decide(trained.warehouse, trained.programme, gate_id, approve=approve, decided_by="ann")

    outcomes = set()
    for statement in itertools.count(1, 2):
        for alias in ("champion", "previous"):
            if registry.version_of(trained.programme, alias) is not None:
                registry.client().delete_registered_model_alias("sales_channels", alias)
        with trained.warehouse.begin() as connection:
            connection.exec_driver_sql("update nba.gates set decision = null, decided_by = null, decided_at = null")
        if not killed_at(statement, lambda: decide(True), trained.warehouse):
            break
        if registry.version_of(trained.programme, "champion") is None:
            outcomes.add("not begun")
            decide(False)
            assert registry.version_of(trained.programme, "champion") is None
            assert registry.version_of(trained.programme, "previous") is None
        else:
            outcomes.add("begun")
            with pytest.raises(review.ReviewError, match=r"was interrupted|was approved by ann"):
                decide(False)
            assert decide(True).champion_version == candidate
            assert registry.version_of(trained.programme, "previous") == incumbent
            assert registry.rollback(trained.programme) == (candidate, incumbent)
    assert outcomes == {"not begun", "begun"}
