"""Review: the only place where `champion` moves."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.engine import Engine

from nba_tasks import database, ledger, registry, rollout
from nba_tasks.programme import Programme

AUTO = "auto_promote"
"""Who decided, where the programme's YAML file did."""


class ReviewError(RuntimeError):
    """An approval that is refused; the message says why and what to do."""


@dataclass(frozen=True)
class Decision:
    """What became of a gate."""

    gate_id: int
    approved: bool
    decided_by: str
    candidate_version: int
    champion_version: int | None


def answers_itself(programme: Programme, gate: dict[str, object]) -> bool:
    """Whether the YAML's `auto_promote` may approve: a PROMOTE that rests on logged propensities alone."""
    return programme.review.auto_promote and gate["verdict"] == "PROMOTE" and gate["propensities"] == "logged"


def decide(
    warehouse: Engine, programme: Programme, gate_id: int, *, approve: bool, decided_by: str, comment: str | None = None
) -> Decision:
    """Approve or reject a gate's candidate, once; approving makes it the champion.

    Raises
    ------
    ReviewError
        An approval of a DEFER or REJECT, of a candidate that a newer gate has overtaken, or whose incumbent has changed
        since it was judged; a gate that was decided the other way before; or a rejection after an approval that was
        interrupted when the candidate was champion already.
    """
    with warehouse.begin() as connection:
        database.lock(connection, "review", programme.programme)
        gate = ledger.gate(connection, programme, gate_id, for_update=True)
        candidate = int(gate["candidate_version"])
        decision = "approved" if approve else "rejected"
        if gate["decision"] not in (None, decision):
            raise ReviewError(
                f"gate {gate_id} was {gate['decision']} by {gate['decided_by']} on {gate['decided_at']:%F}"
            )
        if gate["decision"] is None:
            # Only an approval that was interrupted between the two stores leaves an undecided champion.
            interrupted = registry.version_of(programme, "champion") == candidate
            if approve:
                if not interrupted:
                    _require_approvable(programme, gate, newest=ledger.newest(connection, programme))
                if decided_by == AUTO and not answers_itself(programme, gate):
                    raise ReviewError(f"gate {gate_id} needs a person: propensities were {gate['propensities']}")
                rollout.begin(warehouse, programme, candidate, int(gate["incumbent_version"]), decided_by)
                registry.promote(programme, candidate, instead_of=int(gate["incumbent_version"]))
            elif interrupted:
                raise ReviewError(
                    f"an approval of gate {gate_id} was interrupted after version {candidate} had become the champion: "
                    f"approve it once more, to complete the ledger, then run `nba rollback {programme.programme}`"
                )
            ledger.decide(connection, gate_id, decision, decided_by, comment)
    return Decision(
        gate_id, approve, gate["decided_by"] or decided_by, candidate, registry.version_of(programme, "champion")
    )


def roll_back(
    warehouse: Engine,
    programme: Programme,
    *,
    decided_by: str,
    comment: str | None = None,
    expected: int | None = None,
) -> tuple[int, int]:
    """Put the previous champion back, and keep who wanted it.

    Parameters
    ----------
    expected : int, optional
        The version that the person believes to be in use.

    Returns
    -------
    tuple of int
        The version taken out of use and the one that is champion again.

    Raises
    ------
    RegistryError
        There is no champion, or nothing before it, or another one than `expected`.
    """
    with warehouse.begin() as connection:
        database.lock(connection, "review", programme.programme)
        champion = registry.version_of(programme, "champion")
        if expected not in (None, champion):
            raise registry.RegistryError(f"version {champion} is in use now, no longer version {expected}: look again")
        before = registry.version_of(programme, "previous")
        if champion is not None and before is not None:
            # Written first: where the registry cannot move the champion, no row stays; written last, it could be lost.
            ledger.rolled_back(connection, programme, champion, before, decided_by, comment)
            rollout.finish(connection, programme, before, decided_by)
        return registry.rollback(programme)


def decide_demotion(
    warehouse: Engine,
    programme: Programme,
    demotion_id: int,
    *,
    approve: bool,
    decided_by: str,
    comment: str | None = None,
) -> bool:
    """Answer a proposal to take the policy in use out of it, once; approving puts the one before back.

    Returns
    -------
    bool
        Whether the policy was taken out of use.

    Raises
    ------
    RegistryError
        The policy in use is no longer the one that the proposal is about.
    """
    with warehouse.begin() as connection:
        proposal = ledger.demotion(connection, programme, demotion_id, for_update=True)
        if proposal["decision"] is not None:
            return bool(proposal["decision"] == "approved")
        if approve:
            version = int(proposal["from_version"])
            why = comment or str(proposal["evidence"])
            # A retry after a crash between the two stores finds it done.
            if registry.version_of(programme, "champion") != int(proposal["to_version"]):
                roll_back(warehouse, programme, decided_by=decided_by, comment=why, expected=version)
        ledger.decide_demotion(connection, demotion_id, "approved" if approve else "rejected", decided_by, comment)
    return approve


def _require_approvable(programme: Programme, gate: dict[str, object], newest: int | None) -> None:
    if gate["verdict"] != "PROMOTE":
        raise ReviewError(f"gate {gate['gate_id']} ended in {gate['verdict']}: only a PROMOTE can be approved")
    if newest != gate["gate_id"]:
        raise ReviewError(f"gate {gate['gate_id']} was overtaken by gate {newest}: decide on that one")
    incumbent = registry.incumbent(programme)
    if incumbent != gate["incumbent_version"]:
        raise ReviewError(
            f"gate {gate['gate_id']} compared with version {gate['incumbent_version']}, but version {incumbent} is in "
            "use now: train again, so that the candidate faces today's incumbent"
        )
