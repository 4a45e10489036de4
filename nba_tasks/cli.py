"""`nba`: the same steps from a terminal, and what is not a DAG."""

from __future__ import annotations

import datetime as dt
import getpass
import logging
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nba_tasks import __doc__ as package_doc
from nba_tasks.programme import Programme, read_programmes
from nba_tasks.settings import settings


class Commands(TyperGroup):
    """Commands whose expected failures are a sentence; anything else is a fault and shows where it happened."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            if type(error).__module__.startswith("nba_tasks."):
                typer.echo(str(error), err=True)
                raise typer.Exit(1) from error
            raise


app = typer.Typer(cls=Commands, help=package_doc, no_args_is_help=True, pretty_exceptions_enable=False)

Name = Annotated[str, typer.Argument(help="programme, as named in its YAML file")]
AsOf = Annotated[
    dt.datetime | None, typer.Option("--as-of", formats=["%Y-%m-%d"], help="date to decide for; default: today")
]
By = Annotated[str, typer.Option("--by", help="who says so; default: the operating system's user")]
Yes = Annotated[bool, typer.Option("--yes", help="do not ask")]


@app.callback()
def main() -> None:
    """Say what happens on standard error."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("nba_tasks").setLevel(logging.INFO)


def _programme(name: str) -> Programme:
    known = read_programmes(settings().programmes)
    if name not in known:
        raise typer.BadParameter(f"no programme {name!r}; there are: {', '.join(known) or 'none'}")
    return known[name]


def _date(programme: Programme, as_of: dt.datetime | None) -> dt.date:
    return (as_of or dt.datetime.now(programme.grid.zone)).date()


def _confirm(yes: bool, question: str) -> None:
    """Ask before what cannot be undone, unless told not to; anything but yes ends the command."""
    if not yes:
        typer.confirm(question, abort=True)


def _shown(shards: Sequence[int], step: str) -> Iterator[int]:
    """The shards one after the other, with a bar on a terminal that shows how far the step is."""
    with typer.progressbar(shards, label=step, file=sys.stderr, show_pos=True) as bar:
        yield from bar


def _build_transitions(programme: Programme, day: dt.date) -> None:
    from nba_tasks import steps

    for shard in _shown(steps.plan_training(programme, day), "transitions"):
        steps.build_transitions(programme, day, shard)


@app.command()
def check(name: Name) -> None:
    """Compare a source database with the contract and list what is missing or wrong."""
    from nba_tasks import steps

    findings = steps.check(_programme(name))
    for finding in findings:
        typer.echo(str(finding))
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)
    typer.echo("the contract is met")


@app.command()
def migrate() -> None:
    """Bring the warehouse's schema to this version."""
    from nba_tasks import database

    database.migrate(database.warehouse())


@app.command()
def history(name: Name, as_of: AsOf = None) -> None:
    """Pull, validate and merge the contact history of a date."""
    from nba_tasks import steps

    programme = _programme(name)
    day = _date(programme, as_of)
    steps.pull(programme, day)
    steps.validate(programme, day, "terminal")
    steps.merge(programme, day)


@app.command()
def readiness(name: Name, as_of: AsOf = None) -> None:
    """Say in plain words what the programme's log can decide, and when start-up mode would let a gate decide."""
    from nba_tasks import readiness_report

    programme = _programme(name)
    day = _date(programme, as_of)
    _build_transitions(programme, day)
    for line in readiness_report.look(programme, day).lines():
        typer.echo(line)


@app.command()
def train(name: Name, as_of: AsOf = None, seed: int = 0) -> None:
    """Build the transitions, learn a candidate and hold its gate."""
    from nba_tasks import steps

    programme = _programme(name)
    day = _date(programme, as_of)
    _build_transitions(programme, day)
    steps.gate(programme, day, steps.learn(programme, day, seed=seed))


@app.command()
def pareto(
    name: Name,
    event: Annotated[str, typer.Argument(help="the event to weigh, e.g. complaint")],
    weight: Annotated[list[float] | None, typer.Option(help="a weight to compare; repeat for more")] = None,
    mix: Annotated[float, typer.Option(min=0.01, max=1, help="how far from business as usual")] = 1.0,
    as_of: AsOf = None,
    seed: int = 0,
) -> None:
    """Show what other weights of an event would have chosen, and what that costs; nothing is put to use."""
    from nba_tasks import pareto

    programme = _programme(name)
    day = _date(programme, as_of)
    _build_transitions(programme, day)
    pareto.look(programme, day, event, weight or (), seed=seed, mix=mix, say=typer.echo)


@app.command()
def publish(name: Name, as_of: AsOf = None, dry_run: bool = False) -> None:
    """Score tonight's due customers and publish the list."""
    from nba_tasks import steps

    programme = _programme(name)
    day = _date(programme, as_of)
    version = steps.plan_night(programme, day, dry_run=dry_run)
    if version is None:
        raise typer.Exit(1)
    for shard in _shown(range(programme.shards), "score"):
        steps.score(programme, day, version, shard)
    steps.publish(programme, day, version, "terminal, dry run" if dry_run else "terminal", dry_run=dry_run)


@app.command()
def rebuild(name: Name, yes: Yes = False) -> None:
    """Forget a programme's history in the warehouse, to pull it anew on a changed grid; the ledger stays."""
    from nba_tasks import database
    from nba_tasks import history as pulled

    programme = _programme(name)
    _confirm(yes, f"forget the pulled history of {name}? The CRM is not touched")
    pulled.forget(database.warehouse(), programme)
    typer.echo("forgotten; run the contact history DAG (or `nba history`) to pull it anew")


@app.command()
def restart(name: Name, yes: Yes = False) -> None:
    """Take every policy out of use, after the state's columns changed; the next training begins with version 0."""
    from nba_tasks import registry

    programme = _programme(name)
    _confirm(yes, f"take the policies of {name} out of use? Nothing is listed until the next training")
    typer.echo(f"taken away: {', '.join(registry.restart(programme)) or 'nothing'}; run the policy training DAG next")


@app.command()
def rollback(name: Name) -> None:
    """Put the champion before the present one back."""
    from nba_tasks import database, review

    gone, back = review.roll_back(database.warehouse(), _programme(name), decided_by=getpass.getuser())
    typer.echo(f"version {gone} is out of use; version {back} is the champion again")


@app.command()
def rollout(
    name: Name,
    widen: Annotated[bool, typer.Option("--widen", help="take the next step, from tomorrow's night on")] = False,
    by: By = "",
    comment: Annotated[str, typer.Option(help="kept with the step")] = "",
) -> None:
    """Say how far the new champion's roll-out has come and what harm is seen; with --widen, go on."""
    from nba_tasks import rollout_steps

    programme = _programme(name)
    if widen:
        step = rollout_steps.widen(programme, by or getpass.getuser(), comment or None)
        typer.echo(f"from {step.begins_on} on version {step.policy_version} decides for {step.share}%")
        return
    rolling = rollout_steps.under_way(programme)
    if rolling is None:
        typer.echo("no roll-out is under way: the policy in use serves everybody")
        return
    step = rolling.step
    since = f"from {step.begins_on} on" if step.begins_on else "since its first night"
    typer.echo(f"version {step.policy_version} decides for {step.share}% {since}, {rolling.nights} night(s) so far")
    typer.echo(f"the others keep to version {step.previous_version}; the next step is {rolling.following}%")
    for harm in rolling.harms:
        typer.echo(f"{'ALARM: ' if harm.alarming else ''}{harm}")


@app.command()
def stop(
    name: Name,
    reason: Annotated[str, typer.Option("--reason", help="kept, and shown to whoever asks why there is no list")],
    by: By = "",
) -> None:
    """Stop a programme's lists at once: nothing more is published, and what is out has expired."""
    from nba_tasks import steps

    ran, expired = steps.stop(_programme(name), by or getpass.getuser(), reason)
    typer.echo(f"{name} {'is stopped' if ran else 'was stopped before'}; {expired} list(s) have expired")


@app.command()
def resume(name: Name, by: By = "") -> None:
    """Let a stopped programme publish again, from its next night on."""
    from nba_tasks import database, switch

    done = switch.resume(database.warehouse(), _programme(name), by or getpass.getuser())
    typer.echo(f"{name} {'publishes again' if done else 'was not stopped'}")


@app.command()
def erase(
    customer: Annotated[str, typer.Argument(help="customer_id")],
    name: Annotated[str, typer.Option("--programme", help="only of this one; default: of all")] = "",
    by: By = "",
    yes: Yes = False,
) -> None:
    """Erase a customer from everything that this project keeps, for good; the CRM's own tables are not touched."""
    from nba_tasks import database, erasure

    programmes = [_programme(name)] if name else list(read_programmes(settings().programmes).values())
    _confirm(yes, f"erase {customer} from {', '.join(one.programme for one in programmes)}, for good?")
    for programme in programmes:
        crm = database.crm(programme)
        found = erasure.erase(crm, database.warehouse(), programme, customer, by or getpass.getuser())
        typer.echo(f"{programme.programme}: {'erased' if found else 'nothing is left to erase'}")
        for part in found:
            typer.echo(f"  {part}")


@app.command()
def why(
    name: Name,
    date: Annotated[dt.datetime, typer.Argument(formats=["%Y-%m-%d"], help="of the list")],
    customer: Annotated[str, typer.Argument(help="customer_id")],
) -> None:
    """Tell which data, policy, gate and person put a customer's decision on a past list."""
    from nba_tasks import audit, database

    programme = _programme(name)
    for line in audit.why(database.crm(programme), database.warehouse(), programme, date.date(), customer):
        typer.echo(line)


@app.command()
def sql(
    database_name: Annotated[str, typer.Argument(help="crm, warehouse, airflow, mlflow or hillstrom")] = "crm",
) -> None:
    """Open a SQL prompt on one of the databases."""
    from nba_tasks.stack.postgres import open_prompt

    open_prompt(database_name)
