"""The pictures of docs/review-a-promotion.md: a real gate, a list and a customer of the demo's simulated retailer.

    make screenshots

Starts a stack of its own and plays the demo through Airflow, but leaves the decision to a person: the candidate is
approved at its page. Then it is judged again with a gain asked for that it does not have, and another candidate is
learned from a log of wrong chances. Every page is taken in light and dark, at 1280 and 390 pixels.
"""

from __future__ import annotations

import datetime as dt
import io
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from nba_tasks import database, ledger
from nba_tasks.programme import Programme, read_programme
from nba_tasks.settings import REPOSITORY, Settings
from nba_tasks.simulators.crm import simulate_to_crm
from nba_tasks.stack.airflow_api import AirflowClient, Run
from nba_tasks.stack.demo import follow
from nba_tasks.stack.postgres import Server
from nba_tasks.stack.services import ADMIN, Stack, only_one

IMAGES = REPOSITORY / "docs" / "images" / "pages"
CUSTOMERS, SEED = 15_000, 0
WIDTHS = (1280, 390)
TALLEST = 2600  # pixels of a page that are shown
HEAVIEST = 150_000  # bytes of a picture
CHROMIUM = "/usr/bin/chromium"

CAREFUL: dict[str, Any] = {"review": {"auto_promote": False}, "learning": {"trees": 20}}
WHAT_IF = {"margin": 0.5}
MISTAKEN = "mistaken_log"
"""A second programme over the same customers, whose log holds wrong chances: what is learned from it is rejected."""
WRONG_CHANCES = """
    create view decisions_mistaken as
    select decision_id, customer_id, decided_at, action_id, eligible_actions, array(
        select 0.8 * own.p + 0.2 * other.p
        from unnest(probabilities) with ordinality as own (p, place)
        join unnest(probabilities) with ordinality as other (p, place)
            on own.place + other.place = cardinality(probabilities) + 1
        order by own.place
    ) as probabilities
    from decisions
"""


@dataclass
class Play:
    """The running stack, and what has been played on it."""

    stack: Stack
    server: Server
    shipped: Programme
    airflow: AirflowClient
    warehouse: Any
    today: dt.date

    def dag(self, name: str) -> str:
        return f"{self.shipped.programme}.{name}"

    def run(self, name: str, **form: Any) -> Run:
        """Start a DAG by hand and wait until it ends."""
        from rich.console import Console

        started = self.airflow.trigger(self.dag(name), form)
        return follow(self.airflow, Console(), started)

    def train(self, seed: int) -> dict[str, Any]:
        """Train, and return the gate once its review waits or has ended."""
        run = self.run("policy_training", as_of=str(self.today), seed=seed)
        review = self.airflow.started_by(run, self.dag("promotion_review"))
        assert review is not None
        while self.airflow.look(review).state not in ("success", "failed") and not self.asked(review):
            pass
        gate = ledger.last_gate(self.warehouse, self.shipped.programme)
        assert gate is not None
        print(f"gate {gate['gate_id']}: {gate['verdict']}", flush=True)
        return gate

    def asked(self, review: Run) -> bool:
        """Whether a person is asked."""
        return any(task.task_id == "ask" and task.state == "awaiting_input" for task in self.airflow.look(review).tasks)


def write_programme(folder: Path, shipped: Programme, changes: Mapping[str, Any], name: str | None = None) -> Programme:
    """The shipped programme, under its own name or another one, with other keys; whole sections are merged."""
    content = shipped.model_dump(mode="json", exclude_none=True) | ({"programme": name} if name else {})
    for section, keys in changes.items():
        content[section] = content.get(section, {}) | dict(keys)
    written = Programme.model_validate(content)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{written.programme}.yaml").write_text(yaml.safe_dump(content))
    return written


def with_mistaken_log(play: Play) -> Play:
    """The same stack with a programme that reads wrong chances, its history pulled."""
    urls = play.stack.urls(play.server)
    with database.engine(urls["NBA_CRM_URL"]).begin() as connection:
        connection.exec_driver_sql(WRONG_CHANCES)
    relations = play.shipped.crm.relations.model_dump(exclude_none=True) | {"decisions": "decisions_mistaken"}
    crm = {"crm": {"relations": relations}}
    second = replace(
        play, shipped=write_programme(play.stack.settings.programmes, play.shipped, CAREFUL | crm, MISTAKEN)
    )
    for name in ("contact_history", "promotion_review"):
        second.airflow.unpause(second.dag(name), patience=180)
    second.run("contact_history", as_of=str(play.today))
    second.airflow.unpause(second.dag("policy_training"))
    return second


@contextmanager
def played(home: Path) -> Iterator[Play]:
    """A stack with a history that was pulled."""
    shipped = read_programme(REPOSITORY / "dags" / "programmes" / "sales_channels.yaml")
    ports, folder = Settings(), home / "programmes"
    write_programme(folder, shipped, CAREFUL)
    stack = Stack(
        Settings(home=home, programmes=folder, airflow_port=ports.airflow_port, mlflow_port=ports.mlflow_port)
    )
    with only_one(home):
        try:
            stack.check_ports()
            server = stack.start_database()
            urls = stack.urls(server)
            warehouse = database.engine(urls["NBA_WAREHOUSE_URL"])
            database.migrate(warehouse)
            today = dt.datetime.now(shipped.grid.zone).date()
            simulate_to_crm(shipped.programme, database.engine(urls["NBA_CRM_URL"]), today, CUSTOMERS, SEED)
            stack.start_programs(server)
            airflow = AirflowClient(stack.airflow_url, ADMIN, stack.secrets.admin_password)
            play = Play(stack, server, shipped, airflow, warehouse, today)
            for name in ("contact_history", "promotion_review"):
                airflow.unpause(play.dag(name))
            play.run("contact_history", as_of=str(today))
            for name in ("policy_training", "nightly_actions"):
                airflow.unpause(play.dag(name))
            yield play
        finally:
            stack.stop()


def entered(browser: Browser, play: Play, **options: Any) -> BrowserContext:
    """A logged-in session."""
    context = browser.new_context(base_url=play.stack.airflow_url, **options)
    context.set_default_timeout(120_000)
    context.add_cookies([{"name": "_token", "value": play.airflow.token, "url": play.stack.airflow_url}])
    return context


def take(browser: Browser, play: Play, name: str, path: str, folder: Path) -> None:
    """A page in light and dark and at both widths."""
    for scheme in ("light", "dark"):
        for width in WIDTHS:
            view = {"width": width, "height": 900}
            context = entered(browser, play, viewport=view, color_scheme=scheme)
            page = context.new_page()
            page.goto(path, wait_until="networkidle")
            height = min(TALLEST, int(page.evaluate("document.documentElement.scrollHeight")))
            png = page.screenshot(clip={"x": 0, "y": 0, "width": width, "height": height}, full_page=True)
            (folder / f"{name}-{width}-{scheme}.webp").write_bytes(small(png))
            context.close()


def small(png: bytes) -> bytes:
    """The picture as WebP: the best quality that is light enough."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    for quality in (90, 80, 70, 60, 50, 40, 30):
        written = io.BytesIO()
        picture.save(written, "WEBP", quality=quality, method=6)
        if written.tell() <= HEAVIEST:
            return written.getvalue()
    raise ValueError(f"a picture of {picture.size} does not fit into {HEAVIEST} bytes")


def shoot(play: Play, folder: Path) -> None:
    """Play, decide, and take every picture."""
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        first = play.train(seed=0)
        address = f"/nba/gates/{first['gate_id']}"
        take(browser, play, "gate-waiting", address, folder)
        page = entered(browser, play).new_page()
        page.goto(address)
        page.get_by_label("Why?").fill("earns more, and complaints stay low")
        page.get_by_role("button", name="Approve").click()
        page.get_by_role("heading", name="Approved by").wait_for()
        take(browser, play, "gate-promoted", address, folder)
        play.run("nightly_actions", as_of=str(play.today))
        night = f"{play.shipped.programme}/{play.today}"
        take(browser, play, "list", f"/nba/lists/{night}", folder)
        page.goto(f"/nba/lists/{night}")
        trace = page.locator("table.rows a").first.get_attribute("href")
        take(browser, play, "customer", str(trace), folder)
        take(browser, play, "policies", f"/nba/policies/{play.shipped.programme}", folder)
        play.airflow.unpause(play.dag("gate_what_if"))
        play.run("gate_what_if", **WHAT_IF)
        take(browser, play, "gate-deferred", f"{address}/what-if/1", folder)
        rejected = with_mistaken_log(play).train(seed=0)
        if rejected["verdict"] != "REJECT":
            raise RuntimeError(f"what was learned from a log of wrong chances got {rejected['verdict']}")
        take(browser, play, "gate-rejected", f"/nba/gates/{rejected['gate_id']}", folder)
        take(browser, play, "gates", "/nba/gates", folder)
        browser.close()


def main(
    home: Annotated[Path, typer.Option(help="holds the stack while it runs")] = Path(".nba/screenshots"),
    folder: Annotated[Path, typer.Option(help="where the pictures go")] = IMAGES,
) -> None:
    """Play the demo and take the pictures; about ten minutes on two free cores."""
    with played(home.resolve()) as play:
        shoot(play, folder)
    shutil.rmtree(home)


if __name__ == "__main__":
    typer.run(main)
