"""The commands that start and stop the stack: `demo`, `up`, `down`, `hillstrom`, `forget`."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from nba_tasks.programme import ProgrammeError, read_programme
from nba_tasks.settings import SettingsError, settings
from nba_tasks.stack.errors import StackError
from nba_tasks.stack.services import LOCK, Stack, interrupt_owner, only_one

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False)

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def running_stack() -> Iterator[Stack]:
    """A stack to start, stopped whatever happens: an error, Ctrl-C, SIGTERM, a closed terminal."""
    for number in ENDS:
        signal.signal(number, _interrupt)
    stack = Stack(settings(), report=lambda line: console.print(f"  {line}"))
    with only_one(stack.home):
        if leftovers := stack.stop():
            console.print(f"stopped what an earlier run left behind: {', '.join(leftovers)}")
        stack.check_ports()
        try:
            yield stack
        finally:
            for number in ENDS:
                signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave half of it running
            stopped = stack.stop()
            with suppress(OSError):  # the terminal may be gone
                console.print(f"stopped {', '.join(stopped) or 'nothing'}")


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


@contextmanager
def explained() -> Iterator[None]:
    """Turn the errors that a person can mend into a message and status 1; Ctrl-C is a normal end."""
    try:
        yield
    except (StackError, SettingsError, ProgrammeError) as error:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


@app.command()
def demo(
    once: Annotated[bool, typer.Option(help="stop when the list is there")] = False,
    programme: str = "sales_channels",
    customers: Annotated[int, typer.Option(min=1000)] = 20_000,
    seed: int = 1,
) -> None:
    """Simulated customers, the whole loop through Airflow, tonight's list; stays up until Ctrl-C."""
    from nba_tasks.stack.demo import SimulatedCrm, run_demo

    with explained(), running_stack() as stack:
        configuration = read_programme(stack.settings.programmes / f"{programme}.yaml")
        run_demo(stack, console, configuration, SimulatedCrm(configuration, customers, seed))
        if not once:
            stay(stack)


@app.command()
def hillstrom(data: Annotated[Path, typer.Argument(exists=True, dir_okay=False)]) -> None:
    """The same loop on the customers of a published, randomised e-mail test."""
    from nba_tasks.database import warehouse
    from nba_tasks.stack.demo import HillstromCrm, run_demo, show_arms

    with explained(), running_stack() as stack:
        configuration = read_programme(stack.settings.programmes / "hillstrom.yaml")
        as_of = run_demo(stack, console, configuration, HillstromCrm(data))
        show_arms(console, warehouse(), configuration, as_of)


@app.command()
def up() -> None:
    """Start the stack without a demo; stays up until Ctrl-C."""
    from nba_tasks.stack.demo import show_addresses

    with explained(), running_stack() as stack:
        stack.start_programs(stack.start_database())
        show_addresses(console, stack)
        stay(stack)


@app.command()
def down() -> None:
    """Stop whatever was left running."""
    with explained():
        stack = Stack(settings())
        interrupt_owner(stack.home)
        stopped = stack.stop() if stack.home.exists() else []
        console.print(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


@app.command()
def forget() -> None:
    """Stop, and remove the state folder with every database, log and artefact."""
    with explained():
        stack = Stack(settings())
        if not stack.home.exists():
            return
        if not (stack.home / LOCK).exists():
            raise StackError(f"{stack.home} is not a state folder of ours; remove it by hand if it is meant")
        interrupt_owner(stack.home)
        with only_one(stack.home):
            stack.stop()
            if stack.embedded:
                shutil.rmtree(stack.embedded.socket_folder, ignore_errors=True)
            shutil.rmtree(stack.home)


def stay(stack: Stack) -> NoReturn:
    """Watch over the programs until Ctrl-C."""
    console.print("Ctrl-C stops everything")
    while True:
        stack.check()
        time.sleep(1)
