"""The ledger: every gate that was held, its verdict, and what was decided about it."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from nba_tasks.programme import Programme

GATE = """
    select g.*, p.programme
    from nba.gates as g
    join nba.programmes as p using (programme_id)
    where p.programme = :programme
"""


JSON = ("report", "fingerprint")
"""Columns that hold JSON."""


def attempts(connection: Connection, programme: Programme, incumbent_version: int) -> int:
    """How many candidates have faced this incumbent: the size of the family so far."""
    return int(
        connection.execute(
            sa.text(
                """
                select count(*) from nba.gates join nba.programmes using (programme_id)
                where programme = :programme and incumbent_version = :incumbent and attempt is not null
                """
            ),
            {"programme": programme.programme, "incumbent": incumbent_version},
        ).scalar_one()
    )


def last_gate(warehouse: Engine, programme: str) -> dict[str, Any] | None:
    """The newest gate of a programme."""
    with warehouse.connect() as connection:
        query = sa.text(f"{GATE} order by g.gate_id desc limit 1")
        row = connection.execute(query, {"programme": programme}).one_or_none()
    return dict(row._mapping) if row else None


def gate(connection: Connection, programme: Programme, gate_id: int, *, for_update: bool = False) -> dict[str, Any]:
    """One gate of a programme.

    Raises
    ------
    LookupError
        The programme has no such gate.
    """
    query = f"{GATE} and g.gate_id = :gate_id" + (" for update of g" if for_update else "")
    row = connection.execute(sa.text(query), {"programme": programme.programme, "gate_id": gate_id}).one_or_none()
    if row is None:
        raise LookupError(f"{programme.programme} has no gate {gate_id}")
    return dict(row._mapping)


def gate_of_run(connection: Connection, mlflow_run_id: str) -> int | None:
    """The gate that a training's MLflow run was judged at, None where it has not been."""
    found: int | None = connection.execute(
        sa.text("select gate_id from nba.gates where mlflow_run_id = :run"), {"run": mlflow_run_id}
    ).scalar()
    return found


def newest(connection: Connection, programme: Programme) -> int | None:
    """The id of the programme's newest gate."""
    return connection.execute(
        sa.text(
            "select max(gate_id) from nba.gates join nba.programmes using (programme_id) where programme = :programme"
        ),
        {"programme": programme.programme},
    ).scalar()


def record(connection: Connection, values: dict[str, Any]) -> int:
    """Write a gate; a candidate that is judged again (a retried task) keeps its first row.

    Parameters
    ----------
    values : dict
        By column; `report` and `fingerprint` are plain JSON values.

    Returns
    -------
    int
        The gate's id.
    """
    names = ", ".join(values)
    bound = ", ".join(f"cast(:{name} as jsonb)" if name in JSON else f":{name}" for name in values)
    written = {name: json.dumps(value) if name in JSON else value for name, value in values.items()}
    connection.execute(
        sa.text(
            f"insert into nba.gates ({names}) values ({bound}) on conflict (programme_id, candidate_version) do nothing"
        ),
        written,
    )
    return int(
        connection.execute(
            sa.text(
                """
                select gate_id from nba.gates
                where programme_id = :programme_id and candidate_version = :candidate_version
                """
            ),
            values,
        ).scalar_one()
    )


def asked(connection: Connection, gate_id: int, review_run_id: str) -> None:
    """Write which run of the promotion review DAG asks about a gate."""
    connection.execute(
        sa.text("update nba.gates set review_run_id = :run where gate_id = :gate_id"),
        {"gate_id": gate_id, "run": review_run_id},
    )


def decide(connection: Connection, gate_id: int, decision: str, decided_by: str, comment: str | None) -> None:
    """Write what was decided about a gate."""
    connection.execute(
        sa.text(
            """
            update nba.gates
            set decision = :decision, decided_by = :decided_by, decided_at = :now, comment = :comment
            where gate_id = :gate_id
            """
        ),
        {
            "gate_id": gate_id,
            "decision": decision,
            "decided_by": decided_by,
            "now": dt.datetime.now(dt.UTC),
            "comment": comment,
        },
    )


def rolled_back(
    connection: Connection,
    programme: Programme,
    from_version: int,
    to_version: int,
    decided_by: str,
    comment: str | None,
) -> None:
    """Write that somebody put an earlier champion back."""
    connection.execute(
        sa.text(
            """
            insert into nba.rollbacks (programme_id, from_version, to_version, decided_by, comment)
            select programme_id, :from_version, :to_version, :decided_by, :comment
            from nba.programmes where programme = :programme
            """
        ),
        {
            "programme": programme.programme,
            "from_version": from_version,
            "to_version": to_version,
            "decided_by": decided_by,
            "comment": comment,
        },
    )


def gate_of_candidate(connection: Connection, programme: Programme, version: int) -> dict[str, Any] | None:
    """The gate that judged a version, None where none did (version 0)."""
    query = sa.text(f"{GATE} and g.candidate_version = :version")
    row = connection.execute(query, {"programme": programme.programme, "version": version}).one_or_none()
    return dict(row._mapping) if row else None


# Demotions ------------------------------------------------------------------------------------------------------------

DEMOTION = """
    select d.*, p.programme
    from nba.demotions as d
    join nba.programmes as p using (programme_id)
    where p.programme = :programme
"""


def propose_demotion(
    connection: Connection,
    programme: Programme,
    as_of: dt.date,
    from_version: int,
    to_version: int,
    evidence: str,
    again: dt.timedelta,
) -> int | None:
    """Write a proposal; None where the version's last one is still open, or was rejected less than `again` ago."""
    values = {"programme": programme.programme, "as_of": as_of, "from": from_version, "to": to_version}
    recent = connection.execute(
        sa.text(f"{DEMOTION} and d.from_version = :from and (d.decision is null or d.as_of > :after)"),
        values | {"after": as_of - again},
    ).first()
    if recent is not None:
        return None
    return int(
        connection.execute(
            sa.text(
                """
                insert into nba.demotions (programme_id, as_of, from_version, to_version, evidence)
                select programme_id, :as_of, :from, :to, :evidence from nba.programmes where programme = :programme
                returning demotion_id
                """
            ),
            values | {"evidence": evidence},
        ).scalar_one()
    )


def demotion(
    connection: Connection, programme: Programme, demotion_id: int, *, for_update: bool = False
) -> dict[str, Any]:
    """One proposal of a programme.

    Raises
    ------
    LookupError
        The programme has no such proposal.
    """
    query = f"{DEMOTION} and d.demotion_id = :demotion_id" + (" for update of d" if for_update else "")
    values = {"programme": programme.programme, "demotion_id": demotion_id}
    row = connection.execute(sa.text(query), values).one_or_none()
    if row is None:
        raise LookupError(f"{programme.programme} has no proposal {demotion_id} to take a policy out of use")
    return dict(row._mapping)


def decide_demotion(
    connection: Connection, demotion_id: int, decision: str, decided_by: str, comment: str | None
) -> None:
    """Write what was decided about a proposal."""
    connection.execute(
        sa.text(
            """
            update nba.demotions
            set decision = :decision, decided_by = :decided_by, decided_at = :now, comment = :comment
            where demotion_id = :demotion_id
            """
        ),
        {
            "demotion_id": demotion_id,
            "decision": decision,
            "decided_by": decided_by,
            "now": dt.datetime.now(dt.UTC),
            "comment": comment,
        },
    )
