"""What can be decided about a gate, by whom, and how: the answer goes to the review that waits for it in Airflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from fastapi import Request

from nba_tasks.pages import airflow_rest, mlflow_rest
from nba_tasks.pages.access import Visitor
from nba_tasks.pages.rendering import moment

ASK = "ask"
CARRIED_OUT_BY = {"Approve": "promote", "Reject": "reject"}
"""Tasks of the review DAG."""

WAITS = ("awaiting_input", "deferred")
NOT_CARRIED_OUT = ("failed", "upstream_failed", "skipped", "removed")
"""States of those tasks."""


@dataclass(frozen=True)
class Panel:
    """What stands under a gate's headline.

    Attributes
    ----------
    state : {"open", "closed", "working", "refused", "locked"}
        `open` shows the form; `working` is asked again every few seconds.
    answers : tuple of str
        What the form offers.
    leaves : bool
        Whether the link leads out of the pages.
    """

    state: Literal["open", "closed", "working", "refused", "locked"]
    title: str
    text: str
    link: str = ""
    link_text: str = ""
    leaves: bool = True
    answers: tuple[str, ...] = ()


async def panel(request: Request, visitor: Visitor, gate: Mapping[str, Any]) -> Panel:
    """What a person can do about a gate now."""
    if settled := closed(gate):
        return settled
    refused = await _refused(gate)
    review = await waiting(request, gate)
    if review is None:
        why = "A review has to wait for the answer. It starts by itself after a gate; by hand"
        return refused or _nobody_waits(request, gate, "Nobody has been asked yet", why)
    if review["response_received"]:
        return await _answered(request, gate, review)
    if review["task_instance"]["state"] not in WAITS:
        why = "It was ended in Airflow before anybody answered. To decide"
        return refused or _nobody_waits(request, gate, "The review no longer waits", why)
    if not_theirs := _not_for(visitor, gate, review):
        return refused or Panel("locked", "Waiting for a decision", not_theirs)
    if refused:  # what it asks is still open in Airflow's list of required actions
        return replace(refused, answers=("Reject",))
    return Panel(
        "open",
        "Your decision",
        "Approving puts the new policy to use from the next list on. Rejecting changes nothing. Without an answer the "
        "review ends as rejected.",
        answers=("Approve", "Reject"),
    )


def _nobody_waits(request: Request, gate: Mapping[str, Any], title: str, why: str) -> Panel:
    """There is no review to answer; `why` goes on with how to start one."""
    return Panel(
        "locked",
        title,
        f"{why}, start the promotion review DAG with gate {gate['gate_id']}.",
        f"{_airflow(request)}/dags/{gate['programme']}.promotion_review",
        "Open the promotion review DAG",
    )


def _not_for(visitor: Visitor, gate: Mapping[str, Any], review: Mapping[str, Any]) -> str | None:
    """Why a person may not answer a review; None where they may."""
    if not visitor.decides(gate["programme"]):
        return "You may look, but not decide here."
    named = {user["id"]: user["name"] for user in review["assigned_users"]}
    if named and str(visitor.user.get_id()) not in named:
        return f"It was put to {', '.join(named.values())}."
    return None


async def waiting(request: Request, gate: Mapping[str, Any]) -> dict[str, Any] | None:
    """Airflow's required action of the review that asked about a gate; None where none did."""
    if not gate["review_run_id"]:
        return None
    found: dict[str, Any] | None = await airflow_rest.ask(request, "GET", action_path(gate))
    return found


def action_path(gate: Mapping[str, Any]) -> str:
    """Where Airflow's REST API keeps a gate's required action."""
    return f"{_run(gate)}/taskInstances/{ASK}/-1/hitlDetails"


def _run(gate: Mapping[str, Any]) -> str:
    return f"dags/{gate['programme']}.promotion_review/dagRuns/{airflow_rest.quoted(gate['review_run_id'])}"


def _airflow(request: Request) -> str:
    return str(request.scope.get("root_path", "")).rsplit("/", 1)[0]


def closed(gate: Mapping[str, Any]) -> Panel | None:
    """Nothing is left to decide."""
    if gate["decision"]:
        when = moment(gate["decided_at"], gate["business_timezone"])
        effect = (
            f"Version {gate['candidate_version']} went into use."
            if gate["decision"] == "approved"
            else f"Version {gate['incumbent_version']} went on as before."
        )
        return Panel("closed", f"{gate['decision'].capitalize()} by {gate['decided_by']}", f"{when}. {effect}")
    if gate["verdict"] != "PROMOTE":
        return Panel(
            "closed",
            "Nothing to decide",
            f"Only a PROMOTE can be approved. Version {gate['incumbent_version']} goes on as before.",
        )
    return None


async def _refused(gate: Mapping[str, Any]) -> Panel | None:
    """Why an approval would be refused, the same reasons as in nba_tasks.review."""
    if gate["newest_gate"] != gate["gate_id"]:
        return Panel(
            "refused",
            "Too late to approve",
            f"Gate {gate['newest_gate']} was held since: decide on that one.",
            f"{gate['newest_gate']}",
            f"Open gate {gate['newest_gate']}",
            leaves=False,
        )
    named = await mlflow_rest.aliases(gate["programme"])
    if named is None:
        return None
    incumbent = named.get("champion") or named.get("version_0")
    if incumbent not in (gate["incumbent_version"], gate["candidate_version"]):
        return Panel(
            "refused",
            "Too late to approve",
            f"This gate compared with version {gate['incumbent_version']}, but version {incumbent} is in use now: "
            "train again, so that the candidate faces it.",
        )
    return None


async def _answered(request: Request, gate: Mapping[str, Any], review: Mapping[str, Any]) -> Panel:
    """Somebody answered; Airflow is carrying it out, or could not."""
    answer = review["chosen_options"][0]
    who = (review["responded_by_user"] or {}).get("name", "nobody in time")
    task = CARRIED_OUT_BY[answer]
    found = await airflow_rest.ask(request, "GET", f"{_run(gate)}/taskInstances/{task}")
    run = airflow_rest.run_page(request, f"{gate['programme']}.promotion_review", gate["review_run_id"])
    if found and found["state"] in NOT_CARRIED_OUT:
        return Panel(
            "refused",
            f"{answer} by {who} could not be carried out",
            "The log of the review says why; nothing was changed.",
            f"{run}/tasks/{task}",
            "Open the log",
        )
    return Panel("working", f"{answer} by {who}", "Airflow is carrying it out; this takes some seconds.")
