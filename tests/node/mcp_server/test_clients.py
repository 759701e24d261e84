"""Claude Code and Codex themselves: they connect, and what a model asks for comes back to it.

Nobody is logged in: the model is a scripted one on loopback. `make clients` installs the two.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from localmem_node.client import DaemonClient
from localmem_node.mcp_server.tools import TOOL_NAMES
from support.daemon import ROOT, daemons_of, environment
from support.git_repository import Repository
from support.mcp_pump import COMMAND
from support.scripted_model import ScriptedModel, scripted_model

BIN = ROOT / ".clients" / "node_modules" / ".bin"
TOOLS = [f"mcp__localmem__{name}" for name in TOOL_NAMES]
RECORD, QUERY = "mcp__localmem__record_event", "mcp__localmem__query_recent"
CALLS = [(RECORD, {"text": "We chose SQLite"}), (QUERY, {"query": "which gateway limit"})]


class Place:
    """A user with a project, a daemon, and nothing else."""

    def __init__(self, path: Path) -> None:
        self.user, self.project, home = path / "user", path / "project", path / "home"
        self.user.mkdir()
        self.project.mkdir()
        Repository(self.project)
        self.home = home
        localmem = environment(home)
        self.server = {
            name: value
            for name, value in localmem.items()
            if name.startswith("LOCALMEM_") or name == "PYTHONPATH"
        }
        self.daemon = DaemonClient(localmem)

    def run(self, *command: str, **more: str) -> str:
        """What a client prints."""
        done = subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            cwd=self.project,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
            env={
                "PATH": f"{os.path.dirname(shutil.which('node') or '/usr/bin/node')}:/usr/bin:/bin",
                "HOME": str(self.user),
                "LANG": "C.UTF-8",
                "IS_SANDBOX": "1",
                "DISABLE_TELEMETRY": "1",
                "DISABLE_ERROR_REPORTING": "1",
                "DISABLE_AUTOUPDATER": "1",
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
                "ENABLE_TOOL_SEARCH": "false",
                "ANTHROPIC_API_KEY": "sk-ant-nobody",
                "MODEL_KEY": "nobody",
                **more,
            },
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def add_to_claude(self) -> None:
        variables = [part for name in self.server for part in ("-e", f"{name}={self.server[name]}")]
        self.run("claude", "mcp", "add", "--scope", "user", "localmem", *variables, "--", *COMMAND)

    def add_to_codex(self, port: int) -> None:
        settings = [
            'model = "scripted"',
            'model_provider = "loopback"',
            "[model_providers.loopback]",
            'name = "loopback"',
            f'base_url = "http://127.0.0.1:{port}/v1"',
            'env_key = "MODEL_KEY"',
            'wire_api = "responses"',
            "[mcp_servers.localmem]",
            f"command = {json.dumps(COMMAND[0])}",
            f"args = {json.dumps(COMMAND[1:])}",
            'default_tools_approval_mode = "approve"',
            "[mcp_servers.localmem.env]",
            *(f"{name} = {json.dumps(value)}" for name, value in self.server.items()),
        ]
        (self.user / ".codex").mkdir()
        (self.user / ".codex" / "config.toml").write_text("\n".join(settings))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    with place.daemon as daemon:
        note = {
            "kind": "note",
            "snippet": "The gateway limit is five\nper minute",
            "timestamp": time.time_ns() // 1_000_000,
        }
        daemon.record([note])
        yield place
    for pid in daemons_of(place.home):
        os.kill(pid, signal.SIGKILL)


def need(client: str) -> None:
    """Skips the test, or under CI fails it, without the client."""
    if (BIN / client).exists():
        return
    reason = f"{client} is not installed; run: make clients"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def check_turn(place: Place, model: ScriptedModel, tool: str) -> None:
    """The model was offered the tools, and got what it asked for, in a form that is whole."""
    assert set(TOOLS) <= set(model.tools)
    recorded, found = (json.loads(result[result.index("{") :]) for result in model.results)
    (own,) = place.daemon.recent(1)["events"]
    assert (own["tool"], own["snippet"]) == (tool, "We chose SQLite")
    assert recorded["contextIds"] == [own["id"]]
    # The note is of no project, and the client works in one.
    assert found["text"].startswith("Nothing found in this project")


def test_claude_code_says_that_it_is_connected(place: Place) -> None:
    need("claude")
    place.add_to_claude()
    assert "✔ Connected" in place.run("claude", "mcp", "list")


def test_a_turn_of_claude_code_gets_what_it_asks_for(place: Place) -> None:
    need("claude")
    place.add_to_claude()
    with scripted_model([*CALLS, (QUERY, {"query": "gateway limit", "project": "all"})]) as model:
        url = f"http://127.0.0.1:{model.port}"
        arguments = ("claude", "-p", "What did we say?", "--allowedTools", *TOOLS)
        place.run(*arguments, ANTHROPIC_BASE_URL=url)
        everywhere = model.results.pop()
        assert "The gateway limit is five" in everywhere
        check_turn(place, model, "claude-code")


def test_a_turn_of_codex_gets_what_it_asks_for(place: Place) -> None:
    need("codex")
    with scripted_model([*CALLS, (QUERY, {"query": "gateway limit", "project": "all"})]) as model:
        place.add_to_codex(model.port)
        place.run("codex", "exec", "--skip-git-repo-check", "--json", "What did we say?")
        everywhere = model.results.pop()
        assert "The gateway limit is five" in everywhere
        check_turn(place, model, "codex")
