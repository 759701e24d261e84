"""Claude Code and Codex themselves, with the server registered by hand: they connect, and what a model
asks for comes back to it.

Nobody is logged in: the model is a scripted one on loopback. `make clients` installs the two.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.clients import Client, Name
from bench.scripted_model import Action, Request, Say, ScriptedModel, Tool
from localmem_node.client import DaemonClient
from localmem_node.mcp_server.tools import TOOL_NAMES
from support.clients import clients as clients
from support.daemon import daemons_of, environment
from support.git_repository import Repository
from support.mcp_pump import COMMAND

TOOLS = {f"mcp__localmem__{name}" for name in TOOL_NAMES}
QUERY = "mcp__localmem__query_recent"
ACTIONS = (
    Tool("mcp__localmem__record_event", {"text": "We chose SQLite"}),
    Tool(QUERY, {"query": "which gateway limit"}),
    Tool(QUERY, {"query": "gateway limit", "project": "all"}),
    Say("Done."),
)


def script(request: Request) -> Action:
    """One of the actions after the other."""
    return ACTIONS[len(request.results)]


class Place:
    """A user with a project, a daemon, and nothing else."""

    def __init__(self, path: Path) -> None:
        self.user, self.project, self.home = path / "user", path / "project", path / "home"
        self.user.mkdir()
        self.project.mkdir()
        Repository(self.project)
        localmem = environment(self.home)
        self.server = {
            name: value
            for name, value in localmem.items()
            if name.startswith("LOCALMEM_") or name == "PYTHONPATH"
        }
        self.daemon = DaemonClient(localmem)

    def client(self, name: Name, url: str) -> Client:
        """A client to which the server was added as a user would."""
        client = Client(name, self.user, self.project, url)
        client.prepare()
        if name == "claude-code":
            variables = [part for one in self.server.items() for part in ("-e", "=".join(one))]
            client.run(["mcp", "add", "--scope", "user", "localmem", *variables, "--", *COMMAND])
            return client
        settings = [
            "[mcp_servers.localmem]",
            f"command = {json.dumps(COMMAND[0])}",
            f"args = {json.dumps(COMMAND[1:])}",
            'default_tools_approval_mode = "approve"',
            "[mcp_servers.localmem.env]",
            *(f"{name} = {json.dumps(value)}" for name, value in self.server.items()),
        ]
        with (self.user / ".codex" / "config.toml").open("a") as file:
            file.write("\n".join(settings))
        return client


@pytest.fixture
def place(tmp_path: Path, clients: None) -> Iterator[Place]:
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


def test_claude_code_says_that_it_is_connected(place: Place) -> None:
    with ScriptedModel(script) as model:
        assert "✔ Connected" in place.client("claude-code", model.url).run(["mcp", "list"])


@pytest.mark.parametrize("name", ["claude-code", "codex"])
def test_a_turn_gets_what_it_asks_for(place: Place, name: Name) -> None:
    with ScriptedModel(script) as model:
        place.client(name, model.url).ask("What did we say?")
        last = [request for request in model.requests if request.tools][-1]
    assert set(last.tools) >= TOOLS
    recorded, here, everywhere = (
        json.loads(result[result.index("{") :]) for result in last.results
    )
    (own,) = place.daemon.recent(1)["events"]
    assert (own["tool"], own["snippet"]) == (name, "We chose SQLite")
    assert recorded["contextIds"] == [own["id"]]
    # The note is of no project, and the client works in one.
    assert here["text"].startswith("Nothing found in this project")
    assert "The gateway limit is five" in everywhere["text"]
