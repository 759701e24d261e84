"""Edits of TOML add one table or take it out."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_node.installing import toml_text
from localmem_node.installing.parts import Refused, TomlServerPart

PATH = ("mcp_servers", "localmem")
VALUES: toml_text.Table = {
    "command": '/home/it\'s "me"/bin\\x/localmem-mcp',
    "default_tools_approval_mode": "approve",
    "tools": {"forget": {"approval_mode": "prompt"}},
}
BLOCKS = [
    'model = "gpt-5"\n',
    "# a comment\n\n",
    "[mcp_servers.other]\ncommand = 'x' # why\n",
    "[mcp_servers]\n",
    '[projects."/a b"]\ntrust_level = "trusted"\n\n\n',
    'text = """\n[mcp_servers.localmem]\n"""\n',
    "list = [\n  [1, 2],\n]\n",
    "[[array.of.tables]]\nx = 1\n# below\n",
]


@given(st.lists(st.sampled_from(BLOCKS), unique=True), st.booleans())
def test_a_table_goes_in_and_comes_out_again_without_a_trace(
    blocks: list[str], windows: bool
) -> None:
    first = [one for one in blocks if "[" not in one.partition("\n")[0] or "= " in one]
    text = "".join(first + [one for one in blocks if one not in first])
    if windows:
        text = text.replace("\n", "\r\n")
    added = toml_text.add_table(text, PATH, VALUES)
    assert added.startswith(text)
    assert toml_text.parse(added)["mcp_servers"]["localmem"] == VALUES
    assert toml_text.remove_table(added, PATH) == text


def test_what_stands_behind_and_below_the_table_is_told_apart() -> None:
    text = (
        "[mcp_servers.localmem]\ncommand = 'x/localmem-mcp'\n\n"
        "[mcp_servers.localmem.env]\nA = 'b'\n\n"
        "# of the next one\n[tui]\nx = 1\n"
    )
    assert toml_text.remove_table(text, PATH) == "# of the next one\n[tui]\nx = 1\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("mcp_servers = { other = { command = 'x' } }\n", 2),
        ("a = 1\n[[mcp_servers]]\nx = 1\n", 4),
        ("mcp_servers.localmem.command = 'mine'\n", 1),
        ("[mcp_servers.localmem]\ncommand = 'mine'\n", 1),
        ("a = 1\nb = \n", 2),
        ("a = 1\na = 2\n", 2),
        ("\n\nx = {", 3),
    ],
)
def test_a_config_that_no_table_can_be_added_to_is_refused_with_its_line(
    text: str, line: int
) -> None:
    with pytest.raises(Refused) as caught:
        TomlServerPart(VALUES).added(text)
    assert caught.value.line == line


def test_a_server_that_is_written_in_another_form_is_not_guessed_at() -> None:
    text = "mcp_servers.localmem = { command = '/old/localmem-mcp' }\n"
    with pytest.raises(Refused, match="not written as a table of its own"):
        TomlServerPart(VALUES).removed(text, None)


def test_what_codex_noted_of_our_hooks_goes_with_them() -> None:
    kept = '[hooks.state."/h/hooks.json:stop:0:0"]\ntrusted_hash = "sha256:aa"\n'
    ours = '[hooks.state."/h/hooks.json:stop:1:0"]\ntrusted_hash = "sha256:bb"\n'
    part = TomlServerPart(VALUES, frozenset({"/h/hooks.json:stop:1:0", "/h/hooks.json:gone:0:0"}))
    assert part.removed(f"[hooks.state]\n\n{kept}\n{ours}", None) == f"[hooks.state]\n\n{kept}"
    alone = part.removed(f"a = 1\n\n[hooks.state]\n\n{ours}", None)
    assert tomllib.loads(alone) == {"a": 1}
