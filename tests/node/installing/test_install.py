"""Install and uninstall on real files: nothing else changes, and everything comes back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from localmem_node.daemon.endpoint import endpoint_path, read_endpoint
from localmem_node.errors import InstallError, SettingsRefused
from localmem_node.files import try_lock
from localmem_node.hook.launcher import hook_path, mcp_path
from localmem_node.installing import applying
from localmem_node.installing.hooks import handlers
from localmem_node.installing.record import backup_of, record_path
from support.git_repository import Repository
from support.settings_files import written
from support.wired import User, tree

MODES = 0o777


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User.at(tmp_path)


def mode(path: Path) -> int:
    return path.stat().st_mode & MODES


def commands(path: Path) -> list[dict[str, Any]]:
    return [dict(handler) for _, handler in handlers(json.loads(path.read_bytes()))]


def test_two_at_once_do_not_mix(user: User) -> None:
    user.install()
    before = tree(user.home)
    lock = try_lock(user.settings.runtime_dir / "install.lock")
    assert lock is not None
    try:
        for change in (user.install, user.uninstall):
            with pytest.raises(InstallError, match="under way"):
                change()
        assert tree(user.home) == before
    finally:
        os.close(lock)
    user.uninstall()


def test_each_editor_is_told_in_its_own_files(user: User) -> None:
    user.install()
    claude = commands(user.home / ".claude/settings.json")
    endpoint = read_endpoint(user.settings)
    assert endpoint is not None
    posts = [one for one in claude if one["type"] == "http"]
    assert {one["url"] for one in posts} == {
        f"http://127.0.0.1:{endpoint.port}/v1/hook/claude-code"
    }
    assert {one["headers"]["Authorization"] for one in posts} == {f"Bearer {endpoint.token}"}
    assert {one["timeout"] for one in posts} == {0.3}
    hook, server = hook_path(user.settings), str(mcp_path(user.settings))
    assert {one["command"] for one in claude if one["type"] == "command"} == {f"{hook} claude-code"}
    settings = json.loads((user.home / ".claude/settings.json").read_bytes())["hooks"]
    assert settings["PostToolUse"][0]["matcher"].split("|")[0] == "Bash"
    assert settings["SessionStart"][0]["hooks"][0]["type"] == "command"
    state = json.loads((user.home / ".claude.json").read_bytes())
    assert state["mcpServers"]["localmem"] == {
        "type": "stdio", "command": server, "args": [], "env": {}
    }  # fmt: skip
    assert {one["command"] for one in commands(user.home / ".codex/hooks.json")} == {
        f"{hook} codex"
    }
    config = tomllib.loads((user.home / ".codex/config.toml").read_text())
    assert config["mcp_servers"]["localmem"] == {
        "command": server, "default_tools_approval_mode": "approve",
        "tools": {"forget": {"approval_mode": "prompt"}},
    }  # fmt: skip
    cursor = json.loads((user.home / ".cursor/hooks.json").read_bytes())
    assert cursor["version"] == 1
    assert cursor["hooks"]["beforeSubmitPrompt"] == [{"command": f"{hook} cursor", "timeout": 2}]
    servers = json.loads((user.home / ".cursor/mcp.json").read_bytes())["mcpServers"]
    assert servers == {"localmem": {"command": server}}
    assert os.access(hook, os.X_OK)
    assert os.access(server, os.X_OK)


def test_files_that_install_makes_are_for_their_user_only(user: User) -> None:
    outcome = user.install()
    assert {mode(change.path) for change in outcome.changes} == {0o600}
    assert mode(record_path(user.settings)) == 0o600


def test_a_second_install_changes_nothing(user: User) -> None:
    user.install()
    before = tree(user.home, user.memory)
    assert {change.does for change in user.install().changes} == {"none"}
    assert tree(user.home, user.memory) == before


def test_uninstall_leaves_a_home_as_it_was(user: User) -> None:
    user.install()
    user.uninstall()
    assert tree(user.home) == {}
    assert not endpoint_path(user.settings).exists()
    assert not hook_path(user.settings).parent.exists()
    assert not record_path(user.settings).exists()


@given(written(), written(), written())
def test_files_of_any_style_come_back_byte_for_byte(
    first: tuple[dict[str, Any], str],
    second: tuple[dict[str, Any], str],
    third: tuple[dict[str, Any], str],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        user = User.at(Path(folder))
        texts = [text.encode("utf-8-sig" if bom else "utf-8") for text, bom in
                 ((first[1], False), (second[1], True), (third[1], False))]  # fmt: skip
        names = (".claude/settings.json", ".claude.json", ".cursor/hooks.json")
        for name, text in zip(names, texts, strict=True):
            path = user.home / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(text)
            path.chmod(0o640)
        before = tree(user.home)
        user.install()
        for name, text in zip(names, texts, strict=True):
            assert backup_of(user.home / name).read_bytes() == text
            assert mode(backup_of(user.home / name)) == 0o600
        user.install()
        user.uninstall()
        assert tree(user.home) == before


@pytest.mark.parametrize("text", ["", "\n", "{}", "{ }\r\n", '{"hooks": { "Stop": [ ] } }'])
def test_even_white_space_where_nothing_was_comes_back(user: User, text: str) -> None:
    path = user.home / ".claude/settings.json"
    path.parent.mkdir()
    path.write_bytes(text.encode())
    user.install()
    user.uninstall()
    assert path.read_bytes() == text.encode()


def test_what_was_changed_after_the_install_stays(user: User) -> None:
    path = user.home / ".claude/settings.json"
    path.parent.mkdir()
    path.write_text('{\n    "model": "opus"\n}\n')
    user.install()
    changed = json.loads(path.read_text())
    changed["model"] = "sonnet"
    changed["hooks"]["Stop"].append({"hooks": [{"type": "command", "command": "say done"}]})
    path.write_text(json.dumps(changed, indent=2))
    (user.home / ".cursor/mcp.json").write_text(
        json.dumps({"mcpServers": {"localmem": {"command": "/x/localmem-mcp"}, "b": {}}})
    )
    user.uninstall()
    assert json.loads(path.read_text()) == {
        "model": "sonnet",
        "hooks": {"Stop": [{"hooks": [{"type": "command", "command": "say done"}]}]},
    }
    assert json.loads((user.home / ".cursor/mcp.json").read_text()) == {"mcpServers": {"b": {}}}
    assert not list(user.home.rglob("*.localmem-backup"))


def test_a_handler_of_ours_is_taken_out_of_a_group_that_others_share(user: User) -> None:
    user.install()
    path = user.home / ".codex/hooks.json"
    changed = json.loads(path.read_text())
    changed["hooks"]["Stop"][0]["hooks"].insert(0, {"type": "command", "command": "mine"})
    path.write_text(json.dumps(changed))
    user.uninstall()
    assert json.loads(path.read_text()) == {
        "hooks": {"Stop": [{"hooks": [{"type": "command", "command": "mine"}]}]}
    }


def test_a_new_version_replaces_the_entries_of_the_old_one(user: User) -> None:
    path = user.home / ".claude/settings.json"
    path.parent.mkdir()
    path.write_text('{"a": 1}')
    user.install(transport="command")
    assert {one["type"] for one in commands(path)} == {"command"}
    number = len(commands(path))
    user.install()
    assert {one["type"] for one in commands(path)} == {"command", "http"}
    assert len(commands(path)) == number
    user.uninstall()
    assert path.read_text() == '{"a": 1}'


def test_without_its_record_uninstall_still_takes_out_what_is_ours(user: User) -> None:
    path = user.home / ".codex/config.toml"
    path.parent.mkdir()
    path.write_text('model = "x"\n')
    user.install()
    record_path(user.settings).unlink()
    user.uninstall()
    assert path.read_text() == 'model = "x"\n'
    assert json.loads((user.home / ".cursor/hooks.json").read_text()) == {"version": 1}


def test_a_record_that_was_lost_is_made_anew_by_the_next_install(user: User) -> None:
    path = user.home / ".claude/settings.json"
    path.parent.mkdir()
    path.write_text("{}")
    user.install()
    user.install("claude-code", scope="project")
    record_path(user.settings).unlink()
    changed = json.loads(path.read_text()) | {"model": "opus"}
    path.write_text(json.dumps(changed))
    user.install()
    user.install("claude-code", scope="project")
    user.uninstall("codex", "cursor")
    user.uninstall("claude-code", scope="project")
    assert hook_path(user.settings).exists()
    assert endpoint_path(user.settings).exists()
    user.uninstall("claude-code")
    assert not hook_path(user.settings).exists()
    assert json.loads(path.read_text()) == {"model": "opus"}


def test_a_part_that_was_taken_out_by_hand_keeps_no_record(user: User) -> None:
    path = user.home / ".claude.json"
    user.install("claude-code")
    user.install("claude-code", scope="project")
    state = json.loads(path.read_text())
    del state["mcpServers"]
    path.write_text(json.dumps(state))
    user.uninstall("claude-code")
    user.uninstall("claude-code", scope="project")
    assert not record_path(user.settings).exists()
    assert not hook_path(user.settings).exists()


def test_a_settings_file_that_gets_a_token_is_closed_to_others_until_it_goes(user: User) -> None:
    path = user.home / ".claude/settings.json"
    path.parent.mkdir()
    path.write_text("{}")
    path.chmod(0o644)
    other = user.home / ".cursor"
    other.mkdir()
    (other / "mcp.json").write_text("{}")
    (other / "mcp.json").chmod(0o644)
    user.install()
    assert mode(path) == 0o600
    assert mode(other / "mcp.json") == 0o644
    user.uninstall()
    assert mode(path) == 0o644


def test_a_link_is_followed_and_stays_a_link(user: User, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles" / "claude.json"
    real.parent.mkdir()
    real.write_text("{}\n")
    path = user.home / ".claude" / "settings.json"
    path.parent.mkdir()
    path.symlink_to(real)
    user.install("claude-code")
    assert path.is_symlink()
    assert commands(real)
    assert backup_of(path).read_text() == "{}\n"
    user.uninstall("claude-code")
    assert path.is_symlink()
    assert real.read_text() == "{}\n"


def test_no_token_goes_where_it_could_be_committed(user: User, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles" / "claude.json"
    real.parent.mkdir()
    Repository(real.parent)
    real.write_text("{}\n")
    path = user.home / ".claude" / "settings.json"
    path.parent.mkdir()
    path.symlink_to(real)
    user.install()
    Repository(user.project)
    user.install(scope="project")
    assert not endpoint_path(user.settings).exists()
    for folder in (real.parent, user.project):
        for one in (path for path in folder.rglob("*") if path.is_file()):
            assert b"Bearer" not in one.read_bytes()
    assert {one["type"] for one in commands(real)} == {"command"}


def test_a_project_gets_files_of_its_own_and_loses_them_again(user: User) -> None:
    Repository(user.project)
    user.install(scope="project")
    local = user.project / ".claude/settings.local.json"
    assert {one["type"] for one in commands(local)} == {"command"}
    assert any(one.get("async") for one in commands(local))
    state = json.loads((user.home / ".claude.json").read_text())
    assert list(state["projects"][str(user.project)]["mcpServers"]) == ["localmem"]
    assert (user.project / ".codex/config.toml").exists()
    assert (user.project / ".cursor/rules/localmem.mdc").read_text().startswith("---\n")
    user.uninstall(scope="project")
    assert not [path for path in user.project.iterdir() if path.name != ".git"]
    assert tree(user.home) == {}


def test_a_user_and_two_projects_share_a_file_and_each_takes_out_its_own(
    user: User, tmp_path: Path
) -> None:
    path = user.home / ".claude.json"
    path.write_text('{"projects": {}, "a": [1,2]}')
    second = User(user.home, tmp_path / "second", user.memory)
    second.project.mkdir()
    for one, scope in ((user, "project"), (user, "user"), (second, "project")):
        one.install("claude-code", scope=scope)  # type: ignore[arg-type]
    state = json.loads(path.read_text())
    assert list(state["projects"]) == [str(user.project), str(second.project)]
    assert "localmem" in state["mcpServers"]
    user.uninstall("claude-code")
    state = json.loads(path.read_text())
    assert list(state["projects"]) == [str(user.project), str(second.project)]
    assert "mcpServers" not in state
    user.uninstall("claude-code", scope="project")
    assert list(json.loads(path.read_text())["projects"]) == [str(second.project)]
    second.uninstall("claude-code", scope="project")
    assert path.read_text() == '{"projects": {}, "a": [1,2]}'
    assert not hook_path(user.settings).exists()


def test_a_file_that_only_holds_ours_goes_with_the_last_of_it(user: User) -> None:
    path = user.home / ".claude.json"
    user.install("claude-code")
    user.install("claude-code", scope="project")
    user.uninstall("claude-code")
    assert list(json.loads(path.read_text())) == ["projects"]
    user.uninstall("claude-code", scope="project")
    assert tree(user.home) == {}


def test_rules_that_the_user_rewrote_are_the_users(user: User) -> None:
    user.install("cursor", scope="project")
    rules = user.project / ".cursor/rules/localmem.mdc"
    rules.write_text("mine now")
    outcome = user.install("cursor", scope="project")
    assert any("stays as it is" in change.note for change in outcome.changes)
    user.uninstall("cursor", scope="project")
    assert rules.read_text() == "mine now"


def test_launchers_stay_for_as_long_as_one_editor_needs_them(user: User) -> None:
    user.install()
    user.uninstall("codex", "claude-code")
    assert hook_path(user.settings).exists()
    user.uninstall("cursor")
    assert not hook_path(user.settings).exists()


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        (".claude/settings.json", b'{\n  // mine\n  "a": 1\n}', ":2:3: a comment"),
        (".claude/settings.json", b"[1]", ":1:1: the document is not an object"),
        (".claude/settings.json", b'{"hooks": []}', ":1:11: hooks is not an object"),
        (".claude/settings.json", b'{"hooks": {"Stop": {}}}', ":1:20: hooks.Stop is not a list"),
        (".claude/settings.json", b'{"hooks": null}', ":1:11: hooks is not an object"),
        (".claude.json", b'{"a":\n "\xff"}', ":2:3: not UTF-8"),
        (".claude.json", b'{"mcpServers": {"localmem": {"command": "mine"}}}', ":1:29: an MCP"),
        (".codex/config.toml", b"a = \n", ":1:5: "),
        (
            ".codex/config.toml",
            b"[mcp_servers.localmem]\nurl = 'http://x'\n",
            ":1:1: an MCP server",
        ),
        (".cursor/mcp.json", b'{"mcpServers": 1}', ":1:16: mcpServers is not an object"),
        (".cursor/hooks.json", b'{"version": 1,}', ": a comma with nothing behind it"),
    ],
)
def test_a_file_that_is_not_understood_is_named_and_nothing_at_all_is_written(
    user: User, name: str, content: bytes, where: str
) -> None:
    path = user.home / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    before = tree(user.home)
    with pytest.raises(SettingsRefused) as caught:
        user.install()
    assert f"{path}:" in str(caught.value)
    assert where in str(caught.value)
    assert str(caught.value).endswith("correct it and try again; nothing was changed")
    assert tree(user.home) == before
    assert not user.memory.exists()


def test_a_file_or_folder_made_read_only_stops_all_of_it(user: User) -> None:
    folder = user.home / ".cursor"
    folder.mkdir()
    path = folder / "mcp.json"
    path.write_text("{}")
    before = tree(user.home)
    for one, told in ((path, "mcp.json: is not writable"), (folder, ".cursor is not writable")):
        one.chmod(one.stat().st_mode & ~0o222)
        with pytest.raises(InstallError, match=told):
            user.install()
        one.chmod(one.stat().st_mode | 0o200)
        assert tree(user.home) == before
        assert not user.memory.exists()


@pytest.mark.parametrize("kind", ["folder", "file for a folder", "dangling link", "pipe"])
def test_what_is_no_file_is_refused(user: User, kind: str) -> None:
    path = user.home / ".claude" / "settings.json"
    if kind == "file for a folder":
        path.parent.write_text("")
    else:
        path.parent.mkdir()
    if kind == "folder":
        path.mkdir()
    elif kind == "dangling link":
        path.symlink_to("nowhere")
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(InstallError, match="nothing was changed"):
        user.install()


def test_a_file_that_ours_were_taken_out_of_by_hand_is_forgotten(user: User) -> None:
    user.install("codex")
    for name in ("hooks.json", "config.toml"):
        (user.home / ".codex" / name).write_text("{}" if name == "hooks.json" else "")
    user.uninstall("codex")
    assert not record_path(user.settings).exists()
    assert not hook_path(user.settings).exists()


def test_what_was_removed_with_its_folder_stays_removed(user: User) -> None:
    (user.home / ".codex").mkdir()
    user.install("codex")
    shutil.rmtree(user.home / ".codex")
    user.uninstall("codex")
    assert tree(user.home) == {}
    assert not record_path(user.settings).exists()


@pytest.mark.parametrize("failing", range(1, 9))
def test_a_failure_in_the_middle_undoes_what_came_before(
    user: User, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    path = user.home / ".claude/settings.json"
    path.parent.mkdir()
    path.write_text('{"a": 1}')
    before = tree(user.home)
    write, calls = applying._write, iter(range(1, 100))

    def failing_write(path: Path, data: bytes, mode: int) -> None:
        if next(calls) == failing:
            raise OSError(28, "No space left on device", str(path))
        write(path, data, mode)

    monkeypatch.setattr(applying, "_write", failing_write)
    with pytest.raises(InstallError, match="No space left on device; everything is as it was"):
        user.install()
    assert tree(user.home) == before
    assert not hook_path(user.settings).exists()
    assert not endpoint_path(user.settings).exists()


def test_an_editor_that_writes_at_the_same_moment_loses_nothing(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = user.home / ".claude.json"
    path.write_text("{}")
    check = applying.check

    def check_and_write(changes: Any) -> None:
        check(changes)
        path.write_text('{"new": 1}')

    monkeypatch.setattr(applying, "check", check_and_write)
    with pytest.raises(InstallError, match="was changed meanwhile"):
        user.install()
    assert path.read_text() == '{"new": 1}'
    assert not (user.home / ".claude").exists()


def test_spaces_quotes_and_letters_of_any_language_in_paths_reach_the_shell_whole(
    tmp_path: Path,
) -> None:
    user = User.at(tmp_path / 'it\'s "a" $HOME é 家')
    user.install()
    hook = hook_path(user.settings)
    hook.write_text('#!/bin/sh\nprintf "%s" "$1"\n')
    for name, editor in ((".claude/settings.json", "claude-code"), (".codex/hooks.json", "codex"),
                         (".cursor/hooks.json", "cursor")):  # fmt: skip
        found = [one["command"] for one in commands(user.home / name) if "command" in one]
        assert found
        for command in found:
            done = subprocess.run(["sh", "-c", command], capture_output=True, check=True)
            assert done.stdout.decode() == editor
    config = tomllib.loads((user.home / ".codex/config.toml").read_text())
    assert config["mcp_servers"]["localmem"]["command"] == str(mcp_path(user.settings))
    user.uninstall()
    assert tree(user.home) == {}
