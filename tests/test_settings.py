from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from nba_tasks.settings import SettingsError, psycopg2_url, settings


@pytest.fixture(autouse=True)
def fresh_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("NBA_HOME", str(tmp_path))
    monkeypatch.delenv("NBA_CRM_URL", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_driver_is_written_out(scheme: str) -> None:
    assert psycopg2_url(f"{scheme}://a:b@h:1/d", "X") == "postgresql+psycopg2://a:b@h:1/d"


@pytest.mark.parametrize("url", ["postgresql+psycopg://h/d", "mysql://h/d", "sqlite:///x"])
def test_other_drivers_are_refused_by_name(url: str) -> None:
    with pytest.raises(SettingsError, match=r"NBA_CRM_URL asks for .* only postgresql\+psycopg2"):
        psycopg2_url(url, "NBA_CRM_URL")


def test_error_does_not_show_the_password() -> None:
    with pytest.raises(SettingsError) as caught:
        psycopg2_url("hunter2 is no URL", "NBA_CRM_URL")
    assert "hunter2" not in str(caught.value)
    assert "NBA_CRM_URL" in str(caught.value)


def test_unset_url_is_named() -> None:
    with pytest.raises(SettingsError, match="NBA_CRM_URL is not set"):
        settings().url("NBA_CRM_URL")


def test_unset_tracking_uri_is_named() -> None:
    with pytest.raises(SettingsError, match="MLFLOW_TRACKING_URI is not set"):
        _ = settings().mlflow_tracking_uri


def test_environment_wins_over_a_running_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    settings().running_stack.write_text(json.dumps({"NBA_CRM_URL": "postgresql://stack/crm"}))
    assert settings().url("NBA_CRM_URL") == "postgresql+psycopg2://stack/crm"
    monkeypatch.setenv("NBA_CRM_URL", "postgresql://own/crm")
    assert settings().url("NBA_CRM_URL") == "postgresql+psycopg2://own/crm"


def test_the_log_in_at_mlflow_is_that_of_the_running_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    assert settings().mlflow_login is None
    known = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "a long one"}
    settings().running_stack.write_text(json.dumps(known))
    assert settings().mlflow_login == ("admin", "a long one")


def test_bad_port_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBA_AIRFLOW_PORT", "eighty")
    with pytest.raises(SettingsError, match="NBA_AIRFLOW_PORT"):
        settings()
