"""The stack's passwords and keys: made once, kept in a file that only their owner can read."""

from __future__ import annotations

import base64
import json
import os
import secrets
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from nba_tasks.stack.errors import StackError


@dataclass(frozen=True)
class Secrets:
    """What Airflow and MLflow need to keep between two starts."""

    admin_password: str
    mlflow_password: str
    mlflow_secret_key: str
    fernet_key: str
    jwt_secret: str
    api_secret_key: str

    @classmethod
    def generate(cls) -> Secrets:
        return cls(
            admin_password=secrets.token_urlsafe(12),
            mlflow_password=secrets.token_urlsafe(12),
            mlflow_secret_key=secrets.token_urlsafe(32),
            fernet_key=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            jwt_secret=secrets.token_urlsafe(64),
            api_secret_key=secrets.token_urlsafe(32),
        )

    @classmethod
    def load_or_generate(cls, path: Path) -> Secrets:
        """Read the secrets of an earlier start, or make them.

        Raises
        ------
        StackError
            The file is damaged.
        """
        if not path.exists():
            write_private(path, json.dumps(asdict(cls.generate()), indent=1))
        try:
            content = json.loads(path.read_text())
            return cls(**{f.name: str(content[f.name]) for f in fields(cls)})
        except (ValueError, KeyError, TypeError) as error:
            raise StackError(f"{path} is damaged ({error}); remove it to have new secrets made") from error


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    new.replace(path)
