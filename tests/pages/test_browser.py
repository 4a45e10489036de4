"""A person at the browser: log in, train by the form, look and reject; on the real scheduler."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import yaml
from playwright.sync_api import Browser, FrameLocator, Page, expect, sync_playwright

from nba_tasks import database, ledger
from nba_tasks.programme import Programme, read_programme
from nba_tasks.settings import REPOSITORY, Settings
from nba_tasks.simulators.crm import simulate_to_crm
from nba_tasks.stack.airflow_api import AirflowClient, Run
from nba_tasks.stack.services import ADMIN, Stack, only_one
from tests.pages.conftest import free_port

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: as root, `make browser`"),
]

CUSTOMERS = 4_000
PATIENCE = 900_000  # milliseconds; a busy machine is slow
PROGRAMME = {
    "review": {"auto_promote": False},
    "publish": {"serve_version_0": False},
    "shards": 2,
    "learning": {"trees": 10, "min_samples_leaf": 50, "max_sweeps": 40, "tolerance": 0.05, "discount": 0.95},
    "gate": {
        "horizon": 2, "alpha": 0.45, "min_effective_size": 100, "min_power": 0.01, "select_headroom": 1,
        "harm_relative": 100.0, "harm_absolute": 0.5, "harm_min_events": 0,
    },
}  # fmt: skip
"""Thresholds that 4,000 customers can meet: this is about who may do what, not about statistics."""


@dataclass
class Desk:
    """A browser at the running stack."""

    stack: Stack
    programme: Programme
    airflow: AirflowClient
    browser: Browser

    def page(self) -> Page:
        """A page of a fresh session."""
        made = self.browser.new_context(base_url=self.stack.airflow_url)
        made.set_default_timeout(PATIENCE)
        return made.new_page()

    def dag(self, name: str) -> str:
        return f"{self.programme.programme}.{name}"

    def gate(self) -> dict[str, Any]:
        """The newest gate."""
        found = ledger.last_gate(self.warehouse, self.programme.programme)
        assert found is not None
        return found

    @property
    def warehouse(self) -> Any:
        return database.engine(self.urls["NBA_WAREHOUSE_URL"])

    @property
    def urls(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.stack.settings.running_stack.read_text())
        return found

    def parked(self, after: int = 0) -> Run:
        """Wait until a review asks about a gate that is newer than `after`."""
        deadline = time.monotonic() + PATIENCE / 1000
        while time.monotonic() < deadline:
            gate = ledger.last_gate(self.warehouse, self.programme.programme)
            if gate and gate["gate_id"] > after and gate["review_run_id"]:
                run = self.airflow.look(Run(self.dag("promotion_review"), gate["review_run_id"], "running"))
                if any(task.task_id == "ask" and task.state == "awaiting_input" for task in run.tasks):
                    return run
                assert run.state not in ("failed", "success"), (gate["verdict"], gate["report"]["reasons"], run.tasks)
            time.sleep(1)
        raise AssertionError("no review asked")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A stack with a pulled history, and a browser."""
    programmes = tmp_path_factory.mktemp("programmes")
    shipped = read_programme(REPOSITORY / "dags" / "programmes" / "sales_channels.yaml")
    programme = Programme.model_validate(shipped.model_dump() | PROGRAMME)
    (programmes / "sales_channels.yaml").write_text(yaml.safe_dump(programme.model_dump(mode="json")))
    stack = Stack(
        Settings(
            home=tmp_path_factory.mktemp("desk"),
            programmes=programmes,
            airflow_port=free_port(),
            mlflow_port=free_port(),
        )
    )
    with only_one(stack.home):
        try:
            server = stack.start_database()
            urls = stack.urls(server)
            database.migrate(database.engine(urls["NBA_WAREHOUSE_URL"]))
            today = dt.datetime.now(programme.grid.zone).date()
            simulate_to_crm("sales_channels", database.engine(urls["NBA_CRM_URL"]), today, CUSTOMERS, seed=1)
            stack.start_programs(server)
            airflow = AirflowClient(stack.airflow_url, ADMIN, stack.secrets.admin_password)
            for name in ("contact_history", "promotion_review"):
                airflow.unpause(f"{programme.programme}.{name}")
            history = airflow.trigger(f"{programme.programme}.contact_history", {"as_of": str(today)})
            airflow.wait(history, lambda run: None)
            with sync_playwright() as playwright:
                options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
                yield Desk(stack, programme, airflow, browser)
                browser.close()
        finally:
            stack.stop()


def train_by_form(page: Page, desk: Desk, seed: int) -> None:
    """Start a training as a person does: the DAG's page, Trigger, the form."""
    page.goto(f"/dags/{desk.dag('policy_training')}")
    page.get_by_role("button", name="Trigger").first.click()
    page.get_by_text("Run Parameters").wait_for()
    page.locator("input[name=element_seed]").fill(str(seed))
    page.get_by_role("button", name="Trigger").last.click()
    page.get_by_text("Run Parameters").wait_for(state="hidden")


def frame_of(page: Page, name: str) -> FrameLocator:
    return page.frame_locator(f"iframe[title='{name}']")


def test_log_in_train_look_and_reject(desk: Desk) -> None:
    desk.airflow.unpause(desk.dag("policy_training"))
    page = desk.page()
    page.goto("/")
    page.locator("input[name=username]").fill(ADMIN)
    page.locator("input[name=password]").fill(desk.stack.secrets.admin_password)
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Gates").first.wait_for()
    train_by_form(page, desk, seed=0)
    desk.parked()
    gate = desk.gate()
    page.get_by_role("link", name="Gates").first.click()
    inside = frame_of(page, "Gates")
    inside.get_by_role("link", name=str(gate["gate_id"]), exact=True).click()
    expect(inside.get_by_role("heading", name="Your decision")).to_be_visible()
    expect(inside.locator("figure.chart svg.plot")).not_to_have_count(0)
    inside.get_by_label("Why?").fill("not before summer")
    inside.get_by_role("button", name="Reject").click()
    expect(inside.get_by_role("heading", name=f"Rejected by {ADMIN}")).to_be_visible(timeout=PATIENCE)
    expect(inside.get_by_text("not before summer")).to_be_visible()
    after = desk.gate()
    assert (after["decision"], after["decided_by"], after["comment"]) == ("rejected", ADMIN, "not before summer")
    assert alias(desk, "champion") is None
    page.goto(f"/nba/policies/{desk.programme.programme}")
    expect(page.get_by_text("No policy has been approved yet")).to_be_visible()


def alias(desk: Desk, name: str) -> int | None:
    """The version that an alias names, asked of MLflow itself."""
    query = {"name": desk.programme.programme}
    path = f"{desk.stack.mlflow_url}/api/2.0/mlflow/registered-models/get"
    found = httpx.get(path, params=query, trust_env=False).raise_for_status().json()["registered_model"]
    return next((int(each["version"]) for each in found.get("aliases", []) if each["alias"] == name), None)
