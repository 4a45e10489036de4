"""`nba`: what a person types reaches the steps, and what they answer is heard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from typer.testing import CliRunner

from nba_tasks import cli
from nba_tasks.settings import settings
from tests.databases import AS_OF, Databases, TestServer, make_programme

Nba = Callable[..., Any]


@pytest.fixture
def nba(databases: Databases, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Nba]:
    """Runs a command against the test's databases."""
    url = {"hide_password": False}
    (tmp_path / "programmes").mkdir()
    described = make_programme().model_dump(mode="json", exclude_unset=True)
    (tmp_path / "programmes" / "shop.yaml").write_text(yaml.safe_dump(described))
    monkeypatch.setenv("NBA_PROGRAMMES", str(tmp_path / "programmes"))
    monkeypatch.setenv("NBA_HOME", str(tmp_path))
    monkeypatch.setenv("NBA_CRM_URL", databases.crm.url.render_as_string(**url))
    monkeypatch.setenv("NBA_WAREHOUSE_URL", databases.warehouse.url.render_as_string(**url))
    settings.cache_clear()

    def run(*arguments: str, answer: str | None = None) -> Any:
        return CliRunner().invoke(cli.app, list(arguments), input=answer)

    yield run
    settings.cache_clear()


def contacts(databases: Databases) -> int:
    """Rows of history."""
    return int(databases.rows("select count(*) from history.contacts")[0][0])


def test_check_says_that_the_contract_is_met_or_what_is_wrong(nba: Nba, databases: Databases) -> None:
    assert (met := nba("check", "shop")).exit_code == 0
    assert "the contract is met" in met.output
    databases.run("alter table customers drop column age")
    assert (missing := nba("check", "shop")).exit_code == 1
    assert "customers.age" in missing.output
    assert "the contract is met" not in missing.output


def test_an_unknown_programme_is_answered_with_those_that_exist(nba: Nba) -> None:
    assert (result := nba("check", "shopp")).exit_code == 2
    assert "no programme 'shopp'; there are: shop" in " ".join(result.output.replace("│", "").split())


def test_a_date_that_is_none_is_refused_before_anything_is_done(nba: Nba, databases: Databases) -> None:
    assert (result := nba("history", "shop", "--as-of", "tomorrow")).exit_code == 2
    assert "%Y-%m-%d" in result.output
    assert databases.rows("select count(*) from nba.batches") == [(0,)]


def test_history_is_pulled_and_a_rebuild_forgets_it_only_after_a_yes(nba: Nba, databases: Databases) -> None:
    assert nba("history", "shop", "--as-of", str(AS_OF)).exit_code == 0
    pulled = contacts(databases)
    assert pulled > 0
    assert nba("history", "shop", "--as-of", str(AS_OF)).exit_code == 0
    assert contacts(databases) == pulled, "a repeated night changes nothing"
    assert nba("rebuild", "shop", answer="n\n").exit_code == 1
    assert contacts(databases) == pulled
    assert nba("rebuild", "shop", answer="y\n").exit_code == 0
    assert contacts(databases) == 0


def test_a_stop_is_kept_with_its_reason_until_resumed(nba: Nba, databases: Databases) -> None:
    early = nba("stop", "shop", "--reason", "wrong prices")
    assert early.exit_code == 1
    assert "there is nothing to stop" in early.output
    nba("history", "shop", "--as-of", str(AS_OF))
    assert "shop is stopped" in nba("stop", "shop", "--reason", "wrong prices", "--by", "Ada").output
    assert databases.rows("select stopped_by, reason from nba.stops where resumed_at is null") == [
        ("Ada", "wrong prices")
    ]
    assert "publishes again" in nba("resume", "shop").output
    assert "was not stopped" in nba("resume", "shop").output


def test_migrate_makes_the_tables_of_an_empty_warehouse(
    nba: Nba, server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = server.empty()
    monkeypatch.setenv("NBA_WAREHOUSE_URL", empty.url.render_as_string(hide_password=False))
    assert nba("migrate").exit_code == 0
    assert sa.inspect(empty).has_table("gates", schema="nba")
