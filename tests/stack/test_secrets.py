from __future__ import annotations

import stat
from pathlib import Path

import pytest

from nba_tasks.stack.errors import StackError
from nba_tasks.stack.secrets import Secrets, write_private


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    Secrets.load_or_generate(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_overwriting_a_public_file_makes_it_private(tmp_path: Path) -> None:
    path = tmp_path / "passwords.json"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_secrets_are_stable_and_differ_between_installations(tmp_path: Path) -> None:
    first = Secrets.load_or_generate(tmp_path / "a.json")
    assert Secrets.load_or_generate(tmp_path / "a.json") == first
    other = Secrets.load_or_generate(tmp_path / "b.json")
    assert other.admin_password != first.admin_password
    assert other.jwt_secret != first.jwt_secret


def test_signing_key_is_long_enough(tmp_path: Path) -> None:
    assert len(Secrets.load_or_generate(tmp_path / "a.json").jwt_secret) >= 64


@pytest.mark.parametrize("content", ["", "{", "[]", '{"admin_password": "x"}'])
def test_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "secrets.json"
    path.write_text(content)
    with pytest.raises(StackError, match=r"secrets\.json is damaged"):
        Secrets.load_or_generate(path)
