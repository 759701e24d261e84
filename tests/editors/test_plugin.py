"""The plugin: one tree that the real claude and the real codex accept."""

from __future__ import annotations

import json
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from localmem_node.installing.hooks import Hooks, claude_hooks, codex_hooks
from localmem_node.installing.places import ASKED
from support.clients import ROOT, ClientHome

MARKETPLACE = ROOT / "integrations" / "plugin"
PLUGIN = MARKETPLACE / "plugins" / "localmem"
FIND = PLUGIN / "find.sh"


def read(path: Path) -> Any:
    return json.loads(path.read_bytes())


def test_claude_validates_installs_and_lists_it(client_home: ClientHome) -> None:
    for path in (MARKETPLACE, PLUGIN):
        assert "Validation passed" in client_home.run("claude", "plugin", "validate", str(path))
    client_home.run("claude", "plugin", "marketplace", "add", str(MARKETPLACE))
    client_home.run("claude", "plugin", "install", "localmem@localmem")
    listed = client_home.run("claude", "plugin", "list")
    assert "localmem@localmem" in listed
    assert "enabled" in listed
    assert "find.sh localmem-mcp" in client_home.run("claude", "mcp", "list")


def test_codex_installs_it_with_its_server_and_no_question_per_call(
    client_home: ClientHome,
) -> None:
    client_home.run("codex", "plugin", "marketplace", "add", str(MARKETPLACE))
    client_home.run("codex", "plugin", "add", "localmem@localmem")
    assert "installed, enabled" in client_home.run("codex", "plugin", "list")
    told = client_home.run("codex", "mcp", "get", "localmem")
    assert "default_tools_approval_mode: approve" in told
    assert "enabled: true" in told
    assert read(PLUGIN / "codex.mcp.json")["mcpServers"]["localmem"]["tools"] == ASKED


def test_all_of_it_has_one_version() -> None:
    version = tomllib.loads((ROOT / "node" / "pyproject.toml").read_text())["project"]["version"]
    for name in (".claude-plugin", ".codex-plugin"):
        assert read(PLUGIN / name / "plugin.json")["version"] == version


@pytest.mark.parametrize(
    ("name", "editor", "root", "hooks"),
    [
        ("hooks.json", "claude-code", "CLAUDE_PLUGIN_ROOT", claude_hooks(Path("/x"), None)),
        ("codex.json", "codex", "PLUGIN_ROOT", codex_hooks(Path("/x"))),
    ],
)
def test_its_hooks_are_those_that_install_writes(
    name: str, editor: str, root: str, hooks: Hooks
) -> None:
    command = f'sh "${{{root}}}/find.sh" localmem-hook {editor}'
    expected = json.loads(json.dumps(hooks).replace(f'"/x {editor}"', json.dumps(command)))
    assert read(PLUGIN / "hooks" / name)["hooks"] == expected


def find(home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(FIND), *arguments],
        env={"PATH": "/usr/bin:/bin", "HOME": str(home), **more},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_localmem_its_hooks_are_silent_and_its_server_says_what_to_do(
    tmp_path: Path,
) -> None:
    done = find(tmp_path, "localmem-hook", "codex")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = find(tmp_path, "localmem-mcp")
    assert done.returncode == 1
    assert "localmem install plugin" in done.stderr


@pytest.mark.parametrize(
    ("folder", "variable"),
    [
        (".local/share/localmem/bin", None),
        ("Library/Application Support/localmem/bin", None),
        ("a b/localmem/bin", "XDG_DATA_HOME"),
        ("a b/data/bin", "LOCALMEM_HOME"),
        ("on path", "PATH"),
    ],
)
def test_it_finds_the_launchers_wherever_they_are(
    tmp_path: Path, folder: str, variable: str | None
) -> None:
    place = tmp_path / folder
    place.mkdir(parents=True)
    for name in ("localmem-hook", "localmem-mcp"):
        (place / name).write_text('#!/bin/sh\nprintf "%s." "$0" "$@"\n')
        (place / name).chmod(0o700)
    values = {"XDG_DATA_HOME": str(tmp_path / "a b"), "LOCALMEM_HOME": str(tmp_path / "a b"),
              "PATH": f"{place}:/usr/bin:/bin"}  # fmt: skip
    more = {variable: values[variable]} if variable else {}
    for name in ("localmem-hook", "localmem-mcp"):
        done = find(tmp_path, name, "an argument", "it's", **more)
        assert done.stdout == f"{place / name}.an argument.it's."
    server = read(PLUGIN / "codex.mcp.json")["mcpServers"]["localmem"]
    if variable != "PATH":
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **more}
        done = subprocess.run(
            [server["command"], *server["args"]],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.startswith(str(place / "localmem-mcp"))
        assert set(more) <= set(server["env_vars"])
