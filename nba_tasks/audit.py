"""Audit: which data, policy, gate and person put a past decision where it is."""

from __future__ import annotations

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from nba_tasks import database, ledger
from nba_tasks.arms import NAMES, PREVIOUS, SERVED
from nba_tasks.programme import Programme


class AuditError(LookupError):
    """A decision that is not there; the message says what is."""


def why(crm: Engine, warehouse: Engine, programme: Programme, list_date: dt.date, customer_id: str) -> list[str]:
    """Tell of one published decision, in sentences: the choice, the list, the data, the policy, the gate, the person.

    Raises
    ------
    AuditError
        No list was published for the date, or the customer was not due on it.
    """
    with crm.connect() as connection:
        decided = _decision(connection, programme, list_date, customer_id)
    with warehouse.connect() as connection:
        scored = _scored(connection, programme, list_date, customer_id, decided["policy_version"])
        gate = ledger.gate_of_candidate(connection, programme, decided["decider"])
    return [*_choice(decided), _published(decided), *_data(programme, scored), *_policy(decided, gate)]


def _decision(connection: Connection, programme: Programme, list_date: dt.date, customer_id: str) -> dict[str, Any]:
    values = {"programme": programme.programme, "list_date": list_date, "customer_id": customer_id}
    relations = programme.crm.relations
    row = None
    if connection.scalar(sa.text("select to_regclass('publications')")):
        row = connection.execute(
            sa.text(
                f"""
                select
                    p.list_date, p.run_id, p.published_at, p.expired_at, p.expired_reason, p.policy_version,
                    d.decision_id, d.action_id, d.eligible_actions, d.probabilities, d.expected_values, d.reason,
                    d.explored, d.arm, coalesce(d.policy_version, p.policy_version::text)::integer as decider,
                    l.decision_id is not null as listed
                from publications as p
                left join {database.quote_identifier(relations.decisions)} as d
                    on d.decision_id = :programme || '/' || p.list_date || '/' || :customer_id
                left join {database.quote_identifier(relations.campaign_list)} as l using (decision_id)
                where p.programme = :programme and p.list_date = :list_date
                """
            ),
            values,
        ).one_or_none()
    if row is None:
        raise AuditError(f"{programme.programme} published no list for {list_date}")
    if row.decision_id is None:
        raise AuditError(f"{customer_id} was not decided for on {list_date}: not due, gone, or not known then")
    return dict(row._mapping)


def _scored(
    connection: Connection, programme: Programme, list_date: dt.date, customer_id: str, version: int
) -> dict[str, Any] | None:
    """The batch and the state that the decision was taken from; None where the history was rebuilt since."""
    row = connection.execute(
        sa.text(
            """
            select b.batch_id, b.started_at, b.merged_at, s.epoch, s.state, c.customer_key
            from nba.programmes as p
            join nba.batches as b using (programme_id)
            join history.customers as c using (programme_id)
            join nba.scores as s using (programme_id, as_of, customer_key)
            where p.programme = :programme and b.as_of = :list_date and c.customer_id = :customer_id
              and s.policy_version = :version
            """
        ),
        {
            "programme": programme.programme,
            "list_date": list_date,
            "customer_id": customer_id,
            "version": version,
        },
    ).one_or_none()
    return dict(row._mapping) if row else None


def _choice(decided: dict[str, Any]) -> list[str]:
    chances = ", ".join(
        f"{action} {probability:.1%}"
        for action, probability in zip(decided["eligible_actions"], decided["probabilities"], strict=True)
    )
    drawn = "drawn against the odds" if decided["explored"] else "the likeliest"
    sent = "on the list" if decided["listed"] else "nothing to send"
    return [
        f"decision: {decided['action_id']} ({sent}; arm: {decided['arm']}; {drawn} of {chances})",
        f"reason: {decided['reason']}",
    ]


def _published(decided: dict[str, Any]) -> str:
    text = f"list: of {decided['list_date']}, published {decided['published_at']:%F %R} by run {decided['run_id']}"
    if decided["expired_at"]:
        text += f", expired {decided['expired_at']:%F %R}: {decided['expired_reason']}"
    return text


def _data(programme: Programme, scored: dict[str, Any] | None) -> list[str]:
    if scored is None:
        return ["data: no longer in the warehouse; its history was rebuilt, or the customer erased, since"]
    state = ", ".join(
        f"{name} {value:g}" for name, value in zip(programme.feature_names, scored["state"], strict=False)
    )
    return [
        f"data: batch {scored['batch_id']}, pulled {scored['started_at']:%F %R}, merged {scored['merged_at']:%F %R}; "
        f"epoch {scored['epoch']} of the customer",
        f"state: {state}",
    ]


def _policy(decided: dict[str, Any], gate: dict[str, Any] | None) -> list[str]:
    version = decided["decider"]
    served = f"policy: version {version}"
    if decided["arm"] == NAMES[PREVIOUS]:
        served += f", before the roll-out of version {decided['policy_version']} reached this customer"
    elif decided["arm"] != NAMES[SERVED]:
        served += f" was in use; this customer is in the arm {decided['arm']}"
    if gate is None:
        return [f"{served}, business as usual, which no gate judged"]
    trained = gate["fingerprint"] or {}
    source = f", programme file {trained['programme_file']}" if trained.get("programme_file") else ""
    judged = f"gate: {gate['gate_id']}, {gate['verdict']} against version {gate['incumbent_version']}"
    if gate["delta"] is not None:
        judged += f", gain of a window {gate['delta']:.3f}, at least {gate['lower_bound']:.3f}"
    lines = [
        f"{served}, learned from batch {gate['batch_id']} as of {gate['as_of']}{source} "
        f"(MLflow run {gate['mlflow_run_id']})",
        judged,
    ]
    if gate["decision"]:
        comment = f": {gate['comment']}" if gate["comment"] else ""
        lines.append(f"person: {gate['decision']} by {gate['decided_by']}, {gate['decided_at']:%F %R}{comment}")
    else:
        lines.append("person: nobody has decided about this gate")
    return lines
