"""Programme files: what is wrong is named, with the key and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from nba_tasks.programme import ProgrammeError, read_programme, read_programmes
from nba_tasks.settings import REPOSITORY

SHIPPED = REPOSITORY / "dags" / "programmes"


def faulty(tmp_path: Path, change: dict[str, Any]) -> str:
    """The message that a change of the shipped file provokes; nested keys are joined by dots."""
    content = yaml.safe_load((SHIPPED / "sales_channels.yaml").read_text(encoding="utf-8"))
    for key, value in change.items():
        *path, last = key.split(".")
        place = content
        for part in path:
            place = place[int(part)] if part.isdigit() else place.setdefault(part, {})
        place[last] = value
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(ProgrammeError) as error:
        read_programme(file)
    return str(error.value)


def test_shipped_files_are_sound() -> None:
    assert set(read_programmes(SHIPPED)) == {"sales_channels", "hillstrom"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gird": {}}, "gird: unknown key; did you mean grid?"),
        ({"rollout": [10, 50]}, "rollout: steps must rise to 100, as in [10, 50, 100]; they are [10, 50]"),
        ({"gate.horizn": 3}, "gate.horizn: unknown key; did you mean horizon? allowed: horizon, alpha,"),
        ({"state.0.colunm": "x"}, "state.0.colunm: unknown key; did you mean column?"),
        ({"events.purchase.wieght": 1}, "events.purchase.wieght: unknown key; did you mean weight?"),
        ({"rules.1.maximum": 1}, "rules.1.maximum: unknown key; did you mean max?"),
        ({"grid.business_timezone": "Europe/Berlim"}, "did you mean Europe/Berlin"),
        ({"learning.discount": 1.2}, "learning.discount: Input should be less than or equal to 1 (found 1.2)"),
        ({"state.6.channel": "fax"}, "state.emails_4.channel is 'fax', which `channels` does not list; it lists email"),
        ({"splits": {"learn": 0.9}}, "splits: learn + select + gate must be 1, not 1.4"),
        ({"layers.mix": 0.0}, "layers.mix"),
        ({"events.purchase.measure": "sum"}, "Input should be 'count' or 'value' (found 'sum')"),
        ({"state.0.source": "clients"}, "'customer', 'contacts', 'events', 'time'"),
        ({"programme": "Sales Channels"}, "programme: String should match pattern"),
    ],
)
def test_faults_name_the_key_and_what_is_allowed(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    assert said in faulty(tmp_path, change)


def test_every_fault_gets_a_line(tmp_path: Path) -> None:
    message = faulty(tmp_path, {"gate.horizon": 0, "gate.alpha": 2, "shards": "many"})
    assert "3 fault(s)" in message
    assert len(message.splitlines()) == 4


@pytest.mark.parametrize(
    ("text", "said"), [("a: [", "not valid YAML"), ("- a", "must hold keys"), ("", "must hold keys")]
)
def test_what_is_no_programme_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ProgrammeError, match=said):
        read_programme(file)


def test_one_programme_has_one_file(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text((SHIPPED / "sales_channels.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(ProgrammeError, match="already defined"):
        read_programmes(tmp_path)
