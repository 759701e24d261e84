"""The hook's command and a real daemon: nothing is lost, nothing twice, whatever happens to it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localmem_node.client import DaemonClient
from localmem_node.config import load_settings
from localmem_node.hook.compiled import compiled_text, program_of
from localmem_node.hook.launcher import hook_path, mcp_path, write_launcher
from support.daemon import daemons_of, environment
from support.hook_command import client as hook_client
from support.hook_command import hook, in_memory, records

pytestmark = pytest.mark.usefixtures("each_client")


@pytest.fixture
def home() -> Iterator[Path]:
    with in_memory() as folder:
        yield folder / "home"
        for pid in daemons_of(folder / "home"):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def client(home: Path) -> Iterator[DaemonClient]:
    with DaemonClient(environment(home)) as client:
        yield client
        client.stop()


def prompt(text: str, **fields: Any) -> bytes:
    told = {"session_id": "s", "cwd": "/tmp", "hook_event_name": "UserPromptSubmit"}
    return json.dumps(told | {"prompt_id": text, "prompt": text} | fields).encode()


def snippets(client: DaemonClient) -> list[str]:
    return sorted(event["snippet"] for event in client.recent(50)["events"])


def launched_by(interpreter: str, text: bytes) -> bytes:
    """The same command for another interpreter."""
    program = program_of(text)
    if program is None:
        return f"#!{interpreter} -IS\n".encode()
    return compiled_text(program, interpreter, None)


def drained(client: DaemonClient, home: Path) -> None:
    """A new daemon, which has read what waited: it ends only when that is done."""
    client.stop()
    client.ensure_running()
    client.stop()
    client.ensure_running()
    assert not list((home / "run").glob("spool*"))


def test_what_is_told_is_recorded_and_what_is_remembered_comes_back(
    home: Path, client: DaemonClient
) -> None:
    client.ensure_running()
    hook(home, prompt("the lighthouse keeper counts ships at dusk"))
    asked = "who counts the ships at dusk"
    said = json.loads(hook(home, prompt(asked, session_id="later")).stdout)
    assert "lighthouse keeper" in said["hookSpecificOutput"]["additionalContext"]
    assert snippets(client) == ["the lighthouse keeper counts ships at dusk", asked]
    assert not (home / "run" / "spool").exists()


def test_what_was_told_without_a_daemon_is_recorded_by_the_next(
    home: Path, client: DaemonClient
) -> None:
    client.stop()
    home.mkdir()
    for text in ("one", "two", "two"):  # the last one is the second's hook again
        hook(home, prompt(text))
    assert len(records(home / "run" / "spool")) == 3
    drained(client, home)
    assert snippets(client) == ["one", "two"]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGCONT])
def test_what_a_daemon_that_hung_did_not_answer_is_recorded_once(
    home: Path, client: DaemonClient, end: signal.Signals
) -> None:
    pid = client.ensure_running().pid
    os.kill(pid, signal.SIGSTOP)
    for text in ("one", "two"):
        hook(home, prompt(text), command=hook_client().command)
    os.kill(pid, end)
    assert len(records(home / "run" / "spool")) == 2
    drained(client, home)
    assert snippets(client) == ["one", "two"]
    assert hook(home, prompt("three")).stdout == b""
    assert snippets(client) == ["one", "three", "two"]  # the mark of the one that hung is past


def test_what_was_sent_to_a_daemon_that_is_killed_then_is_recorded_once(
    home: Path, client: DaemonClient
) -> None:
    pid = client.ensure_running().pid
    hook(home, prompt("one"))
    os.kill(pid, signal.SIGKILL)
    hook(home, prompt("one"))  # sent again by whoever was not answered
    hook(home, prompt("two"))
    drained(client, home)
    assert snippets(client) == ["one", "two"]


def test_a_daemon_that_starts_renews_the_commands(home: Path, client: DaemonClient) -> None:
    settings = load_settings(client.environment)
    path = write_launcher(settings, client.environment, hook_client().find)
    assert path == hook_path(settings)
    text = path.read_bytes()
    path.write_bytes(launched_by("/gone/python", text))
    mcp_path(settings).unlink()
    client.ensure_running()
    client.stop()
    assert path.read_bytes() == text
    assert not mcp_path(settings).exists()
