"""The steps of the flow as the DAGs' tasks and the command line run them: connect, do the one thing, say what came out.

Every step takes a programme and a date and leaves its result in a database; none hands data to the next.
"""

from __future__ import annotations

import datetime as dt
import logging
from typing import Any, NoReturn

from nba_tasks import contract, history, ledger, review, rollout, rollout_steps, switch, transitions
from nba_tasks import pull as pulling
from nba_tasks import validate as validation
from nba_tasks.batches import read_batch
from nba_tasks.database import crm, warehouse
from nba_tasks.programme import Programme
from nba_tasks.settings import settings
from nba_tasks.timings import Work, timed

log = logging.getLogger("nba_tasks")


# Contact history ---------------------------------------------------------------------------------------------------


def pull(programme: Programme, as_of: dt.date) -> int:
    """Pin the date's batch and copy what is new or changed into staging; returns the batch's id."""
    batch_id = pulling.start(warehouse(), programme, as_of)
    with timed(programme, as_of, "pull") as work:
        pulled = pulling.pull(crm(programme), warehouse(), programme, batch_id)
        work.rows = sum(pulled.rows.values())
    if pulled.rows:
        log.info("batch %s pulled: %s", batch_id, ", ".join(f"{rows} {name}" for name, rows in pulled.rows.items()))
    else:
        log.info("batch %s of %s is already part of the history; nothing to pull", batch_id, as_of)
    return batch_id


def validate(programme: Programme, as_of: dt.date, run_id: str) -> None:
    """Check the date's batch; bad rows go to quarantine.

    Raises
    ------
    ValidationFailed
        Something critical failed; the message lists it.
    """
    batch_id = pulling.start(warehouse(), programme, as_of)
    folder = settings().home / "validation" / programme.programme / as_of.isoformat()
    with timed(programme, as_of, "validate") as work:
        result = validation.validate(warehouse(), programme, batch_id, run_id, folder)
        work.rows = sum(result.rows.values())
    result.refuse_critical()
    log.info("%s\nreport: %s", result, result.report)


def merge(programme: Programme, as_of: dt.date) -> None:
    """Make the date's validated batch part of the history."""
    batch_id = pulling.start(warehouse(), programme, as_of)
    with timed(programme, as_of, "merge") as work:
        merged = history.merge(warehouse(), programme, batch_id)
        work.rows = sum(merged.added.values()) + sum(merged.ended.values())
    log.info("batch %s is part of the history", batch_id)


# Policy training ---------------------------------------------------------------------------------------------------


def plan_training(programme: Programme, as_of: dt.date, days_between: int | None = None) -> list[int]:
    """Prepare the transitions table; returns the shards to build, none where the last gate is too recent.

    Parameters
    ----------
    days_between : int, optional
        Train only if the last gate is at least this many days older than `as_of`; None: in any case.
    """
    last = ledger.last_gate(warehouse(), programme.programme)
    if days_between is not None and last and (as_of - last["as_of"]).days < days_between:
        log.info(
            "the last gate is of %s, less than %s days ago: no training today (trigger by hand to train anyway)",
            last["as_of"],
            days_between,
        )
        return []
    return transitions.prepare(warehouse(), programme, as_of)


def build_transitions(programme: Programme, as_of: dt.date, shard: int) -> Work:
    """Build one shard of the transitions; returns what that took."""
    with timed(programme, as_of, "transitions", shard) as work:
        built = transitions.build_shard(warehouse(), programme, as_of, shard)
        work.rows = built.written
    log.info("%s (the shard has %s)", work, f"{built.rows:,}")
    return work


def learn(programme: Programme, as_of: dt.date, seed: int = 0) -> str:
    """Learn the candidate; returns the MLflow run that holds it."""
    from nba_tasks import registry, train

    with timed(programme, as_of, "learn") as work:
        run_id = train.learn(programme, as_of, seed=seed)
        work.rows = int(registry.client().get_run(run_id).data.params["rows"])
    return run_id


def gate(programme: Programme, as_of: dt.date, run_id: str, dag_run_id: str | None = None) -> int:
    """Judge what a run learned; returns the gate's id in the ledger."""
    from nba_tasks import trial

    with timed(programme, as_of, "gate") as work:
        gate_id = trial.hold(programme, as_of, run_id, dag_run_id=dag_run_id)
        with warehouse().connect() as connection:
            work.rows = ledger.gate(connection, programme, gate_id)["windows"] or 0
    return gate_id


# Promotion review --------------------------------------------------------------------------------------------------


def review_report(programme: Programme, gate_id: int | None, run_id: str) -> dict[str, Any]:
    """What the review DAG shows and where it goes on: `ask`, `approve_automatically` or `close`."""
    from nba_tasks.report import review_body, review_subject

    if gate_id is None:
        last = ledger.last_gate(warehouse(), programme.programme)
        if last is None:
            raise LookupError(f"{programme.programme} has held no gate yet: run its policy training DAG first")
        gate_id = int(last["gate_id"])
    with warehouse().begin() as connection:
        gate = ledger.gate(connection, programme, gate_id)
        ledger.asked(connection, gate_id, run_id)
    if gate["verdict"] != "PROMOTE" or gate["decision"] is not None:
        route = "close"
    elif review.answers_itself(programme, gate):
        route = "approve_automatically"
    else:
        route = "ask"
    body = review_body(gate["report"], programme.grid.interval_days)
    return {"gate_id": gate_id, "route": route, "subject": review_subject(gate), "body": body}


def approve_automatically(programme: Programme, gate_id: int) -> None:
    """Let the programme's `auto_promote` approve."""
    made = review.decide(warehouse(), programme, gate_id, approve=True, decided_by=review.AUTO)
    log.info("gate %s: version %s is the champion", gate_id, made.champion_version)


def close_review(programme: Programme, gate_id: int) -> None:
    """Say that there is nothing to approve; the incumbent stays."""
    with warehouse().connect() as connection:
        gate = ledger.gate(connection, programme, gate_id)
    if gate["decision"] is not None:
        log.info("gate %s was %s by %s before", gate_id, gate["decision"], gate["decided_by"])
    else:
        log.info(
            "gate %s ended in %s: nothing to approve, version %s stays",
            gate_id,
            gate["verdict"],
            gate["incumbent_version"],
        )


def demotion_report(programme: Programme, demotion_id: int) -> dict[str, Any]:
    """The same for a proposal to take the policy in use out of it."""
    with warehouse().connect() as connection:
        proposal = ledger.demotion(connection, programme, demotion_id)
    version, back = proposal["from_version"], proposal["to_version"]
    body = (
        f"The daily look at what the lists of **{programme.programme}** earned proposes, as of {proposal['as_of']}, to "
        f"take version {version} out of use and put version {back} back: {proposal['evidence']}.\n\n"
        "**Approve** puts it back at once. **Reject** changes nothing; it is proposed again in four weeks if it still "
        "holds."
    )
    return {
        "demotion_id": demotion_id,
        "gate_id": None,
        "route": "ask" if proposal["decision"] is None else "close",
        "subject": f"{programme.programme}: take version {version} out of use?",
        "body": body,
    }


def answer_review(programme: Programme, gate_id: int, answer: dict[str, Any] | None) -> None:
    """Carry out what a person (or the timeout, which rejects) answered."""
    if answer is None:
        return
    user = (answer.get("responded_by_user") or {}).get("name") or "timeout"
    made = review.decide(
        warehouse(),
        programme,
        gate_id,
        approve=answer["chosen_options"] == ["Approve"],
        decided_by=user,
        comment=(answer.get("params_input") or {}).get("comment") or None,
    )
    log.info("gate %s %s by %s", gate_id, "approved" if made.approved else "rejected", made.decided_by)


def answer_demotion(programme: Programme, demotion_id: int, answer: dict[str, Any] | None) -> None:
    """Carry out what a person (or the timeout, which rejects) answered."""
    if answer is None:
        return
    taken = review.decide_demotion(
        warehouse(),
        programme,
        demotion_id,
        approve=answer["chosen_options"] == ["Approve"],
        decided_by=(answer.get("responded_by_user") or {}).get("name") or "timeout",
        comment=(answer.get("params_input") or {}).get("comment") or None,
    )
    log.info("the policy in use %s", "was taken out of it" if taken else "stays")


# Nightly actions ---------------------------------------------------------------------------------------------------


def plan_night(programme: Programme, as_of: dt.date, *, dry_run: bool = False) -> int | None:
    """The policy version to serve tonight; None, after saying so, where nothing is to be published.

    That is: there is no policy yet, the list is out already, or the programme is stopped. The last two do not keep a
    dry run from showing what the list would be.

    Raises
    ------
    PublishError
        A dry run would score anew what a published list rests on.
    """
    from nba_tasks import publish as publishing
    from nba_tasks import score

    with warehouse().connect() as connection:
        read_batch(connection, programme, as_of)
        if not dry_run and (why := switch.stopped(connection, programme)):
            log.warning(
                "%s is %s. Nothing is published until `nba resume %s`", programme.programme, why, programme.programme
            )
            return None
    done = publishing.published(crm(programme), programme, as_of)
    if done and not dry_run:
        log.info(
            "%s is published already (version %s, %s decisions, %s to send) and stays as it is",
            as_of,
            done.policy_version,
            done.decisions,
            done.to_send,
        )
        return None
    version = score.version_to_serve(programme)
    if version is None:
        log.warning(
            "%s has no champion yet: nothing is written. Approve a candidate in the promotion review, or set "
            "publish.serve_version_0 to list business as usual meanwhile",
            programme.programme,
        )
    if done and version == done.policy_version and not score.scored_as_now(warehouse(), programme, as_of, version):
        raise publishing.PublishError(
            f"the list of {as_of} is out, and rests on scores of version {version} under another programme file than "
            "today's: a dry run would replace them. Try the file on another night"
        )
    return version


def score(programme: Programme, as_of: dt.date, version: int, shard: int) -> Work:
    """Score the due customers of one shard; returns what that took."""
    from nba_tasks import score as scoring

    with timed(programme, as_of, "score", shard) as work:
        serve = scoring.serving(programme, version, rollout.step_on(warehouse(), programme, version, as_of))
        work.rows = scoring.score_shard(warehouse(), programme, as_of, shard, serve)
    log.info("%s (due on %s)", work, as_of)
    return work


def publish(programme: Programme, as_of: dt.date, version: int, run_id: str, *, dry_run: bool = False) -> None:
    """Draw and publish the night's list.

    Raises
    ------
    PublishError
        The version that was scored has been taken out of use since.
    """
    from nba_tasks import publish as publishing
    from nba_tasks import registry
    from nba_tasks import score as scoring

    # A promotion during the night leaves the planned version `previous`; a rollback leaves it nothing.
    in_use = {scoring.version_to_serve(programme), registry.version_of(programme, "previous")}
    if version not in in_use:
        raise publishing.PublishError(
            f"version {version} was scored for {as_of} but has been taken out of use since: "
            "run the nightly actions DAG again from its first task"
        )
    with timed(programme, as_of, "publish") as work:
        serve = scoring.serving(programme, version, rollout.step_on(warehouse(), programme, version, as_of))
        done = publishing.publish(crm(programme), warehouse(), programme, as_of, serve, run_id, dry_run=dry_run)
        work.rows = done.decisions
    log.info(
        "%s: %s decisions, %s to send, policy version %s, %s",
        as_of,
        done.decisions,
        done.to_send,
        done.policy_version,
        "published" if done.written else "not written (a dry run, or published before)",
    )


def expire(programme: Programme, as_of: dt.date, *, dry_run: bool = False) -> NoReturn:
    """Mark earlier lists expired after a night that failed, and fail as well, so that the run shows it.

    A dry run, or one for another date than today, concerns no list: it only fails.

    Raises
    ------
    NightFailed
        Always.
    """
    from nba_tasks import publish as publishing

    if dry_run or as_of != dt.datetime.now(programme.grid.zone).date():
        raise NightFailed(f"the run for {as_of} failed; it would not have published, so that no list is touched")
    expired = publishing.expire(crm(programme), programme, as_of, f"the night of {as_of} failed")
    raise NightFailed(
        f"the night of {as_of} failed: nothing was published, {expired} earlier list(s) are marked expired. "
        "The failed task's log says why"
    )


class NightFailed(RuntimeError):
    """A night without a list; the message says what became of the lists before."""


# Outcomes ----------------------------------------------------------------------------------------------------------


def look_at_outcomes(
    programme: Programme, as_of: dt.date, dag_run_id: str | None = None, *, today: dt.date | None = None
) -> dict[str, Any]:
    """Look at what the lists earned and keep it; today's look may take the next step of a roll-out.

    Parameters
    ----------
    today : date, optional
        The business time zone's date; given only where time is simulated.

    Returns
    -------
    dict
        `alerts`, a list of sentences, and `demotion_id`, of a proposal made now, or None.
    """
    from nba_tasks import outcomes

    found = outcomes.look(crm(programme), programme, as_of)
    if found is None:
        log.info("%s has published no list before %s: there is nothing to look at", programme.programme, as_of)
        return {"alerts": [], "demotion_id": None}
    demotion_id = outcomes.record(warehouse(), programme, as_of, found, dag_run_id)
    for arm in found.content["arms"]:
        log.info("%s: %s windows, %s each (%s to %s)", *(arm[k] for k in ("arm", "windows", "value", "lower", "upper")))
    for row in found.content["promises"]:
        log.info("the gate's promise of the %s is %s", row["figure"], row["kept"])
    for alert in found.alerts:
        log.warning(alert)
    if found.rolling is not None and found.demotion is None:
        rollout_steps.go_on(programme, as_of, found.rolling, today or dt.datetime.now(programme.grid.zone).date())
    return {"alerts": list(found.alerts), "demotion_id": demotion_id}


def stop(programme: Programme, by: str, reason: str) -> tuple[bool, int]:
    """Stop a programme: nothing more is published, and no list that is out may be sent any more.

    Returns
    -------
    tuple of bool and int
        Whether it ran before, and how many lists were still valid.
    """
    from nba_tasks import publish as publishing

    ran = switch.stop(warehouse(), programme, by, reason)
    return ran, publishing.expire(crm(programme), programme, dt.date.max, f"stopped by {by}: {reason}")


def check(programme: Programme) -> list[contract.Finding]:
    """Compare the source database with the contract."""
    return contract.check(crm(programme), programme)
