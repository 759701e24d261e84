"""The doctor's checks of editors."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from localmem_node.daemon.endpoint import endpoint_path, read_endpoint
from localmem_node.daemon.state import DaemonState
from localmem_node.doctor.check import Check
from localmem_node.doctor.editors import editor_checks
from localmem_node.errors import InstallError
from localmem_node.hook.compiled import INTERFACE, compiled_text
from localmem_node.hook.launcher import hook_path
from localmem_node.installing.record import record_path
from localmem_node.installing.trust import names
from support.git_repository import Repository
from support.wired import User


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    user = User.at(tmp_path)
    Repository(user.project)
    monkeypatch.chdir(user.project)
    return user


def examine(
    user: User, state: DaemonState | None = None, status: dict[str, Any] | None = None
) -> dict[str, Check]:
    environment = user.environment | {"HOME": str(user.home), "PATH": str(user.home / "bin")}
    checks = list(editor_checks(user.settings, environment, state, status))
    assert all(check.ok or check.advice for check in checks)
    found = {check.name: check for check in checks}
    assert len(found) == len(checks)
    return found


def problems(found: dict[str, Check]) -> list[str]:
    return [name for name, check in found.items() if not check.ok]


def trust_all(user: User) -> None:
    path = user.home / ".codex/hooks.json"
    states = names(path, json.loads(path.read_bytes()))
    config = user.home / ".codex/config.toml"
    lines = [
        f'[hooks.state."{name}"]\ntrusted_hash = "{digest}"\n' for name, digest in states.items()
    ]
    config.write_text(config.read_text() + "\n" + "\n".join(lines))


def rewrite(path: Path, change: Any) -> None:
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


def running(port: int) -> DaemonState:
    return DaemonState(pid=1, port=port, socket="/s", token="t", version="0")


def test_editors_that_are_not_here_or_not_wired_are_no_problem(user: User) -> None:
    (user.home / ".codex").mkdir()
    (user.home / "bin").mkdir()
    (user.home / "bin" / "claude").write_text("#!/bin/sh\n")
    (user.home / "bin" / "claude").chmod(0o700)
    found = examine(user)
    assert list(found) == ["claude-code", "codex", "cursor"]
    assert problems(found) == []
    assert "localmem install claude-code" in found["claude-code"].detail
    assert "localmem install codex" in found["codex"].detail
    assert found["cursor"].detail == "not found on this machine"


def test_after_install_only_the_trust_of_codex_is_missing(user: User) -> None:
    user.install()
    found = examine(user)
    assert problems(found) == ["codex trust"]
    assert "not trusted" in found["codex trust"].detail
    assert "Trust all and continue" in found["codex trust"].advice
    trust_all(user)
    assert problems(examine(user)) == []


def test_which_client_the_editors_run_is_told(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter = user.home / "python"  # a compiled client may be beside the real one
    interpreter.symlink_to(os.path.realpath(sys.executable))
    monkeypatch.setattr(sys, "executable", str(interpreter))
    assert "hook client" not in examine(user)
    user.install("codex")
    path = hook_path(user.settings)
    assert examine(user)["hook client"].detail == f"{path}: the one in Python"
    program = user.home / "bin" / "localmem-hook"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho localmem-hook {INTERFACE}\n")
    program.chmod(0o700)
    found = examine(user)["hook client"]
    assert found.ok
    assert f"{program} is faster" in found.detail
    path.write_bytes(compiled_text(b"\x7fELF", sys.executable, user.memory))
    assert examine(user)["hook client"].detail == f"{path}: the compiled one"
    path.write_bytes(compiled_text(b"\x7fELF", "/gone/python", user.memory))
    assert problems(examine(user)) == ["codex trust", "hook client"]
    path.unlink()
    assert "hook client" not in examine(user)


def test_the_hash_that_codex_trusts_is_computed_as_codex_does() -> None:
    command = "/opt/localmem-hook codex"
    quoted = "'/home/it'\"'\"'s/é/localmem-hook' codex"
    hook = {"type": "command", "command": command}
    hooks = {
        "PreToolUse": [{"matcher": "Bash", "hooks": [hook | {"command": quoted, "timeout": 2}]}],
        "Stop": [
            {
                "hooks": [
                    {"type": "command", "command": "true"},
                    hook | {"timeout": 2, "async": True},
                ]
            },
            {"hooks": [hook]},
        ],
    }
    # What codex 0.169.0 wrote into its config when its user trusted just these.
    assert names(Path("/h.json"), {"hooks": hooks}) == {
        "/h.json:pre_tool_use:0:0": (
            "sha256:c4cfc57802a3f13fee2765e60d3dc53d733c4f0a1ce87c5e7ed97cd91817d79b"
        ),
        "/h.json:stop:0:1": (
            "sha256:1620192898873f621ae94e210d80f7d96cbb2e7eb36585dc13658ba7d0f9b934"
        ),
        "/h.json:stop:1:0": (
            "sha256:c30c39e8ff51a6f185d83f3e7d243bdebe4cecbd50ad5abced43f22cec9afd68"
        ),
    }


def test_hooks_that_changed_since_they_were_trusted_are_told(user: User) -> None:
    user.install("codex")
    trust_all(user)
    path = user.home / ".codex/hooks.json"
    rewrite(path, lambda found: found["hooks"]["Stop"][0]["hooks"][0].update(timeout=9))
    found = examine(user)
    assert problems(found) == ["codex hooks", "codex trust"]
    assert "1 changed, 8 trusted" in found["codex trust"].detail
    assert "of another version, or some were changed" in found["codex hooks"].detail


def test_settings_that_cannot_be_read_are_told_with_their_place(user: User) -> None:
    for name, content in (
        (".claude/settings.json", "{\n // x\n}"),
        (".codex/config.toml", "a =\n"),
    ):
        path = user.home / name
        path.parent.mkdir()
        path.write_text(content)
    found = examine(user)
    assert problems(found) == ["claude-code settings", "codex settings"]
    assert found["claude-code settings"].detail.endswith(
        "settings.json:2:2: a comment, which is no JSON"
    )


def test_settings_that_are_no_file_are_told_and_not_waited_for(user: User) -> None:
    for name in (".claude/settings.json", ".codex/config.toml"):
        (user.home / name).parent.mkdir()
        os.mkfifo(user.home / name)
    found = examine(user)
    assert problems(found) == ["claude-code settings", "codex settings"]
    assert found["codex settings"].detail.endswith("config.toml: is not a file")


def test_a_token_that_others_can_read_is_told(user: User) -> None:
    user.install("claude-code")
    (user.home / ".claude/settings.json").chmod(0o644)
    found = examine(user)
    assert problems(found) == ["claude-code hooks"]
    assert "holds a token, and others can read it" in found["claude-code hooks"].detail
    user.install("claude-code", transport="command")
    (user.home / ".claude/settings.json").chmod(0o644)
    assert problems(examine(user)) == []


def test_hooks_that_ask_another_port_than_ours_are_told(user: User) -> None:
    user.install("claude-code")
    endpoint = read_endpoint(user.settings)
    assert endpoint is not None
    path = user.home / ".claude/settings.json"
    path.write_text(path.read_text().replace(f":{endpoint.port}/", ":1234/"))
    found = examine(user)
    assert problems(found) == ["claude-code hooks"]
    assert "asks port 1234" in found["claude-code hooks"].detail


def test_a_launcher_that_is_gone_is_told_for_hooks_and_server(user: User) -> None:
    user.install("cursor")
    for path in hook_path(user.settings).parent.iterdir():
        path.unlink()
    assert problems(examine(user)) == ["cursor hooks", "cursor mcp"]


def test_a_server_that_is_not_registered_or_turned_off_is_told(user: User) -> None:
    user.install("claude-code", "codex")
    trust_all(user)
    rewrite(user.home / ".claude.json", lambda found: found.clear())
    config = user.home / ".codex/config.toml"
    config.write_text(config.read_text().replace("command", "enabled = false\ncommand", 1))
    assert problems(examine(user)) == ["claude-code mcp", "codex mcp"]


def test_hooks_that_their_editor_was_told_to_skip_are_told(user: User) -> None:
    user.install("claude-code")
    rewrite(user.home / ".claude/settings.json", lambda found: found.update(disableAllHooks=True))
    found = examine(user)
    assert problems(found) == ["claude-code hooks"]
    assert "disableAllHooks" in found["claude-code hooks"].advice


def test_the_same_hooks_in_both_scopes_or_in_a_plugin_as_well_are_told(user: User) -> None:
    user.install("claude-code")
    user.install("claude-code", scope="project")
    assert problems(examine(user)) == ["claude-code twice"]
    user.uninstall("claude-code", scope="project")
    assert problems(examine(user)) == []
    rewrite(
        user.home / ".claude/settings.json",
        lambda found: found.update(enabledPlugins={"localmem@localmem": True}),
    )
    found = examine(user)
    assert problems(found) == ["claude-code twice"]
    assert "localmem@localmem" in found["claude-code twice"].detail


def test_the_same_hook_twice_in_one_file_is_told(user: User) -> None:
    user.install("cursor")

    def double(found: dict[str, Any]) -> None:
        found["hooks"]["sessionStart"] *= 2

    rewrite(user.home / ".cursor/hooks.json", double)
    assert problems(examine(user)) == ["cursor hooks"]


def test_that_cursor_runs_the_hooks_of_claude_code_is_said_and_no_problem(user: User) -> None:
    user.install("claude-code")
    assert "cursor and claude-code" not in examine(user)
    user.install("cursor")
    assert examine(user)["cursor and claude-code"].ok


def test_a_plugin_alone_needs_the_trust_of_codex_as_well(user: User) -> None:
    config = user.home / ".codex/config.toml"
    config.parent.mkdir()
    config.write_text('[plugins."localmem@team"]\nenabled = true\n')
    assert problems(examine(user)) == ["codex plugin trust"]
    key = "localmem@team:hooks/codex.json:stop:0:0"
    config.write_text(f'{config.read_text()}[hooks.state."{key}"]\ntrusted_hash = "sha256:1"\n')
    assert problems(examine(user)) == []


def test_the_last_event_of_each_editor_is_shown(user: User) -> None:
    user.install("codex", "cursor")
    trust_all(user)
    status = {"services": {"hooks": {"last": {"codex": 1_700_000_000_000}}}}
    found = examine(user, None, status)
    assert found["codex last event"].detail.startswith("2023-11-1")
    assert found["cursor last event"].detail == "none since the daemon started"


def test_a_stranger_at_the_port_is_reported_and_sent_nothing(user: User) -> None:
    user.install("claude-code")
    endpoint = read_endpoint(user.settings)
    assert endpoint is not None
    assert examine(user, running(endpoint.port))["hook port"].ok
    assert problems(examine(user, running(endpoint.port + 1))) == ["hook port"]
    with socket.create_server(("127.0.0.1", endpoint.port)) as stranger:
        stranger.setblocking(False)
        for state in (None, running(endpoint.port + 1)):
            found = examine(user, state)
            assert problems(found) == ["hook port"]
            assert "held by another program" in found["hook port"].detail
        with pytest.raises(BlockingIOError):
            stranger.accept()
        user.install("claude-code")
        moved = read_endpoint(user.settings)
        assert moved is not None
        assert moved.port != endpoint.port
        assert problems(examine(user)) == []
        with pytest.raises(BlockingIOError):
            stranger.accept()


def test_a_port_that_was_set_and_is_held_by_a_stranger_is_an_error(user: User) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        user.memory.mkdir()
        (user.memory / "config.toml").write_text(f"[daemon]\nport = {port}\n")
        with pytest.raises(InstallError, match=f"port {port}, which daemon.port names"):
            user.install("claude-code")
        assert not os.listdir(user.home)
        assert not record_path(user.settings).exists()


def test_hooks_of_an_endpoint_that_is_forgotten_are_told(user: User) -> None:
    user.install("claude-code")
    endpoint_path(user.settings).unlink()
    assert problems(examine(user)) == ["claude-code hooks", "hook port"]


def test_a_breaker_that_has_ended_is_a_problem(user: User) -> None:
    user.install("claude-code")
    endpoint = read_endpoint(user.settings)
    assert endpoint is not None
    state = running(endpoint.port)
    well = {"services": {"breaker": {"pid": 4711, "opened": 0}}}
    assert "pid 4711" in examine(user, state, well)["hook port"].detail
    ended = {"services": {"breaker": {"problem": "ended with -9"}}}
    found = examine(user, state, ended)
    assert problems(found) == ["hook port"]
    assert "ended with -9" in found["hook port"].detail
