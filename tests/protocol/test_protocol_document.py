"""docs/protocol.md says what the code does: its tables of names and values, held against it."""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
import re
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from localmem_hub import limits as hub_limits
from localmem_hub.http_sync import _STATUS
from localmem_hub.rate_limits import Rate
from localmem_protocol import entries, frames, keys, limits, pairing_messages, texts
from localmem_protocol.entries import Entry
from localmem_protocol.events import KINDS
from localmem_protocol.names import SYMBOLS

ROOT: Final = Path(__file__).parents[2]
DOCUMENT: Final = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")
PROTOCOL: Final = ROOT / "protocol/src/localmem_protocol"
HUB: Final = ROOT / "hub/src/localmem_hub"
SYNC_FRAMES: Final = {"Step1": "0 0", "Step2": "0 1", "Update": "0 2"}


def tables(first: str) -> list[list[list[str]]]:
    """The rows of every table whose first column has this head, without head and rule."""
    found: list[list[list[str]]] = []
    for block in re.findall(r"(?:^\|.*\n)+", DOCUMENT, re.MULTILINE):
        rows = [
            [cell.strip() for cell in line.strip("|").split(" | ")] for line in block.splitlines()
        ]
        if rows[0][0].strip() == first:
            found.append(rows[2:])
    return found


def table(first: str) -> list[list[str]]:
    """The rows of the only such table."""
    (rows,) = tables(first)
    assert rows
    return rows


def bare(cell: str) -> str:
    """What stands in a cell's back-ticks."""
    match = re.fullmatch(r"`([^`]+)`", cell.strip())
    assert match, cell
    return match[1]


def constants(module: object) -> dict[str, Any]:
    """The public constants of a module, in capitals."""
    return {name: value for name, value in vars(module).items() if name.isupper()}


def vector_block(name: str) -> list[list[str]]:
    """The lines of the block behind `<!-- vector: name -->`, in words."""
    match = re.search(rf"<!-- vector: {re.escape(name)} -->\n```\n(.*?)\n```", DOCUMENT, re.DOTALL)
    assert match, name
    return [re.split(r"\s{2,}", line.strip()) for line in match[1].splitlines()]


def stored(name: str) -> Any:
    return json.loads((ROOT / f"tests/vectors/{name}.json").read_text(encoding="utf-8"))


def test_every_limit_stands_there_with_its_value() -> None:
    said = {bare(name): int(value) for name, value, _ in table("limit")}
    bounds = {name: v for name, v in constants(limits).items() if isinstance(v, int)}
    assert said == bounds


def test_the_hubs_limits_are_those_of_the_hub() -> None:
    for name, value, _ in table("hub limit"):
        assert float(value) == getattr(hub_limits, bare(name)), name


def test_other_constants_have_the_values_that_are_said() -> None:
    rows = table("constant")
    assert len(rows) >= 20
    for name, value in rows:
        module, _, constant = bare(name).partition(".")
        found = getattr(importlib.import_module(f"localmem_protocol.{module}"), constant)
        assert float(value) == found, name


def test_names_of_limits_in_the_text_exist() -> None:
    known = {*constants(limits), *(bare(row[0]) for row in table("hub limit"))}
    named = set(
        re.findall(r"`?\b([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*_(?:MAX|BYTES|MEMBERS))\b", DOCUMENT)
    )
    qualified = {bare(row[0]).partition(".")[2] for row in table("constant")}
    assert named
    assert named <= known | qualified


def test_every_close_code_stands_there() -> None:
    said = {name: int(code) for code, name, _ in table("code")}
    assert said == constants(frames.Close)
    in_the_text = {int(code) for code in re.findall(r"\b4[45][0-9]{2}\b", DOCUMENT)}
    assert in_the_text <= set(said.values())


def test_the_status_of_every_close_code() -> None:
    said = {int(row[0]): row[1] for row in table("status")}
    for code, status in _STATUS.items():
        assert str(code) in said[status]
    named = {int(code) for codes in said.values() for code in re.findall(r"\b4[45]\d\d\b", codes)}
    assert named == {*_STATUS, frames.Close.BAD_FRAME}


def test_every_frame_stands_there_with_its_number_and_fields() -> None:
    said = {name: number for number, name, *_ in table("number")}
    own = {kind.__name__: str(number) for number, kind in frames._OWN.items()}
    assert said == own | SYNC_FRAMES
    bodies = {name: body for _, name, _, body in table("number")}
    for kind in frames._OWN.values():
        places = [bodies[kind.__name__].find(name) for name in _words(kind)]
        assert places == sorted(places), kind
        assert min(places) > 0, kind


def _words(kind: type[msgspec.Struct]) -> list[str]:
    """The fields of a frame, as the document calls them."""
    return [{"code": "close code"}.get(name, name) for name in kind.__struct_fields__]


def test_every_purpose_stands_there() -> None:
    said = {bare(row[1]): bare(row[0]) for row in table("purpose")}
    purposes = {
        name: value
        for name, value in constants(keys).items()
        if name.startswith(("SIGN_", "SEAL_"))
    }
    assert said == {name: value for name, value in purposes.items() if isinstance(value, str)}


def test_every_name_that_goes_into_a_hash_or_key_stands_there() -> None:
    """Found in the sources: byte strings, and plain ones of purposes, that begin with the name."""
    found: set[str] = set()
    for path in PROTOCOL.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, bytes):
                text = node.value.decode("latin-1").rstrip("\x00")
                if re.match(r"localmem[ -]\S", text):
                    found.add(text)
    assert len(found) >= 10
    for text in found:
        assert text in DOCUMENT, text


def test_every_capability_and_version_stands_there() -> None:
    assert {bare(row[0]) for row in table("capability")} == set(frames.CAPABILITIES)
    versions = {row[0]: row[2] for row in table("version")}
    assert bare(versions["protocol"]) == frames.PROTOCOL
    assert versions["dictionary of texts"] == str(texts.DICTIONARY)
    assert f"`{frames.ROSTER_NOTICE}`" in DOCUMENT


@pytest.mark.parametrize(
    ("first", "union"),
    [("action", entries.Action), ("message", pairing_messages.Message)],
)
def test_tagged_arrays_have_their_numbers(first: str, union: Any) -> None:
    said = {name: int(number) for number, name, _ in table(first)}
    kinds = {kind.__name__: kind.__struct_config__.tag for kind in union.__args__}
    assert said == kinds


def test_fields_of_an_entry_are_in_their_order() -> None:
    rows = next(rows for rows in tables("#") if rows[0][1] == "index")
    assert tuple(row[1] for row in rows) == Entry.__struct_fields__


def test_forms_of_text() -> None:
    assert {name: int(form) for form, name, _ in table("form")} == {
        form.name: form.value for form in texts.Form
    }


def test_symbols_kinds_and_dictionary_are_those_of_the_format() -> None:
    match = re.search(r"```json symbols\n(.*?)\n```", DOCUMENT, re.DOTALL)
    assert match
    assert tuple(json.loads(match[1])) == SYMBOLS
    order = sorted(KINDS, key=lambda kind: kind != "edit")
    assert ", ".join(f"`{kind}`" for kind in order) in " ".join(DOCUMENT.split())
    shipped = texts.shipped()
    assert f"{len(shipped)} bytes" in DOCUMENT
    assert hashlib.sha256(shipped).hexdigest() in DOCUMENT


def test_rates_are_those_of_the_hub() -> None:
    said = {bare(row[0]): (int(row[1]), float(row[2])) for row in table("rate")}
    found = {
        f"{path.stem}.{name}": (value.burst, value.seconds)
        for path in HUB.glob("*.py")
        if path.stem in {"authentication", "pools", "mailboxes"}
        for name, value in constants(importlib.import_module(f"localmem_hub.{path.stem}")).items()
        if isinstance(value, Rate)
    }
    assert said == found


def test_every_route_and_error_of_the_hub_stands_there() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in HUB.glob("*.py"))
    routes = set(re.findall(r'"(/v1/[a-z/]+)', sources))
    assert len(routes) >= 5
    assert all(route in DOCUMENT for route in routes)
    said = {
        (int(status), bare(name)) for names, status in table("error") for name in names.split(", ")
    }
    raised = {
        (int(status), name)
        for status, name in re.findall(r'Problem\((\d{3}), "([a-z_]+)"', sources)
    }
    assert raised <= said
    others = {name for _, name in said - raised}
    assert others <= {"admission", "length", "roster", "conflict", "fork", "stopping", "store"}


def test_examples_are_those_of_the_vectors() -> None:
    wire = stored("wire")
    said = [tuple(line) for line in vector_block("wire.frames")]
    assert said == [(one["kind_text"], one["frame"]) for one in wire["frames"]]
    assert dict(vector_block("wire.updates")) == wire["updates"]
    assert dict(vector_block("wire.bodies")) == wire["bodies"]
    entry = "".join(line[0] for line in vector_block("roster.log[4]"))
    assert entry == stored("roster")["log"][4]


def test_every_file_of_vectors_is_listed() -> None:
    listed = {bare(row[0]): bare(row[2]) for row in table("file")}
    assert set(listed) == {path.name for path in (ROOT / "tests/vectors").glob("*.json")}
    for name, script in listed.items():
        made = importlib.import_module(script).VECTORS
        assert name.removesuffix(".json") in made


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", DOCUMENT):
        assert (ROOT / "docs" / target).exists(), target
