"""Filters, explanations and context blocks, as a user has them: over the command line, HTTP and the
library, with a daemon and without.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localmem_node import Memory
from localmem_node.client import DaemonClient
from localmem_node.context import OPENING
from localmem_node.selection import Selection
from localmem_protocol.events import Event
from support.daemon import answer, daemons_of, environment, localmem
from support.events import DEVICE, MOMENT, event, fields

RECORDED = [
    fields(snippet="retry_limit = 5", filePath="/w/net/retry.py", tool="editor", session="s1"),
    fields(snippet="retry failed", kind="error", tool="shell", session="s1", project="p",
           filePath=None, selectionRange=None, timestamp=MOMENT + 1000),
    fields(snippet="what is the retry limit?", kind="prompt", tool="chat", session="s2",
           filePath=None, selectionRange=None, timestamp=MOMENT + 2000),
    fields(snippet="retry once more", filePath="/w/net/again.py", project="p", tool="editor",
           timestamp=MOMENT + 3000),
]  # fmt: skip

FOREIGN = event(7, snippet="retry elsewhere", filePath="/w/other.py", timestamp=MOMENT + 4000)

CASES: list[tuple[dict[str, Any], list[int]]] = [
    ({"kind": "error"}, [1]),
    ({"kind": ["error", "prompt"]}, [1, 2]),
    ({"tool": "editor"}, [0, 3]),
    ({"tool": ["shell", "chat", "nobody"]}, [1, 2]),
    ({"session": "s1"}, [0, 1]),
    ({"project": "p"}, [1, 3]),
    ({"file": "retry.py"}, [0]),
    ({"file": "/w/net"}, [0, 3]),
    ({"device": DEVICE}, [4]),
    ({"since": MOMENT + 1000, "before": MOMENT + 3000}, [1, 2]),
    ({"tool": "editor", "project": "p", "kind": ["edit", "read"], "file": "w/net/again.py"}, [3]),
    ({"tool": "editor", "kind": "error"}, []),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with a running daemon that has the events."""
    home = tmp_path_factory.mktemp("asking") / "home"
    with Memory(environment=environment(home)) as memory:
        _fill(memory)
    yield home
    with DaemonClient(environment(home), start=False) as client:
        assert client.stop()
    assert daemons_of(home) == []


@pytest.fixture(scope="module", params=["daemon", "embedded"])
def memory(
    request: pytest.FixtureRequest, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Memory]:
    if request.param == "daemon":
        with Memory(environment=environment(home)) as memory:
            yield memory
    else:
        elsewhere = environment(tmp_path_factory.mktemp("embedded") / "home")
        with Memory.embedded(environment=elsewhere) as memory:
            _fill(memory)
            yield memory


def _fill(memory: Memory) -> None:
    for one in RECORDED:
        memory.record_event(one)
    memory.import_events([FOREIGN])


def _numbers(memory: Memory, events: list[Event]) -> set[int]:
    snippets = [one["snippet"] for one in RECORDED] + [FOREIGN.snippet]
    return {snippets.index(one.snippet) for one in events}


@pytest.mark.parametrize(("narrowed", "expected"), CASES)
def test_every_filter_narrows_every_question(
    memory: Memory, narrowed: dict[str, Any], expected: list[int]
) -> None:
    found = [one.event for one in memory.query_recent(100, "retry limit", **narrowed)]
    # A hit may be left out as irrelevant; none is there that the filter does not take.
    assert _numbers(memory, found) <= set(expected)
    assert bool(found) == bool(expected)
    newest = [one.event for one in memory.recent(1000, **narrowed)]
    assert _numbers(memory, newest) == set(expected)
    assert newest == sorted(newest, key=lambda one: one.order, reverse=True)
    assert list(memory.export_events(**narrowed)) == newest[::-1]
    if "session" not in narrowed:
        shown = set(memory.context("retry limit", **narrowed).ids)
        assert shown <= {one.id for one in newest}
        assert bool(shown) == bool(expected)


def test_the_command_line_has_the_same_filters(home: Path) -> None:
    moment = str(MOMENT + 1000)
    for options, expected in (
        (("--kind", "error", "--kind", "prompt"), [1, 2]),
        (("--tool", "editor", "--project", "p"), [3]),
        (("--session", "s1", "--since", moment), [1]),
        (("--device", DEVICE), [4]),
        (("--file", "retry.py", "--before", moment), [0]),
    ):
        shown = answer(localmem(home, "recent", *options, "--json"))["events"]
        snippets = [one["snippet"] for one in RECORDED] + [FOREIGN.snippet]
        assert sorted(snippets.index(one["snippet"]) for one in shown) == expected
        found = answer(localmem(home, "query", "retry limit", *options, "--json"))["events"]
        assert {one["id"] for one in found} <= {one["id"] for one in shown}
        assert found
        if "--session" not in options:
            block = answer(localmem(home, "context", "--query", "retry", *options, "--json"))
            assert set(block["contextIds"]) <= {one["id"] for one in shown}
        would = answer(localmem(home, "forget", *options, "--dry-run", "--json"))["events"]
        assert {one["id"] for one in would} == {one["id"] for one in shown}
        exported = localmem(home, "export", *options).stdout
        assert exported.count(b'"snippet"') == len(shown)


def test_evidence_comes_if_it_is_asked_for(memory: Memory) -> None:
    plain = memory.query_recent(3, "retry limit")
    explained = memory.query_recent(3, "retry limit", explain=True)
    assert [one.event for one in plain] == [one.event for one in explained]
    assert all(one.evidence == () for one in plain)
    assert all(one.evidence and one.duplicates >= 0 for one in explained)
    assert all(isinstance(value, float) for one in explained for _, value in one.evidence)


def test_evidence_is_shown_to_people_in_plain_text(home: Path) -> None:
    shown = localmem(home, "query", "retry limit", "-k", "1", "--explain")
    lines = shown.stdout.decode().splitlines()
    bars = [line for line in lines if line.startswith("   ") and "  ++" in line]
    assert bars
    assert all(line.isascii() for line in bars)
    assert "learned" in shown.stdout.decode()
    asked = answer(localmem(home, "query", "retry limit", "-k", "1", "--explain", "--json"))
    assert asked["events"][0]["evidence"]
    assert "evidence" not in answer(localmem(home, "query", "retry", "--json"))["events"][0]


def test_a_session_is_not_told_twice_until_it_begins_anew(memory: Memory) -> None:
    first = memory.context("retry limit", session="mine", budget_tokens=130)
    assert first.text.startswith(OPENING)
    assert first.ids
    assert first.tokens <= 130
    second = memory.context("retry limit", session="mine")
    assert not set(first.ids) & set(second.ids)
    assert second.ids, "there was more than what fitted"
    assert memory.context("retry limit", session="mine").text == ""
    assert memory.context("retry limit", session="another").ids
    assert memory.context("retry limit").ids
    again = memory.context("retry limit", session="mine", reset=True, budget_tokens=130)
    assert again.text == first.text


def test_a_prompt_with_a_log_pasted_into_it_is_asked_by_its_ends(memory: Memory) -> None:
    log = "nothing to see here\n" * 5000
    for prompt in (f"{log} what is the retry limit?", f"what is the retry limit?\n{log}"):
        assert memory.context(prompt).ids
    asked = memory.record_event(fields(snippet=f"{log[:30_000]} retry limit", kind="prompt"))
    assert asked.id not in memory.context(asked.snippet).ids
    assert asked.id in memory.context(f"{asked.snippet}?").ids
    assert memory.forget([asked.id]) == 1


def test_the_command_line_prints_the_block_and_is_silent_without_one(home: Path) -> None:
    ask = ("context", "--query", "retry limit", "--session", "printed")
    told = answer(localmem(home, *ask, "--json"))
    assert list(told) == ["text", "contextIds", "tokens", "characters", "took_ms"]
    assert told["characters"] == len(told["text"])
    silent = localmem(home, *ask)
    assert (silent.returncode, silent.stdout, silent.stderr) == (0, b"", b"")
    reset = localmem(home, "context", "--reset", "--session", "printed")
    assert (reset.returncode, reset.stdout, reset.stderr) == (0, b"", b"")
    assert localmem(home, *ask).stdout.decode() == told["text"]


def test_what_a_session_was_told_outlives_a_daemon_that_is_killed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    asked = {"query": "retry limit", "session": "s", "budget_tokens": 130}
    try:
        with DaemonClient(environment(home)) as client:
            client.record(RECORDED)
            first = client.context(asked)
            assert first["contextIds"]
        [daemon] = daemons_of(home)
        os.kill(daemon, signal.SIGKILL)
        with DaemonClient(environment(home)) as client:
            second = client.context(asked)
            assert second["contextIds"]
            assert not set(first["contextIds"]) & set(second["contextIds"])
            [file] = (home / "data").glob("*.delivered")
            file.write_bytes(b"damaged")
            assert client.context({"session": "s", "reset": True})["text"] == ""
            assert client.context(asked)["contextIds"] == first["contextIds"]
            assert client.status()["services"]["context"] == {"blocks": 2}
            assert client.stop()
    finally:
        for pid in daemons_of(home):
            os.kill(pid, signal.SIGKILL)


def test_what_is_narrowed_out_is_not_forgotten_by_its_id(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with DaemonClient(environment(home)) as client:
        kept = client.record(RECORDED)["recorded"]
        ids = [one["id"] for one in kept]
        assert client.forget({"ids": ids, "tool": "chat"})["count"] == 1
        assert client.forget({"ids": ids, "query": "retry limit", "kind": "error"})["count"] == 1
        assert {one["id"] for one in client.recent(9)["events"]} == {ids[0], ids[3]}
        assert client.stop()


def test_a_selection_takes_what_its_fields_say() -> None:
    one = event(1, tool="editor", session="s")
    assert Selection().takes(one)
    assert Selection(tool=("shell", "editor"), session="s", device=DEVICE).takes(one)
    for other in (Selection(tool=("shell",)), Selection(session="t"), Selection(device="0" * 16)):
        assert not other.takes(one)
    bare = event(2, kind="note", filePath=None, selectionRange=None)
    for other in (Selection(tool=("editor",)), Selection(session="s"), Selection(file="a")):
        assert not other.takes(bare)
