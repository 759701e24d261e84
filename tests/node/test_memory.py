"""`Memory`: the same answers from a daemon and embedded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localmem_node import Memory
from localmem_node.client import DaemonClient
from localmem_node.errors import ConfigError, QueryError, StoreBusy, WrongKey
from localmem_protocol.errors import EventError
from localmem_protocol.events import Event
from support.daemon import PASSPHRASE, environment
from support.events import draft, fields
from support.git_repository import Repository


@pytest.fixture(scope="module", params=["daemon", "embedded"])
def memory(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Memory]:
    home = tmp_path_factory.mktemp(request.param) / "home"
    variables = environment(home)
    if request.param == "embedded":
        with Memory.embedded(environment=variables) as memory:
            yield memory
        return
    with Memory(environment=variables) as memory:
        yield memory
    with DaemonClient(variables, start=False) as client:
        assert client.stop()


def test_what_is_recorded_is_found_and_of_the_same_type(memory: Memory) -> None:
    event = memory.record_event(fields(snippet="retry_limit = 5", selectionRange=[3, 4]))
    assert isinstance(event, Event)
    assert (event.snippet, event.selection_range) == ("retry_limit = 5", (3, 4))
    found = memory.query_recent(3, "what is the retry limit")
    assert found[0].event == event
    assert 0 < found[0].score <= 1
    assert memory.recent(1)[0].event == event


def test_a_draft_is_recorded_like_a_mapping(memory: Memory) -> None:
    offered = draft(snippet="drafted", project="p", pinned=True, kind="note")
    event = memory.record_event(offered)
    assert (event.snippet, event.project, event.pinned, event.kind) == (
        "drafted",
        "p",
        True,
        "note",
    )
    assert [one.event for one in memory.recent(5, project="p")] == [event]
    assert [one.event for one in memory.query_recent(5, "drafted", project="p")] == [event]


def test_secrets_are_redacted_on_the_way_in(memory: Memory) -> None:
    event = memory.record_event(fields(snippet="password = 'hunter2'"))
    assert event.snippet == "password = '[redacted:password]'"


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"snippet": ""}, "snippet"), ({"filePath": ".env"}, "filePath"), ({"colour": 1}, "colour")],
)
def test_a_wrong_event_is_refused_by_field(
    memory: Memory, changes: dict[str, object], field: str
) -> None:
    with pytest.raises(EventError) as caught:
        memory.record_event(fields(**changes))
    assert caught.value.field == field


def test_a_file_that_git_ignores_is_refused(
    memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Repository(tmp_path).write(".gitignore", "*.log\n")
    monkeypatch.chdir(tmp_path)
    for path in ("x.log", str(tmp_path / "x.log")):
        with pytest.raises(EventError, match="filePath: is ignored by git"):
            memory.record_event(fields(filePath=path))
    assert memory.record_event(fields(filePath="x.py")).file_path == "x.py"


def test_a_program_whose_folder_is_gone_records_all_the_same(
    memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert memory.record_event(fields(filePath="x.py")).file_path == "x.py"


def test_a_wrong_query_is_refused_by_field(memory: Memory) -> None:
    for k, query, field in ((0, "x", "k"), (1, "", "query")):
        with pytest.raises(QueryError) as caught:
            memory.query_recent(k, query)
        assert caught.value.field == field


@pytest.mark.parametrize("event", [None, [], "text", 7])
def test_what_is_no_mapping_is_refused_as_an_event(memory: Memory, event: Any) -> None:
    with pytest.raises(EventError, match="mapping"):
        memory.record_event(event)


def test_an_embedded_memory_keeps_to_the_path_and_key_that_it_is_given(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir(mode=0o755)
    path = folder / "own.localmem"
    variables = environment(tmp_path / "home")
    key = tmp_path / "key"
    with Memory.embedded(path, key_file=key, environment=variables) as memory:
        event = memory.record_event(fields())
        with pytest.raises(StoreBusy):
            Memory.embedded(path, key_file=key, environment=variables)
    assert not (tmp_path / "home").exists()
    assert path.stat().st_mode & 0o777 == key.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o755
    with pytest.raises(WrongKey):
        Memory.embedded(path, passphrase=PASSPHRASE, environment=variables)
    with Memory.embedded(path, key_file=key, environment=variables) as memory:
        assert [one.event for one in memory.recent(5)] == [event]


def test_two_keys_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        Memory.embedded(
            tmp_path / "x",
            passphrase="a",
            key_file=tmp_path / "k",
            environment=environment(tmp_path / "home"),
        )


def test_what_was_exported_can_be_imported_elsewhere(memory: Memory, tmp_path: Path) -> None:
    recorded = [
        memory.record_event(fields(snippet=f"to go {number}", project="q", kind="edit"))
        for number in range(3)
    ]
    exported = list(memory.export_events(project="q"))
    assert exported == recorded
    assert list(memory.export_events(kind="command")) == []
    since = recorded[0].timestamp
    assert set(recorded) <= set(memory.export_events(since=since))
    assert list(memory.export_events(before=since)) == []
    with pytest.raises(QueryError, match="kind"):
        list(memory.export_events(kind="thought"))
    elsewhere = environment(tmp_path / "elsewhere")
    with Memory.embedded(environment=elsewhere) as other:
        for new in (3, 0):
            report = other.import_events(iter(exported))
            assert (report.read, report.new, report.known) == (3, new, 3 - new)
        assert list(other.export_events()) == exported
    assert memory.import_events(exported).known == 3
