"""What the real clients make of what install wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from localmem_node.config import load_settings
from localmem_node.daemon.state import read_state
from support.clients import ClientHome
from support.daemon import environment, left_behind, localmem
from support.git_repository import Repository


@pytest.fixture
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("m") / "memory"
    yield home
    localmem(home, "down")
    assert left_behind(home) == []


@pytest.fixture
def user(client_home: ClientHome, memory: Path) -> ClientHome:
    """A user of the clients whose servers find the sources and the memory."""
    own = environment(memory)
    names = ("PYTHONPATH", *(name for name in own if name.startswith("LOCALMEM")))
    return replace(client_home, more={name: own[name] for name in names})


def run(user: ClientHome, memory: Path, *arguments: str) -> str:
    done = localmem(memory, *arguments, cwd=user.folder, HOME=str(user.home))
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def test_claude_lists_the_server_and_reaches_the_daemon_through_it(
    user: ClientHome, memory: Path
) -> None:
    run(user, memory, "install", "claude-code")
    listed = user.run("claude", "mcp", "list")
    assert "localmem-mcp" in listed
    assert "✔ Connected" in listed
    assert "Scope: User config" in user.run("claude", "mcp", "get", "localmem")
    run(user, memory, "uninstall", "claude-code")
    assert "localmem" not in user.run("claude", "mcp", "list")
    # Claude Code keeps its own state in the file that the server was in.
    assert "mcpServers" not in json.loads((user.home / ".claude.json").read_bytes())


def test_in_a_project_claude_asks_nobody_and_other_projects_see_nothing(
    user: ClientHome, memory: Path
) -> None:
    Repository(user.folder)
    run(user, memory, "install", "claude-code", "--scope", "project")
    assert "✔ Connected" in user.run("claude", "mcp", "list")
    inside = user.folder / "a" / "b"
    inside.mkdir(parents=True)
    below = replace(user, folder=inside)
    assert "✔ Connected" in below.run("claude", "mcp", "list")
    elsewhere = replace(user, folder=user.home)
    assert "localmem" not in elsewhere.run("claude", "mcp", "list")


def test_codex_lists_the_server_and_will_not_ask_for_each_call(
    user: ClientHome, memory: Path
) -> None:
    config = user.home / ".codex" / "config.toml"
    config.parent.mkdir()
    config.write_text('# mine\nmodel = "gpt-5"\n')
    run(user, memory, "install", "codex")
    assert "localmem-mcp" in user.run("codex", "mcp", "list")
    told = user.run("codex", "mcp", "get", "localmem")
    assert "default_tools_approval_mode: approve" in told
    user.run("codex", "mcp", "add", "other", "--", "true")
    run(user, memory, "uninstall", "codex")
    listed = user.run("codex", "mcp", "list")
    assert "other" in listed
    assert "localmem" not in listed
    user.run("codex", "mcp", "remove", "other")
    assert config.read_text() == '# mine\nmodel = "gpt-5"\n'


def test_codex_reads_a_project_that_is_trusted(user: ClientHome, memory: Path) -> None:
    Repository(user.folder)
    done = localmem(
        memory, "install", "codex", "--scope", "project", cwd=user.folder, HOME=str(user.home)
    )
    assert b"only if you trust the project" in done.stdout
    assert b"git does not ignore .codex/hooks.json, .codex/config.toml" in done.stdout
    assert "localmem" not in user.run("codex", "mcp", "list")
    (user.home / ".codex").mkdir(exist_ok=True)
    trusted = f'[projects."{user.folder}"]\ntrust_level = "trusted"\n'
    (user.home / ".codex" / "config.toml").write_text(trusted)
    assert "localmem-mcp" in user.run("codex", "mcp", "list")


def test_a_daemon_that_runs_moves_to_the_port_that_the_hooks_ask(
    user: ClientHome, memory: Path
) -> None:
    run(user, memory, "up")
    settings = load_settings(environment(memory))
    before = read_state(settings)
    told = run(user, memory, "install", "claude-code")
    after = read_state(settings)
    assert before is not None
    assert after is not None
    assert f"it listens on port {after.port} now" in told
    assert f":{after.port}/" in (user.home / ".claude/settings.json").read_text()
    assert before.port != after.port
    run(user, memory, "install", "claude-code")
    assert read_state(settings) == after
