"""`localmem install` and `uninstall` as a user runs them."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bench.ports import free_port
from support.daemon import answer, command, daemons_of, environment, localmem
from support.git_repository import Repository
from support.wired import User, tree


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    """One whose daemons do not outlive the test."""
    user = User.at(tmp_path)
    Repository(user.project)
    yield user
    for pid in daemons_of(user.memory):
        os.kill(pid, signal.SIGKILL)


def run(
    user: User, *arguments: str, code: int = 0, more: Mapping[str, str] | None = None
) -> tuple[str, str]:
    done = subprocess.run(
        command(*arguments),
        cwd=user.project,
        env=environment(user.memory) | {"HOME": str(user.home)} | dict(more or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def test_print_shows_the_diff_without_the_token_and_writes_nothing(user: User) -> None:
    path = user.home / ".claude/settings.json"
    path.parent.mkdir()
    path.write_text('{\n  "model": "opus"\n}\n')
    before = tree(user.home)
    shown, _ = run(user, "install", "all", "--print")
    assert tree(user.home) == before
    assert not user.memory.exists()
    assert f"--- {path}\n+++ {path}\n" in shown
    assert '+  "hooks": {' in shown
    assert "127.0.0.1:<port>/" in shown
    assert "--- /dev/null" in shown
    run(user, "install", "all")
    assert run(user, "install", "all", "--print")[0] == "nothing would change\n"
    shown, _ = run(user, "uninstall", "all", "--print")
    token = json.loads((user.memory / "hooks.json").read_bytes())["token"]
    assert token in path.read_text()
    assert token not in shown
    assert "Bearer <token>" in shown
    shown, _ = run(user, "uninstall", "claude-code", "--print", "--json")
    assert token not in shown


def test_json_says_what_became_of_each_file(user: User) -> None:
    done = localmem(
        user.memory, "install", "cursor", "--json", cwd=user.project, HOME=str(user.home)
    )
    told = answer(done)
    folder = user.home / ".cursor"
    assert told["files"] == [
        {"path": str(folder / "hooks.json"), "does": "create"},
        {"path": str(folder / "mcp.json"), "does": "create"},
    ]
    assert told["written"]
    assert "paste into Settings > Rules" in told["notes"][0]


def test_a_file_with_comments_is_one_line_and_nothing_is_written(user: User) -> None:
    path = user.home / ".cursor/mcp.json"
    path.parent.mkdir()
    path.write_text('{\n  "mcpServers": {} // none\n}\n')
    before = tree(user.home)
    out, error = run(user, "install", "all", code=1)
    assert out == ""
    assert error.startswith(f"localmem: {path}:2:20: a comment, which is no JSON")
    assert error.count("\n") == 1
    done = localmem(user.memory, "install", "all", "--json", HOME=str(user.home))
    assert answer(done)["error"]["code"] == "settings_refused"
    assert tree(user.home) == before
    assert not user.memory.exists()


def test_the_editors_own_variables_say_where_their_settings_are(user: User) -> None:
    folders = {"CLAUDE_CONFIG_DIR": str(user.home / "c l"), "CODEX_HOME": str(user.home / "c x")}
    run(user, "install", "all", more=folders)
    for name in ("c l/settings.json", "c l/.claude.json", "c x/hooks.json", "c x/config.toml"):
        assert (user.home / name).exists()
    run(user, "uninstall", "all", more=folders)
    assert tree(user.home) == {}


def test_a_project_is_told_which_files_git_would_commit(user: User) -> None:
    (user.project / ".gitignore").write_text(".claude/settings.local.json\n.cursor/mcp.json\n")
    out, _ = run(user, "install", "all", "--scope", "project")
    (note,) = [line for line in out.splitlines() if "git does not ignore" in line]
    assert ".codex/hooks.json, .codex/config.toml, .cursor/hooks.json, .cursor/rules/" in note
    assert "settings.local.json" not in note
    assert "mcp.json" not in note


def test_a_backup_with_a_secret_that_git_would_commit_is_told(user: User) -> None:
    (user.project / ".gitignore").write_text("/.cursor/mcp.json\n/.codex\n")
    for name in (".cursor/mcp.json", ".codex/config.toml"):
        (user.project / name).parent.mkdir()
        (user.project / name).write_text('{"env": {"KEY": "secret"}}' if "json" in name else "")
    elsewhere = {"GIT_DIR": str(user.home)}  # as in a hook of git
    out, _ = run(user, "install", "all", "--scope", "project", more=elsewhere)
    (note,) = [line for line in out.splitlines() if "secrets included" in line]
    assert "git does not ignore .cursor/mcp.json.localmem-backup; they" in note


def test_the_home_folder_is_no_project(user: User) -> None:
    done = localmem(
        user.memory, "install", "all", "--scope", "project", cwd=user.home, HOME=str(user.home)
    )
    assert done.returncode == 1
    assert b"is your home folder, not a project" in done.stderr
    assert tree(user.home) == {}


def test_a_token_for_a_project_is_refused(user: User) -> None:
    _, error = run(user, "install", "all", "--scope", "project", "--transport", "http", code=2)
    assert "needs a token, which no project may hold" in error


def test_a_plugin_gets_launchers_that_outlive_the_last_editor(user: User) -> None:
    hook = user.memory / "data/bin/localmem-hook"
    run(user, "install", "plugin")
    assert hook.exists()
    run(user, "install", "codex")
    run(user, "uninstall", "codex")
    assert hook.exists()
    run(user, "uninstall", "plugin")
    assert not hook.exists()


def test_uninstall_without_an_install_does_nothing(user: User) -> None:
    path = user.home / ".claude/settings.json"
    path.parent.mkdir()
    path.write_text('{"hooks": {}}')
    before = tree(user.home)
    out, _ = run(user, "uninstall", "all")
    assert tree(user.home) == before
    assert out.count("is as it should be") == 6


def test_a_daemon_that_has_the_port_already_learns_of_its_hooks(user: User) -> None:
    port = str(free_port())
    run(user, "up", more={"LOCALMEM_PORT": port})
    shown, _ = run(user, "install", "claude-code", more={"LOCALMEM_PORT": port})
    assert "the daemon was restarted" in shown
    token = json.loads((user.memory / "hooks.json").read_bytes())["token"]
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
    connection.request("POST", "/v1/hook/claude-code", b"{}", {"Authorization": f"Bearer {token}"})
    assert connection.getresponse().status == 200
    connection.close()
    again, _ = run(user, "install", "claude-code", more={"LOCALMEM_PORT": port})
    assert "restarted" not in again
