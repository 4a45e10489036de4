"""What the README and the docs quote is there: commands, keys with their defaults, paths, links, YAML and SQL."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from nba_tasks import cli, contract, programme, publish
from nba_tasks.programme import Programme, Section, read_programme
from nba_tasks.settings import REPOSITORY, Settings
from nba_tasks.stack import commands
from nba_tasks.stack.services import DATABASES
from tests.databases import Databases, make_programme

TEXTS = {
    str(path.relative_to(REPOSITORY)): path.read_text(encoding="utf-8")
    for path in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))
}
BRING_YOUR_DATA, THE_GATE = "docs/bring-your-data.md", "docs/the-gate.md"
SHIPPED = REPOSITORY / "dags" / "programmes" / "sales_channels.yaml"
FOLDERS = "dags|docs|nba_tasks|sql|expectations|tests|deploy|bench"

SECTIONS: Mapping[str, type[Section]] = {
    "the file": Programme,
    "`crm`": programme.Crm,
    "`crm.relations`": programme.Relations,
    "`grid`": programme.Grid,
    "`channels.<name>`": programme.Channel,
    "`actions`": programme.Actions,
    "`events.<name>`": programme.Event,
    "`state`, `source: customer`": programme.CustomerFeature,
    "`state`, `source: contacts`": programme.ContactFeature,
    "`state`, `source: events`": programme.EventFeature,
    "`state`, `source: time`": programme.TimeFeature,
    "`rules`, `kind: consent`": programme.Consent,
    "`rules`, `kind: suppression`": programme.Suppression,
    "`rules`, `kind: cap`": programme.Cap,
    "`rules`, `kind: range`": programme.Range,
    "`rules`, `kind: where`": programme.Where,
    "`rules`, `kind: cool_off`": programme.CoolOff,
    "`rules`, `kind: quiet`": programme.Quiet,
    "`reward`": programme.Reward,
    "`splits`": programme.Splits,
    "`arms`": programme.Arms,
    "`learning`": programme.Learning,
    "`layers`": programme.Layers,
    "`gate`": programme.Gate,
    "`validation`": programme.Validation,
    "`review`": programme.Review,
    "`publish`": programme.Publish,
    "`startup`": programme.Startup,
    "`rollout`": programme.Rollout,
    "`outcomes`": programme.Outcomes,
}
"""Headings over tables of keys, and what they document."""

TYPES: Mapping[contract.Kind, str] = {
    "id": "id",
    "text": "text",
    "time": "instant",
    "number": "number",
    "integer": "integer",
    "boolean": "boolean",
    "texts": "`text[]`",
    "numbers": "`double precision[]`",
}
"""What the docs call each kind of column."""


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    """The text without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def code(text: str) -> list[str]:
    """Lines of shell blocks without their comments, and code spans."""
    lines = [re.sub(r"(^|\s)#.*", "", line) for block in blocks(text, "sh") for line in block.splitlines()]
    return lines + re.findall(r"`([^`\n]+)`", prose(text))


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next of any level."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def rows(text: str) -> Iterator[tuple[str, str]]:
    """The first two cells of the table rows that begin with a code span."""
    yield from re.findall(r"^\| `(\w+)` \| (.+?) \|", text, re.MULTILINE)


def names(app: typer.Typer) -> set[str]:
    """The subcommands of a command line."""
    return {c.name or c.callback.__name__.replace("_", "-") for c in app.registered_commands if c.callback}


def anchors(text: str) -> set[str]:
    """The headings as GitHub makes them link targets."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", TEXTS)
def test_commands_exist(document: str) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    known = {
        r"(?<![\w./-])make ([a-z][a-z-]*)": targets,
        r"(?<![\w-])nba ([a-z][a-z-]*)": names(cli.app),
        r"-m nba_tasks\.stack ([a-z][a-z-]*)": names(commands.app),
    }
    for line in code(TEXTS[document]):
        for pattern, existing in known.items():
            assert set(re.findall(pattern, line)) <= existing, line


@pytest.mark.parametrize("document", TEXTS)
def test_options_exist(document: str) -> None:
    for line in code(TEXTS[document]):
        for command, rest in re.findall(r"(?<![\w-])nba ([a-z][a-z-]*)([^&|;]*)", line):
            shown = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(cli.app, [command, "--help"]).output
            assert [option for option in re.findall(r"--[a-z-]+", rest) if option not in shown] == [], line


@pytest.mark.parametrize("document", TEXTS)
def test_paths_exist(document: str) -> None:
    spans = code(TEXTS[document])
    copies = {line.split()[-1] for line in spans if line.startswith("cp ")}  # what a block makes need not be there
    named = {token for line in spans for token in line.split() if re.fullmatch(rf"(\./)?({FOLDERS})/[\w./*-]*", token)}
    trees = (line for block in blocks(TEXTS[document], "text") for line in block.splitlines())
    named |= {line.split()[0] for line in trees if re.match(rf"({FOLDERS})/", line)}
    assert [path for path in sorted(named - copies) if not list(REPOSITORY.glob(path.rstrip("/")))] == []


@pytest.mark.parametrize("document", TEXTS)
def test_links_and_images_resolve(document: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(TEXTS[document])):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (REPOSITORY / document).parent / path if path else REPOSITORY / document
        assert file.is_file(), target
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), target


def test_every_section_has_a_table() -> None:
    assert set(SECTIONS.values()) == set(Section.__subclasses__())


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_key_is_documented_with_its_default(heading: str) -> None:
    found = [row for document in (BRING_YOUR_DATA, THE_GATE) for row in rows(section(TEXTS[document], heading))]
    fields = SECTIONS[heading].model_fields
    assert [name for name, _ in found] == list(fields)
    for name, cell in found:
        field = fields[name]
        default = field.get_default()
        if field.is_required():
            assert cell == "required", name
        elif isinstance(default, Section):
            assert cell == "section", name
        else:
            given = list(default) if isinstance(default, tuple) else default
            assert yaml.safe_load(cell.strip("`")) == given, name


@pytest.mark.parametrize("document", TEXTS)
def test_yaml_is_a_programme_or_a_change_of_the_shipped_one(document: str) -> None:
    shipped = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    for block in blocks(TEXTS[document], "yaml"):
        content: dict[str, Any] = yaml.safe_load(block)
        made = Programme.model_validate(content if "programme" in content else shipped | content)
        if content.get("programme") == "sales_channels":
            assert made == read_programme(SHIPPED), "the annotated file is no longer the shipped one"


@pytest.mark.parametrize("relation", contract.RELATIONS)
def test_every_column_of_the_contract_is_documented(relation: str) -> None:
    text = TEXTS[BRING_YOUR_DATA]
    (heading,) = re.findall(rf"^### ({relation}(?: \(.*\))?)$", text, re.MULTILINE)
    part = section(text, heading)
    wanted = contract.RELATIONS[relation].columns
    (header,) = re.findall(rf"^\| ({next(iter(wanted))} \|.*) \|$", part, re.MULTILINE)
    assert set(wanted) <= set(header.split(" | ")), "the example row"
    if relation != "action_changes":  # described as customer_changes are
        assert dict(rows(part)) == {name: TYPES[kind] for name, kind in wanted.items()}


def test_every_variable_is_documented_and_no_other() -> None:
    settings = {f"NBA_{name.upper()}" for name in Settings.model_fields}
    urls = {f"NBA_{name.upper()}_URL" for name in DATABASES}
    mlflow = {f"MLFLOW_TRACKING_{name}" for name in ("URI", "USERNAME", "PASSWORD")}
    listed = {name for name, _ in rows(section(TEXTS[BRING_YOUR_DATA], "Environment variables"))}
    assert settings | {"NBA_CRM_URL", "NBA_WAREHOUSE_URL"} | mlflow == listed
    mentioned = {name for text in TEXTS.values() for name in re.findall(r"\bNBA_[A-Z_]+[A-Z]\b", text)}
    assert mentioned <= settings | urls


def test_named_tests_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", TEXTS[THE_GATE]))
    there = "\n".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "tests").rglob("test_*.py"))
    assert named
    assert [name for name in sorted(named) if f"def {name}(" not in there] == []


def test_quoted_findings_are_what_check_says(databases: Databases) -> None:
    databases.run("alter table contacts alter contacted_at type timestamp")
    said = {str(finding) for finding in contract.check(databases.crm, make_programme(crm={}))}
    (quoted,) = blocks(section(TEXTS[BRING_YOUR_DATA], "nba check"), "text")
    assert set(quoted.splitlines()) <= said


def test_sql_runs_and_the_views_keep_the_contract(databases: Databases) -> None:
    """Every block, in order, as the role it is meant for; the database is that of the views' section."""
    shop = programme_of_the_views()
    views = blocks(section(TEXTS[BRING_YOUR_DATA], "Views over an existing schema"), "sql")
    tables, contract_views, grants = views
    databases.run(
        "drop schema public cascade; create schema public",
        "do $$ begin create role nba; exception when duplicate_object then null; end $$",
        *(tables, contract_views, grants),
        "insert into clients values (1, '2024-01-02', 'north', true, '2024-01-02 10:00')",
        "insert into mailings values (1, 1, 'voucher', '2024-02-01 09:00')",
        "insert into orders values (1, 1, '2024-02-03 20:00', 39.90)",
        "insert into optouts values (1, '2024-03-01 08:00')",
    )
    assert [finding.level for finding in contract.check(databases.crm, shop)] == ["warning"], "decisions come later"
    others = [block for text in TEXTS.values() for block in blocks(text, "sql") if block not in views]
    with databases.crm.connect() as connection:
        connection.exec_driver_sql("set role nba")
        publish.ensure_tables(connection, shop)
        assert contract.inspect(connection, shop).findings == ()
        connection.exec_driver_sql("reset role; create schema earlier; set search_path to earlier, nba")
        for block in others:
            if not re.search(r"\bnba\.(gates|quarantine|outcomes|timings)\b|grant ", block, re.IGNORECASE):
                connection.exec_driver_sql(block)
        columns = "select column_name, data_type, is_nullable from information_schema.columns"
        ours, earlier = (
            connection.exec_driver_sql(
                f"{columns} where table_schema = '{schema}' and table_name = 'decisions' order by ordinal_position"
            ).all()
            for schema in ("nba", "earlier")
        )
        assert earlier == ours
    for block in others:
        if re.search(r"\bnba\.(gates|quarantine|outcomes|timings)\b", block):
            databases.rows(block.replace("%", "%%"))


def programme_of_the_views() -> Programme:
    (block,) = blocks(section(TEXTS[BRING_YOUR_DATA], "Views over an existing schema"), "yaml")
    return Programme.model_validate(yaml.safe_load(block))
