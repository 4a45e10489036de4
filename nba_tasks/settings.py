"""Where things are: folders, database URLs, ports. Read from environment variables that start with `NBA_`."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

REPOSITORY = Path(__file__).resolve().parent.parent
"""The checkout (or image folder) that holds the package beside `dags/`, `sql/` and `expectations/`."""

DRIVER = "postgresql+psycopg2"


class SettingsError(ValueError):
    """A setting that is missing or cannot be used; the message names the environment variable."""


class Settings(BaseSettings):
    """Everything that depends on the machine and not on a programme.

    Each field is read from the environment variable `NBA_` + its name in capitals.
    """

    model_config = SettingsConfigDict(env_prefix="NBA_", frozen=True)

    home: Path = Field(REPOSITORY / ".nba", description="state folder: databases, logs, secrets, artefacts")
    programmes: Path = Field(REPOSITORY / "dags" / "programmes", description="folder of programme YAML files")
    dags_folder: Path = REPOSITORY / "dags"
    sql_folder: Path = REPOSITORY / "sql"
    expectations_folder: Path = REPOSITORY / "expectations"
    postgres_url: str | None = Field(None, description="a server's URL; unset: the embedded one")
    airflow_port: int = Field(8080, ge=1, le=65535)
    mlflow_port: int = Field(5000, ge=1, le=65535)
    mlflow_public_url: str | None = Field(
        None, description="MLflow's address in people's browsers; unset: MLFLOW_TRACKING_URI"
    )

    def url(self, variable_name: str) -> str:
        """The database URL that an environment variable holds.

        Parameters
        ----------
        variable_name : str
            For example `NBA_CRM_URL`.

        Returns
        -------
        str
            SQLAlchemy URL with the driver psycopg2 written out.

        Raises
        ------
        SettingsError
            The variable is unset, is no URL, or asks for another database or driver.
        """
        return psycopg2_url(
            self._variable(variable_name, f"{DRIVER}://user:password@host:5432/database"), variable_name
        )

    @property
    def mlflow_tracking_uri(self) -> str:
        """MLflow's address, from `MLFLOW_TRACKING_URI`."""
        return self._variable("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")

    @property
    def mlflow_login(self) -> tuple[str, str] | None:
        """User and password, from `MLFLOW_TRACKING_USERNAME` and `…_PASSWORD`; None where MLflow asks for none."""
        user, password = (self._found(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD"))
        return (user, password) if user else None

    @property
    def mlflow_link(self) -> str:
        """MLflow's address as a person's browser reaches it."""
        return (self.mlflow_public_url or self.mlflow_tracking_uri).rstrip("/")

    @property
    def running_stack(self) -> Path:
        """File with the variables of the stack that runs from the state folder; absent when none does."""
        return self.home / "environment.json"

    def _found(self, name: str) -> str:
        """The environment's value, or that of the stack running from the state folder; empty where neither knows it."""
        value = os.environ.get(name, "").strip()
        if not value and self.running_stack.exists():
            value = str(json.loads(self.running_stack.read_text()).get(name, ""))
        return value

    def _variable(self, name: str, example: str) -> str:
        value = self._found(name)
        if not value:
            raise SettingsError(f"{name} is not set (and no stack runs from {self.home}); for example {name}={example}")
        return value


def psycopg2_url(text: str, name: str) -> str:
    """A PostgreSQL URL with the driver written out (to SQLAlchemy 2.1 a bare `postgresql://` means another one).

    Raises
    ------
    SettingsError
        `text` is no URL, or asks for another database or driver; the message names `name` and hides the password.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise SettingsError(f"{name} is not a database URL; expected {DRIVER}://user:password@host/database") from error
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername=DRIVER)
    if url.drivername != DRIVER:
        raise SettingsError(f"{name} asks for {url.drivername!r}; only {DRIVER} is supported")
    return url.render_as_string(hide_password=False)


@cache
def settings() -> Settings:
    """The settings of this process, read once (`settings.cache_clear()` reads them again).

    Raises
    ------
    SettingsError
        A variable holds a value that cannot be used.
    """
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(f"NBA_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
        raise SettingsError(problems) from error
