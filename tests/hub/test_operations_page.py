"""docs/operations.md says what there is: every setting, command and metric, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from bench.postgres_server import PostgresServer
from localmem_hub.app import Policy
from localmem_hub.cli import group
from localmem_hub.health import CHECKS
from localmem_hub.settings import PREFIX, Settings, load_settings
from support.images import ROOT
from support.served_hub import scrape, serving

PAGE = (ROOT / "docs/operations.md").read_text()
WORKS = ("process_", "python_")
"""What `prometheus_client` says of the process by itself."""


def table(first: str) -> list[list[str]]:
    """The rows of the table whose first heading this is."""
    rows = PAGE.split(f"\n| {first} |")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def settings(kind: type[msgspec.Struct], place: str = "") -> Iterator[tuple[str, object]]:
    """Every setting, those of sections as `section.name`, and its default."""
    for field in msgspec.structs.fields(kind):
        name = place + field.name
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from settings(field.type, f"{name}.")
        else:
            yield name, field.default


def test_every_setting_is_in_the_table_with_its_default() -> None:
    told = {row[0].strip("`"): row for row in table("setting")}
    assert list(told) == [name for name, _ in settings(Settings)]
    for name, default in settings(Settings):
        _, variable, said, meaning = told[name]
        assert variable == f"`{PREFIX}{name.upper().replace('.', '_')}`"
        assert meaning
        if name == "database":  # follows from where home is
            here = load_settings({}, Path("/home/x")).database
            assert re.fullmatch(re.escape(said.strip("`")).replace("…", "/.*"), here)
        else:
            shown = str(default).lower() if isinstance(default, bool) else str(default)
            assert said == (f"`{shown}`" if shown else "none"), name


def test_every_setting_can_be_given_by_its_variable() -> None:
    for (name,), (variable,), (default,) in (
        (names(row[0]), names(row[1]), names(row[2]))
        for row in table("setting")
        if row[2].startswith("`")
    ):
        found: object = load_settings({variable: default}, Path("/home/x"))
        for part in name.split("."):
            found = getattr(found, part)
        assert str(found).lower() == default


def commands(command: click.Command, path: str) -> Iterator[str]:
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, f"{path} {name}")
    else:
        yield path


def test_every_command_is_in_the_table() -> None:
    told = [names(row[0])[0] for row in table("command")]
    assert sorted(told) == sorted(commands(group, "localmem-hub"))


def test_every_check_of_readyz_is_in_the_table() -> None:
    assert [names(row[0])[0] for row in table("failing")] == list(CHECKS)


async def test_every_metric_is_in_the_table_with_its_labels(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    found: dict[str, set[str]] = {}
    for database in (None, postgres.prepared()):
        policy = Policy(plain_workers=0 if database else 1)
        async with serving(tmp_path, database, policy=policy) as hub:
            hub.hub.counts.refuse(4401)
            hub.hub.counts.request_errors["x"] += 1
            hub.hub.counts.commits_failed["x"] += 1
            text = (await scrape(hub)).text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                name = family.name if family.type == "histogram" else sample.name
                found.setdefault(name, set()).update(sample.labels)
    told = {
        f"localmem_hub_{name}": set(names(row[1])[:1])
        for row in table("name")
        for name in names(row[0])
    }
    assert told == {name: labels for name, labels in found.items() if not name.startswith(WORKS)}
