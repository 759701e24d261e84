"""Claude Code and Codex themselves, with localmem installed, against a scripted model on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.clients import BINARIES, CODEX_CONFIG, Client, Name
from bench.scripted_model import Action, Request, Say, Script, ScriptedModel, Shell, Tool, Write
from localmem_node.client import DaemonClient
from localmem_node.context import OPENING, ORIGIN
from localmem_node.daemon.hooks import TIDY_S
from support.clients import ROOT
from support.clients import clients as clients
from support.daemon import answer, command, environment
from support.hook_command import in_memory

NAMES: Sequence[Name] = tuple(BINARIES)
PLUGIN_TOOL = {
    "claude-code": "mcp__plugin_localmem_localmem__query_recent",
    "codex": "mcp__localmem__query_recent",
}
FACT = "RETRY_LIMIT = 4711"
MODULE = f'"""Payments of the shop."""\n\n{FACT}\n\n\ndef pay(order):\n    return order\n'


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who works in `folder` with a client that has localmem."""

    client: Client
    model: ScriptedModel
    memory: DaemonClient

    def ask(self, prompt: str, *, resume: bool = False) -> list[Request]:
        """What the client sent to the model because of a prompt."""
        before = len(self.model.requests)
        self.client.ask(prompt, resume=resume)
        return [request for request in self.model.requests[before:] if request.tools]

    def events(self) -> list[dict[str, Any]]:
        """What was captured, oldest first."""
        return list(reversed(self.memory.recent(100)["events"]))

    def captured(self, count: int) -> list[dict[str, Any]]:
        """The same once there are so many: a hook that had no time left its event for the daemon to find."""
        until_s = time.monotonic() + 2 * TIDY_S
        while len(found := self.events()) < count and time.monotonic() < until_s:
            time.sleep(0.2)
        return found

    def run(self, *arguments: str) -> dict[str, Any]:
        """A command of localmem as this user; its JSON."""
        done = self.finished(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return answer(done)

    def finished(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """The same, however it ends."""
        return subprocess.run(
            command(*arguments, "--json"),
            cwd=self.client.folder,
            env=self.client.environment,
            capture_output=True,
            timeout=100,
            check=False,
        )


@pytest.fixture
def start(tmp_path: Path, clients: None) -> Iterator[Callable[..., User]]:
    """Makes a user: `start(name, script)`; `also` is a user in whose home and folder this one works."""
    with ExitStack() as stack:
        # In memory, as a user's runtime folder is: a hook leaves no event on a disk for a late daemon.
        memory_home = stack.enter_context(in_memory())

        def make(name: Name, script: Script, also: User | None = None) -> User:
            folder = tmp_path / "home" / "work" / "shop"
            variables = environment(memory_home / "memory")
            if also is None:
                folder.mkdir(parents=True)
                subprocess.run(["git", "init", "-q", str(folder)], check=True)
            model = stack.enter_context(ScriptedModel(script))
            more = {
                key: text
                for key, text in variables.items()
                if key.startswith(("LOCALMEM_", "PYTHONPATH"))
            }
            client = Client(name, tmp_path / "home", folder, model.url, more)
            client.prepare()
            memory = stack.enter_context(DaemonClient(variables))
            user = User(client, model, memory)
            user.run("install", name)
            stack.callback(memory.stop)
            return user

        yield make


def steps(*actions: Action) -> Script:
    """These one after the other, whatever is asked; then the last for ever."""

    def script(request: Request) -> Action:
        return actions[min(len(request.results), len(actions) - 1)]

    return script


def by_prompt(**scripts: Script) -> Script:
    """The script whose name is the first word of the prompt."""

    def script(request: Request) -> Action:
        word = request.prompt.split()[0].strip(".,").lower() if request.prompt.split() else ""
        return scripts[word](request) if word in scripts else Say("Noted.")

    return script


WORK = steps(
    Write("payments.py", MODULE),
    Shell("echo all is well"),
    Shell("ls /no-such-folder"),
    Say("The limit is set."),
)


@pytest.mark.parametrize("name", NAMES)
def test_a_turn_is_captured_once_and_in_order(start: Callable[..., User], name: Name) -> None:
    user = start(name, WORK)
    user.ask("Write the payments module")
    told = [(event["kind"], event["snippet"]) for event in user.captured(5)]
    kinds = [kind for kind, _ in told]
    assert kinds[0] == "prompt"
    assert told[0][1] == "Write the payments module"
    assert kinds.count("edit") == 1
    assert [text for kind, text in told if kind == "edit"] == [MODULE.strip("\n")] or [
        text for kind, text in told if kind == "edit"
    ] == [MODULE]
    assert any(kind == "command" and "all is well" in text for kind, text in told)
    assert any("No such file or directory" in text for _, text in told)
    assert told[-1] == ("answer", "The limit is set.")
    assert len(told) == 5
    assert {event["tool"] for event in user.events()} == {name}
    assert len({event["session"] for event in user.events()}) == 1
    paths = [event["filePath"] for event in user.events() if event["kind"] == "edit"]
    assert paths == ["payments.py"]


@pytest.mark.parametrize("name", NAMES)
def test_what_was_done_reaches_the_next_session(start: Callable[..., User], name: Name) -> None:
    user = start(name, by_prompt(write=WORK))
    user.ask("Write the payments module")
    first = user.ask("Which retry limit do payments have?")[0]
    assert FACT in first.text
    assert OPENING.split("\n")[0] in first.text
    again = user.ask("And which retry limit do payments have, again?", resume=True)[0]
    # The conversation repeats what was injected before; nothing new is.
    assert again.text.count(FACT) == first.text.count(FACT)
    assert not any(OPENING[:60] in event["snippet"] for event in user.events())


@pytest.mark.parametrize("name", NAMES)
def test_a_new_session_begins_with_a_digest(start: Callable[..., User], name: Name) -> None:
    user = start(name, by_prompt(write=WORK))
    user.ask("Write the payments module")
    request = user.ask("Hello there, nice weather")[0]
    assert "payments.py" in request.text
    assert "Write the payments module" in request.text


@pytest.mark.parametrize("name", NAMES)
def test_the_model_can_ask_by_itself(start: Callable[..., User], name: Name) -> None:
    look = steps(
        Tool("mcp__localmem__query_recent", {"query": "retry limit of payments"}), Say("ok")
    )
    user = start(name, by_prompt(write=WORK, look=look))
    user.ask("Write the payments module")
    last = user.ask("Look it up")[-1]
    assert "mcp__localmem__query_recent" in last.tools
    assert len(last.results) == 1
    assert "payments.py" in last.results[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_plugin_alone_does_the_same(start: Callable[..., User], name: Name) -> None:
    look = steps(Tool(PLUGIN_TOOL[name], {"query": "retry limit of payments"}), Say("ok"))
    user = start(name, by_prompt(write=WORK, look=look))
    user.run("uninstall", name)
    user.run("install", "plugin")
    user.client.run(["plugin", "marketplace", "add", str(ROOT / "integrations" / "plugin")])
    add = "install" if name == "claude-code" else "add"
    user.client.run(["plugin", add, "localmem@localmem"])
    user.ask("Write the payments module")
    told = [(event["kind"], event["snippet"]) for event in user.captured(5)]
    assert told[0] == ("prompt", "Write the payments module")
    assert told[-1] == ("answer", "The limit is set.")
    assert [kind for kind, _ in told].count("edit") == 1
    assert len(told) == 5
    last = user.ask("Look it up")[-1]
    assert "Write the payments module" in last.text
    assert "payments.py" in last.results[0]


def test_codex_erases_nothing_without_a_question(start: Callable[..., User]) -> None:
    ids: list[str] = []

    def erase(request: Request) -> Action:
        look = Tool("mcp__localmem__query_recent", {"ids": ids})
        steps = (look, Tool("mcp__localmem__forget", {"ids": ids}), Say("ok"))
        return steps[len(request.results)]

    user = start("codex", by_prompt(write=WORK, erase=erase))
    user.ask("Write the payments module")
    ids += [event["id"] for event in user.events()][:1]
    # In its full access it asks about nothing at all; here there is nobody to ask.
    arguments = ["exec", "--skip-git-repo-check", "--dangerously-bypass-hook-trust", "--json"]
    user.client.run([*arguments, "--sandbox", "workspace-write", "Erase it"])
    looked, erased = user.model.requests[-1].results
    assert "Write the payments module" in looked
    assert "approval" in erased
    assert ids[0] in [event["id"] for event in user.events()]


def test_claude_code_connects_to_the_server(start: Callable[..., User]) -> None:
    user = start("claude-code", WORK)
    listed = user.client.run(["mcp", "list"])
    assert "localmem" in listed
    assert "Connected" in listed


def test_what_a_compaction_took_comes_back(start: Callable[..., User]) -> None:
    user = start("claude-code", by_prompt(write=WORK))
    user.ask("Write the payments module")
    user.client.run(["-p", "--continue", "/compact", "--output-format", "json"])
    request = user.ask("Which retry limit do payments have?", resume=True)[0]
    assert FACT in request.text


def test_what_a_compaction_of_codex_took_comes_back(start: Callable[..., User]) -> None:
    user = start("codex", by_prompt(write=WORK))
    user.ask("Write the payments module")
    before = len(user.model.requests)
    arguments = ["exec", "resume", "--last", "--skip-git-repo-check", "--json"]
    arguments += ["--dangerously-bypass-hook-trust", "-c", "model_auto_compact_token_limit=10"]
    user.client.run([*arguments, "Which retry limit do payments have?"])
    compacting, asked = user.model.requests[before:]
    assert "COMPACTION" in compacting.prompt
    assert asked.text.index(ORIGIN) < asked.text.index(FACT)


@pytest.mark.parametrize("name", NAMES)
def test_an_import_after_the_hooks_adds_nothing(start: Callable[..., User], name: Name) -> None:
    user = start(name, WORK)
    user.ask("Write the payments module")
    before = [event["id"] for event in user.captured(5)]
    imported = user.run("import", name)
    assert imported["recorded"] == 0
    assert imported["known"] >= len(before)
    assert [event["id"] for event in user.events()] == before


@pytest.mark.parametrize("name", NAMES)
def test_an_import_recovers_what_no_hook_told(start: Callable[..., User], name: Name) -> None:
    user = start(name, WORK)
    user.run("uninstall", name)
    user.ask("Write the payments module")
    assert not user.events()
    imported = user.run("import", name)
    texts = [event["snippet"] for event in user.events()]
    assert imported["recorded"] == len(texts)
    assert "Write the payments module" in texts
    assert any(FACT in text for text in texts)
    assert "The limit is set." in texts
    assert user.run("import", name)["recorded"] == 0


def test_two_editors_work_on_one_project(start: Callable[..., User]) -> None:
    both = by_prompt(write=WORK, build=steps(Write("parcels.py", MODULE), Say("Built.")))
    claude = start("claude-code", both)
    codex = start("codex", both, also=claude)
    with ThreadPoolExecutor(2) as pool:
        running = [
            pool.submit(claude.ask, "Write the payments module"),
            pool.submit(codex.ask, "Build the parcels module"),
        ]
        for one in running:
            one.result()
    events = claude.events()
    assert sorted(event["snippet"] for event in events if event["kind"] == "prompt") == [
        "Build the parcels module",
        "Write the payments module",
    ]
    assert {event["tool"] for event in events} == {"claude-code", "codex"}
    assert len({event["project"] for event in events}) == 1
    request = claude.ask("What happened to the parcels module?")[0]
    assert "parcels.py" in request.text


@pytest.mark.parametrize("name", NAMES)
def test_an_editor_works_on_without_the_daemon(start: Callable[..., User], name: Name) -> None:
    user = start(name, WORK)
    user.memory.stop()
    for event in ("stopped", "hung"):
        if event == "hung":
            state = user.memory.ensure_running()
            os.kill(state.pid, signal.SIGSTOP)
        try:
            assert user.ask(f"Write the payments module while it is {event}")
        finally:
            if event == "hung":
                os.kill(state.pid, signal.SIGCONT)
    user.run("import", name)
    prompts = [event["snippet"] for event in user.events() if event["kind"] == "prompt"]
    assert sorted(prompts) == [
        "Write the payments module while it is hung",
        "Write the payments module while it is stopped",
    ]


def test_claude_code_waits_once_for_a_daemon_that_hangs(
    start: Callable[..., User], tmp_path: Path
) -> None:
    user = start("claude-code", WORK)
    pid, log = user.memory.ensure_running().pid, tmp_path / "debug"
    os.kill(pid, signal.SIGSTOP)
    try:
        user.client.run(["-p", "Write the payments module", "--permission-mode",
                         "bypassPermissions", "--debug-file", str(log)])  # fmt: skip
    finally:
        os.kill(pid, signal.SIGCONT)
    ends = [
        "reset" if "HTTP hook error" in line and "ECONNRESET" in line else "waited for"
        for line in log.read_text().splitlines()
        if "HTTP hook error" in line or "HTTP hook response" in line or "Hook cancelled" in line
    ]
    assert len(ends) > 3
    # One is waited for; on a busy machine another may be under way when the breaker opens.
    assert ends.count("waited for") <= 2
    assert ends.count("reset") >= 3
    assert user.memory.status()["services"]["breaker"]["opened"] == 1


@pytest.mark.parametrize("name", NAMES)
def test_uninstalling_leaves_the_files_as_they_were(
    start: Callable[..., User], name: Name, tmp_path: Path
) -> None:
    user = start(name, WORK)
    home = user.client.home
    user.ask("Write the payments module")
    user.run("uninstall", name)
    assert not list(home.rglob("*.localmem-backup"))
    assert not (home / ".claude/settings.json").exists()
    assert not (home / ".codex/hooks.json").exists()
    if name == "codex":
        config = (home / ".codex/config.toml").read_text()
        assert config == CODEX_CONFIG.format(url=user.model.url)
    else:  # which keeps its own state in the file that the server was in
        assert "mcpServers" not in json.loads((home / ".claude.json").read_bytes())
    before = len(user.events())
    request = user.ask("Write the payments module once more")[0]
    assert len(user.events()) == before
    assert "mcp__localmem__query_recent" not in request.tools


def test_pausing_is_heard(start: Callable[..., User]) -> None:
    user = start("claude-code", by_prompt(write=WORK))
    user.ask("Write the payments module")
    before = len(user.events())
    user.run("pause")
    request = user.ask("Which retry limit do payments have?")[0]
    assert FACT not in request.text
    assert len(user.events()) == before
    user.run("resume")
    assert FACT in user.ask("Tell me which retry limit payments have?")[0].text


def test_doctor_tells_untrusted_hooks(start: Callable[..., User]) -> None:
    user = start("codex", WORK)
    checks = answer(user.finished("doctor"))["checks"]
    codex = [one for one in checks if "codex" in one["name"].lower() and not one["ok"]]
    assert any("trust" in one["detail"].lower() + one["advice"].lower() for one in codex)
