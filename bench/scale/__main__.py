"""Two nights at the size of a real CRM, step by step.

    make bench [SCALE=0.1]

A CRM of `SCALE` × W1 (see `world.py`) is made, then the product's own steps run as the DAGs run them: the first night
from an empty warehouse to the list, the night after on one more day, and at last a list of every customer at once. Each
step runs in processes of its own, mapped tasks two at a time. Beside the steps stand their floors, taken in the same
run. A tenth of the size runs first: the ratio of the two shows whether cost grows linearly.

Every figure is kept as soon as it is known. A run that was cut off goes on where it stopped when it is started again,
and says which step it was in.
"""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path
from typing import Annotated

import typer

from bench.installation import installation
from bench.scale import floors, night, world
from bench.scale.meter import Meter
from bench.scale.progress import Progress
from bench.scale.record import Run, markdown, targets, write
from nba_tasks import database
from nba_tasks.programme import Programme
from nba_tasks.settings import settings
from nba_tasks.stack.postgres import EmbeddedServer


def measure(scale: float, folder: Path, *, fill_only: bool = False) -> Run:
    """Both nights at one size, on a server of their own; what an earlier call has measured is not measured again."""
    progress = Progress(folder / "progress.json", scale)
    if progress.finished:
        return progress.run
    with installation(folder) as embedded:
        _fill(scale, progress)
        if not fill_only:
            _play(scale, embedded, folder, progress)
            progress.finish()
    if progress.finished:
        shutil.rmtree(folder / "pg")
    return progress.run


def _fill(scale: float, progress: Progress) -> None:
    """Make the CRM, unless it is there."""

    def fill() -> dict[str, object]:
        print(f"filling a CRM of {round(world.CUSTOMERS * scale):,} customers …", flush=True)
        world.fill(crm, scale, world.AS_OF + dt.timedelta(days=1))
        return world.sizes(crm)

    crm = settings().url("NBA_CRM_URL")
    progress.once("source", fill)
    database.migrate(database.warehouse())


def _play(scale: float, embedded: EmbeddedServer, folder: Path, progress: Progress) -> None:
    programme, first, second = world.programme_of(scale), world.AS_OF, world.AS_OF + dt.timedelta(days=1)
    postmaster = int((embedded.data / "postmaster.pid").read_text().split()[0])
    meter = Meter(postmaster, [settings().url("NBA_CRM_URL"), settings().url("NBA_WAREHOUSE_URL")], progress)
    table = f"transitions.{programme.programme}"

    meter.floor("pull", floors.copy_of_source)
    _history(meter, scale, first, "")
    meter.step("plan", night.plan, scale, first)
    meter.tasks("transitions", night.build, _shards(programme, scale, first), at_a_time=2)
    meter.floor("transitions", floors.rewrite, table)
    progress.once("row bytes", lambda: night.heap(table) / night.scalar(f"select count(*) from {table}"))
    progress.once("warehouse bytes", lambda: night.scalar("select pg_database_size(current_database())"))
    note = str(folder / "run")
    meter.step("learn", night.learn, scale, first, note)
    meter.step("gate", night.gate, scale, first, note)
    version = night.champion(scale)
    _list(meter, programme, scale, first, version, "")

    _history(meter, scale, second, "next night: ")
    meter.step("next night: plan", night.plan, scale, second)
    meter.tasks("next night: transitions", night.build, _shards(programme, scale, second), at_a_time=2)
    night.everybody_is_due(scale, second)
    _list(meter, programme, scale, second, version, "everybody: ")
    for part in floors.PREDICTED:
        meter.floor(f"everybody: predict, {part}", floors.predict, part, scale, second, version)
    meter.floor("everybody: publish", floors.copy_of_published, scale, second)


def _history(meter: Meter, scale: float, as_of: dt.date, prefix: str) -> None:
    for name, work in (("pull", night.pull), ("validate", night.validate), ("merge", night.merge)):
        meter.step(prefix + name, work, scale, as_of)


def _list(meter: Meter, programme: Programme, scale: float, as_of: dt.date, version: int, prefix: str) -> None:
    tasks = [(scale, as_of, version, shard) for shard in range(programme.shards)]
    meter.tasks(f"{prefix}score", night.score, tasks, at_a_time=2)
    meter.step(f"{prefix}publish", night.publish, scale, as_of, version)


def _shards(programme: Programme, scale: float, as_of: dt.date) -> list[tuple[float, dt.date, int]]:
    return [(scale, as_of, shard) for shard in range(programme.shards)]


def main(
    scale: Annotated[float, typer.Option(min=0.001, max=1, help="share of W1")] = 1.0,
    folder: Annotated[Path, typer.Option(help="holds the databases while it runs")] = Path(".nba/bench"),
    record: Annotated[Path | None, typer.Option(help="folder of the dated record")] = Path("docs/benchmarks"),
    linear: Annotated[bool, typer.Option(help="run a tenth of the size first")] = True,
    fill_only: Annotated[bool, typer.Option(help="make the CRMs and stop: the next call measures")] = False,
) -> None:
    """Play and measure; exits 1 where a target falls short."""
    folder, kept = folder.resolve(), record.resolve() if record else None
    sizes = [size for size in (scale / 10 if linear else None, scale) if size]
    try:
        runs = [measure(size, folder / f"{size:g}", fill_only=fill_only) for size in sizes]
    except BaseException:
        partial = Progress(folder / f"{scale:g}" / "progress.json", scale).run
        print(f"cut off; started again, it goes on from here:\n\n{markdown(partial, None)}", flush=True)
        raise
    if fill_only:
        return
    run, tenth = runs[-1], runs[0] if linear else None
    promised = targets(run, tenth)
    print(write(run, tenth, promised, kept))
    for size in sizes:
        shutil.rmtree(folder / f"{size:g}")
    raise typer.Exit(not all(target.holds for target in promised))


if __name__ == "__main__":
    typer.run(main)
