"""A person at the browser: train, look, reject, train again, approve, and find the list; on the real scheduler."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx
import jwt
import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from itsdangerous import URLSafeTimedSerializer
from playwright.sync_api import Browser, BrowserContext, FrameLocator, Page, expect, sync_playwright

from nba_tasks import database, ledger
from nba_tasks.programme import Programme, read_programme
from nba_tasks.settings import REPOSITORY, Settings
from nba_tasks.simulators.crm import simulate_to_crm
from nba_tasks.stack.airflow_api import AirflowClient, Run
from nba_tasks.stack.services import ADMIN, Stack, only_one
from tests.pages.conftest import free_port

CHROMIUM = shutil.which("chromium")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")]

CUSTOMERS = 10_000
PATIENCE = 300_000  # milliseconds; a busy machine is slow
PROGRAMME = {
    "review": {"auto_promote": False},
    "publish": {"serve_version_0": False},
    "shards": 2,
    "learning": {"trees": 20, "min_samples_leaf": 50, "max_sweeps": 40, "tolerance": 0.05, "discount": 0.95},
    "gate": {
        "horizon": 2, "alpha": 0.45, "min_effective_size": 100, "min_power": 0.01, "select_headroom": 1,
        "harm_relative": 100.0, "harm_absolute": 0.5, "harm_min_events": 0,
    },
}  # fmt: skip
"""Thresholds that 10,000 customers meet with room to spare: this is about who may do what, not about statistics."""


@dataclass
class Desk:
    """A browser at the running stack, and every address that it asked for."""

    stack: Stack
    programme: Programme
    airflow: AirflowClient
    browser: Browser
    asked: set[str] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)

    def context(self, **options: Any) -> BrowserContext:
        """A fresh session that is watched."""
        made = self.browser.new_context(base_url=self.stack.airflow_url, **options)
        made.set_default_timeout(PATIENCE)
        made.on("request", lambda request: self.asked.add(urlsplit(request.url).netloc))
        made.on("console", lambda said: self.complaints.append(said.text) if "Content Security" in said.text else None)
        return made

    def token(self, name: str, role: str) -> str:
        """A session's token as the stack's own key signs it, for a user whom the demo has no account for."""
        mine = self.airflow.token
        claims = jwt.decode(mine, options={"verify_signature": False}) | {"sub": name, "role": role, "jti": name}
        algorithm = jwt.get_unverified_header(mine)["alg"]
        return jwt.encode(claims, self.stack.secrets.jwt_secret, algorithm)

    def as_user(self, name: str, role: str, **options: Any) -> Page:
        """A page of somebody who is logged in."""
        context = self.context(**options)
        context.add_cookies([{"name": "_token", "value": self.token(name, role), "url": self.stack.airflow_url}])
        return context.new_page()

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
    def crm(self) -> Any:
        return database.engine(self.urls["NBA_CRM_URL"])

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
    page = desk.context().new_page()
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


def test_a_viewer_looks_but_may_not_act_and_an_editor_approves(desk: Desk) -> None:
    page = desk.as_user("edna", "user")
    before = desk.gate()["gate_id"]
    train_by_form(page, desk, seed=1)
    desk.parked(after=before)
    gate = desk.gate()
    address = f"/nba/gates/{gate['gate_id']}"
    viewer = desk.as_user("vera", "viewer")
    viewer.goto(address)
    expect(viewer.get_by_role("heading", name="Waiting for a decision")).to_be_visible()
    expect(viewer.get_by_role("button", name="Approve")).to_have_count(0)
    hers = URLSafeTimedSerializer(desk.stack.secrets.api_secret_key, salt="nba-pages").dumps("vera")
    refused = viewer.request.post(f"{address}/answer", form={"answer": "Approve", "token": str(hers)})
    assert refused.status == 403
    assert "not decide for it" in refused.text()
    for width in WIDTHS:
        waiting = desk.as_user("edna", "user", viewport={"width": width, "height": 900})
        assert faults(waiting, address) == []
        expect(waiting.get_by_role("button", name="Approve")).to_be_visible()
    page.goto(address)
    page.get_by_label("Why?").fill("earns more")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("heading", name="Approved by edna")).to_be_visible(timeout=PATIENCE)
    assert alias(desk, "champion") == gate["candidate_version"]
    assert desk.gate()["comment"] == "earns more"


def test_the_list_appears_and_a_customer_can_be_traced(desk: Desk) -> None:
    nightly = desk.dag("nightly_actions")
    desk.airflow.unpause(nightly)
    desk.airflow.wait(desk.airflow.trigger(nightly, {}), lambda run: None)
    page = desk.as_user("edna", "user")
    page.goto("/nba/lists")
    page.locator("table.rows a").first.click()
    expect(page.get_by_text("may be sent")).to_be_visible()
    page.locator("table.rows a").first.click()
    expect(page.get_by_role("heading", name="What could have been chosen")).to_be_visible()
    expect(page.get_by_text("approved by edna")).to_be_visible()


def test_a_what_if_is_shown_and_cannot_be_approved(desk: Desk) -> None:
    desk.airflow.unpause(desk.dag("gate_what_if"))
    desk.airflow.wait(desk.airflow.trigger(desk.dag("gate_what_if"), {"margin": 50}), lambda run: None)
    page = desk.as_user("edna", "user")
    page.goto(f"/nba/gates/{desk.gate()['gate_id']}")
    page.locator("section[aria-labelledby=what-ifs] table a").click()
    expect(page.get_by_role("heading", name="This cannot be approved")).to_be_visible()
    expect(page.get_by_role("button", name="Approve")).to_have_count(0)
    expect(page.locator("h1 .verdict")).not_to_contain_text("PROMOTE")


PAGES = (
    "/nba/gates", "/nba/gates/{gate}", "/nba/gates/{gate}/what-if/1", "/nba/lists", "/nba/lists/{programme}/{night}",
    "/nba/customers/{programme}?id={customer}", "/nba/policies/{programme}", "/nba/policies/{programme}/rollback",
    "/nba/in-plain-words", "/nba/runs/{programme}.policy_training/{run}", "/nba/gates/0",
)  # fmt: skip
WIDTHS = (1280, 390)


def faults(page: Page, address: str) -> list[str]:
    """What axe finds on a page, and whether it needs scrolling sideways."""
    page.goto(address, wait_until="networkidle")
    return faults_of_what_is_open(page, address)


def faults_of_what_is_open(page: Page, address: str) -> list[str]:
    """The same for a page as it stands."""
    found = Axe().run(page)
    wrong = [f"{address}: {found.generate_report()}"] if found.violations_count else []
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return wrong + ([f"{address} is {wide} pixels too wide"] if wide > 0 else [])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_pages_are_accessible_and_fit(desk: Desk, scheme: Literal["light", "dark"], width: int) -> None:
    page = desk.as_user("edna", "user", viewport={"width": width, "height": 900}, color_scheme=scheme)
    with desk.crm.connect() as connection:
        night, customer = connection.exec_driver_sql("select list_date, customer_id from campaign_list").first()
    gate = desk.gate()
    known = {"gate": gate["gate_id"], "run": gate["dag_run_id"], "night": night, "customer": customer}
    wrong = [
        fault for path in PAGES for fault in faults(page, path.format(programme=desk.programme.programme, **known))
    ]
    # The validation's report runs no script of anybody, axe's neither: its text is looked at outside of its cage.
    report = f"/nba/validation/{desk.programme.programme}/{night}/index.html"
    text = page.request.get(report).text()
    page.goto("about:blank")
    page.set_content(text)
    wrong += faults_of_what_is_open(page, report)
    assert not wrong, "\n".join(wrong)


def test_the_file_stands_by_itself(desk: Desk, tmp_path: Path) -> None:
    page = desk.as_user("edna", "user")
    page.goto(f"/nba/gates/{desk.gate()['gate_id']}")
    with page.expect_download() as waited:
        page.get_by_role("link", name="Download this page as one file").click()
    kept = tmp_path / waited.value.suggested_filename
    waited.value.save_as(kept)
    alone = desk.browser.new_context(offline=True).new_page()
    asked: list[str] = []
    alone.on("request", lambda request: asked.append(request.url))
    alone.goto(kept.as_uri())
    expect(alone.locator("figure.chart svg.plot")).not_to_have_count(0)
    assert asked == [kept.as_uri()]


def test_going_back_asks_first(desk: Desk) -> None:
    page = desk.as_user("edna", "user")
    page.goto("/nba/policies")
    page.get_by_role("link", name="Go back to version").click()
    page.get_by_label("Why?").fill("complaints")
    page.get_by_role("button", name="Yes, go back").click()
    expect(page.get_by_text("put back by edna")).to_be_visible()
    assert alias(desk, "champion") == desk.gate()["incumbent_version"]


def test_no_request_left_the_machine(desk: Desk) -> None:
    ports = {desk.stack.settings.airflow_port, desk.stack.settings.mlflow_port}
    assert desk.asked - {""} <= {f"127.0.0.1:{port}" for port in ports}  # a page's own data and blobs have no host
    assert desk.complaints == []


def alias(desk: Desk, name: str) -> int | None:
    """The version that an alias names, asked of MLflow itself."""
    query, login = {"name": desk.programme.programme}, (ADMIN, desk.stack.secrets.mlflow_password)
    path = f"{desk.stack.mlflow_url}/api/2.0/mlflow/registered-models/get"
    answer = httpx.get(path, params=query, auth=login, trust_env=False).raise_for_status()
    found = answer.json()["registered_model"]
    return next((int(each["version"]) for each in found.get("aliases", []) if each["alias"] == name), None)
