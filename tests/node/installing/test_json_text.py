"""Edits of JSON touch their own bytes only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given

from localmem_node.daemon.endpoint import HookEndpoint
from localmem_node.installing import json_text
from localmem_node.installing.hooks import claude_hooks, codex_hooks, cursor_hooks, handlers
from localmem_node.installing.parts import HooksPart, Part, Refused, ServerPart
from support.settings_files import written

HOOK = Path("/home/it's me/bin/localmem-hook")
ENDPOINT = HookEndpoint(17171, "ab" * 32)
PARTS: list[Part] = [
    HooksPart(claude_hooks(HOOK, ENDPOINT)),
    HooksPart(claude_hooks(HOOK, None)),
    HooksPart(codex_hooks(HOOK)),
    HooksPart(cursor_hooks(HOOK), {"version": 1}),
    ServerPart(("mcpServers",), {"command": "/x/localmem-mcp", "args": []}),
    ServerPart(("projects", "/a b", "mcpServers"), {"command": "/x/localmem-mcp"}),
]


@given(written())
@example(({"hooks": {}, "mcpServers": {}}, '{"hooks": {}, "mcpServers": {}}'))
@example(({"hooks": {"Stop": []}}, '{\n\t"hooks": {\n\t\t"Stop": []\n\t}\n}'))
def test_what_is_put_in_and_taken_out_leaves_no_byte_behind(
    settings: tuple[dict[str, Any], str],
) -> None:
    text = settings[1]
    for part in PARTS:
        added = part.added(text)
        assert part.holds(added)
        assert not part.holds(text)
        assert part.removed(added, before=text) == text


@given(written())
def test_nothing_but_ours_is_new_in_what_the_text_says(
    settings: tuple[dict[str, Any], str],
) -> None:
    document, text = settings
    for part in PARTS[:4]:
        found = json_text.parse(part.added(text))
        for path, _ in reversed(list(handlers(found))):
            entry = found["hooks"][path[1]]
            entry.pop(path[2])
        for event in [event for event, entries in found["hooks"].items() if not entries]:
            if event not in document.get("hooks", {}):
                del found["hooks"][event]
        assert found.get("hooks") == document.get("hooks", {})
        assert {key: found[key] for key in document if key != "hooks"} == {
            key: value for key, value in document.items() if key != "hooks"
        }


@given(written())
def test_what_was_there_stands_there_still_in_the_same_order(
    settings: tuple[dict[str, Any], str],
) -> None:
    text = settings[1]
    for part in PARTS:
        characters = iter(part.added(text))
        assert all(one in characters for one in text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", '{\n  "a": {\n    "b": 1\n  }\n}'),
        ('{"x":1}', '{"x":1,"a":{"b":1}}'),
        ('{"x": 1}\n', '{"x": 1, "a": {"b": 1}}\n'),
        (
            '{\r\n\t"x": [],\r\n\t"y": 2\r\n}',
            '{\r\n\t"x": [],\r\n\t"y": 2,\r\n\t"a": {\r\n\t\t"b": 1\r\n\t}\r\n}',
        ),
        ('{\n    "a": {}\n}\n', '{\n    "a": {\n        "b": 1\n    }\n}\n'),
        ('{\n  "a": {"b": [1, 2]}\n}', '{\n  "a": {"b": 1}\n}'),
        ("", '{\n  "a": {\n    "b": 1\n  }\n}\n'),
    ],
)
def test_the_style_of_the_surroundings_is_kept(text: str, expected: str) -> None:
    assert json_text.set_member(text, ("a", "b"), 1) == expected


@pytest.mark.parametrize(
    ("text", "line", "column", "problem"),
    [
        ('{\n  "a": 1, // mine\n  "b": 2\n}', 2, 11, "a comment, which is no JSON"),
        ("// mine\n{}", 1, 1, "a comment, which is no JSON"),
        ('{\n  /* mine */ "a": 1}', 2, 3, "a comment, which is no JSON"),
        ('{"a": 1,\n}', 2, 1, "a comma with nothing behind it"),
        ('{"a": [1,]}', 1, 10, "a comma with nothing behind it"),
        ('{"a": NaN, "b": "NaN"}', 1, 7, "NaN is no JSON"),
        ('{"NaN": -Infinity}', 1, 9, "-Infinity is no JSON"),
        ('{"a" 1}', 1, 6, "expecting ':' delimiter"),
        ('{"a": 1} {"b": 2}', 1, 10, "extra data"),
        ('{"a": "\n"}', 1, 8, "invalid control character at"),
    ],
)
def test_what_is_no_json_is_named_with_its_place(
    text: str, line: int, column: int, problem: str
) -> None:
    with pytest.raises(json_text.JsonProblem) as caught:
        json_text.parse(text)
    assert caught.value.problem == problem
    if "comma" not in problem:  # where the parser stops at one differs between versions of Python
        assert json_text.position(text, caught.value.at) == (line, column)


def test_a_key_that_is_there_twice_is_no_way() -> None:
    text = '{"hooks": {}, "hooks": {"Stop": []}}'
    with pytest.raises(json_text.JsonProblem, match="'hooks' is there twice") as caught:
        json_text.append_item(text, ("hooks", "Stop"), {})
    assert caught.value.at == text.rindex('"hooks"')
    text = '{"mcpServers": {"localmem": {"command": "mine"}, "localmem": {"command": "/x/localmem-mcp"}}}'
    with pytest.raises(Refused, match="'localmem' is there twice"):
        ServerPart(("mcpServers",), {}).removed(text, None)


def test_a_document_nested_deeper_than_the_parser_goes_is_refused() -> None:
    with pytest.raises(json_text.JsonProblem, match="nested too deeply"):
        json_text.parse('{"a":' * 200_000)


def test_members_around_a_removed_one_keep_their_text() -> None:
    text = '{ "a" : 1 ,\n\n "b":2,   "c": [ 3,4 ] }'
    assert json_text.remove(text, ("a",)) == '{ "b":2,   "c": [ 3,4 ] }'
    assert json_text.remove(text, ("b",)) == '{ "a" : 1,   "c": [ 3,4 ] }'
    assert json_text.remove(text, ("c",)) == '{ "a" : 1 ,\n\n "b":2 }'
    assert json.loads(json_text.remove(text, ("c", 0)))["c"] == [4]
