"""Exporting: everything that was there when it began, in order; a file that is whole or not there."""

from __future__ import annotations

import errno
import io
import os
import stat
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pytest

from localmem_node import service
from localmem_node.engine import Engine
from localmem_node.errors import QueryError, TransferError
from localmem_node.results import event_json
from localmem_node.selection import Selection
from localmem_node.system import SystemRandom
from localmem_node.transfer.exporting import FetchPage, new_file, write_export
from localmem_node.transfer.lines import read_export
from localmem_protocol.events import Event
from support.events import MOMENT, draft, event
from support.node import MIB, open_node
from support.seeded import SeededRandom

OTHER = "ffeeddccbbaa9988"
RANDOM = SystemRandom()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Engine]:
    engine = open_node(tmp_path / "memory.localmem", size=4 * MIB)
    yield engine
    engine.close()


def pages_of(engine: Engine) -> FetchPage:
    """What a daemon answers, as a client sees it."""

    def fetch(fields: Mapping[str, Any]) -> dict[str, Any]:
        asked = msgspec.json.decode(msgspec.json.encode(fields))
        answer = msgspec.json.encode(service.export_page(engine, asked))
        return msgspec.json.decode(answer, type=dict[str, Any])

    return fetch


def exported(fetch: FetchPage, **narrowed: Any) -> list[Event]:
    stream = io.BytesIO()
    result = write_export(stream.write, fetch, Selection(**narrowed), MOMENT)
    stream.seek(0)
    found = [one for _, one in read_export(stream)]
    assert result.events == len(found)
    assert result.sha256.encode() in stream.getvalue().splitlines()[-1]
    return found


def test_everything_is_exported_in_the_order_of_events_over_any_number_of_pages(
    node: Engine,
) -> None:
    own = node.record([draft(snippet=f"own {number}") for number in range(300)])
    others = [event(number, OTHER) for number in range(1, 301)]
    node.insert(others[::-1])
    assert exported(pages_of(node)) == sorted([*own, *others], key=lambda one: one.order)


def test_an_empty_memory_gives_a_whole_file_without_events(node: Engine) -> None:
    assert exported(pages_of(node)) == []


def test_a_selection_narrows_by_project_kind_and_time(node: Engine) -> None:
    some = [
        event(number, OTHER, project="ab"[number % 2], kind=("edit", "read")[number // 3 % 2])
        for number in range(1, 300)
    ]
    node.insert(some)
    fetch = pages_of(node)
    assert exported(fetch, project="a") == [one for one in some if one.project == "a"]
    assert exported(fetch, kind="read") == [one for one in some if one.kind == "read"]
    since, before = MOMENT + 100_000, MOMENT + 250_000
    assert exported(fetch, since=since, before=before) == some[99:249]
    assert exported(fetch, project="a", kind="read", since=since) == [
        one for one in some[99:] if (one.project, one.kind) == ("a", "read")
    ]
    assert exported(fetch, project="none") == []


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"kind": "thought"}, "kind"),
        ({"project": ""}, "project"),
        ({"since": "now"}, "since"),
        ({"since": True}, "since"),
        ({"before": -1}, "before"),
        ({"cursor": 7}, "cursor"),
        ({"cursor": {"after": [1, "a", 2], "until": [1, "a", 2, "b"]}}, "cursor"),
        ({"cursor": {"after": [1, "a", 2, "b"]}}, "cursor"),
    ],
)
def test_a_wrong_selection_or_cursor_is_refused_by_name(
    node: Engine, fields: dict[str, Any], named: str
) -> None:
    with pytest.raises(QueryError) as caught:
        service.export_page(node, fields)
    assert caught.value.field == named


def test_what_is_recorded_while_it_runs_is_left_out(node: Engine) -> None:
    before = node.record([draft(snippet=f"before {number}") for number in range(300)])
    fetch = pages_of(node)

    def busy(fields: Mapping[str, Any]) -> dict[str, Any]:
        page = fetch(fields)
        node.record([draft(snippet="meanwhile")] * 200)
        return page

    assert exported(busy) == before


def test_what_leaves_the_ring_while_it_runs_is_left_out_and_the_rest_is_there(
    tmp_path: Path,
) -> None:
    engine = open_node(tmp_path / "small", size=64 * 1024)
    random = SeededRandom(1)
    engine.record([draft(snippet=random.token_bytes(30).hex()) for _ in range(400)])
    fetch = pages_of(engine)
    evicted: list[int] = []

    def busy(fields: Mapping[str, Any]) -> dict[str, Any]:
        page = fetch(fields)
        if not evicted:
            engine.record([draft(snippet=random.token_bytes(2000).hex()) for _ in range(6)])
            evicted.append(engine.evicted)
        return page

    there = [found.event for found in engine.recent(1000)][::-1]
    found = exported(busy)
    assert evicted[0] > 0
    assert set(there[-50:]) <= set(found) <= set(there)
    engine.close()


def test_memory_does_not_grow_with_what_is_exported() -> None:
    text = "x" * 60_000

    def fetch(fields: Mapping[str, Any]) -> dict[str, Any]:
        number = fields.get("cursor", 0)
        page = [event_json(event(number * 10 + one, snippet=f"{one} {text}")) for one in range(10)]
        return {"device": OTHER, "events": page, "cursor": number + 1 if number < 40 else None}

    tracemalloc.start()
    try:
        result = write_export(lambda data: None, fetch, Selection(), MOMENT)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert result.events == 410
    assert peak < 8_000_000


def test_a_file_is_there_when_it_is_whole_and_for_its_owner_only(tmp_path: Path) -> None:
    target = tmp_path / "export.jsonl"
    with new_file(target, RANDOM) as stream:
        stream.write(b"content")
        stream.flush()
        assert not target.exists()
        [part] = tmp_path.iterdir()
        assert stat.S_IMODE(part.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [target]
    assert target.read_bytes() == b"content"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert target.stat().st_nlink == 1


def write(
    target: Path, content: bytes, then: Callable[[BinaryIO], object], *, force: bool = False
) -> None:
    """Write a file, and do something before it is whole."""
    with new_file(target, RANDOM, force=force) as stream:
        stream.write(content)
        then(stream)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
@pytest.mark.parametrize("force", [False, True])
def test_an_interruption_leaves_nothing_or_what_was_there(
    tmp_path: Path, error: type[BaseException], force: bool
) -> None:
    def interrupt(stream: BinaryIO) -> None:
        raise error

    target = tmp_path / "export.jsonl"
    if force:
        target.write_bytes(b"earlier")
    with pytest.raises(error):
        write(target, b"half", interrupt, force=force)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"earlier"] * force


def test_what_exists_is_kept_unless_it_is_to_be_replaced(tmp_path: Path) -> None:
    target = tmp_path / "export.jsonl"
    target.write_bytes(b"earlier")
    with pytest.raises(TransferError, match="--force"), new_file(target, RANDOM):
        raise AssertionError("nothing is written")
    assert target.read_bytes() == b"earlier"
    with new_file(target, RANDOM, force=True) as stream:
        stream.write(b"later")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"later"]


@pytest.mark.parametrize("links", [True, False])
def test_what_comes_to_exist_meanwhile_is_kept_too(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", _no_links)
    target = tmp_path / "export.jsonl"
    with pytest.raises(TransferError, match="exists"):
        write(target, b"ours", lambda stream: target.write_bytes(b"theirs"))
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"theirs"]


def test_a_file_system_without_links_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", _no_links)
    with new_file(tmp_path / "export.jsonl", RANDOM) as stream:
        stream.write(b"ours")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"ours"]


def _no_links(source: Path, target: Path) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_a_symbolic_link_is_no_way_around(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"earlier")
    link = tmp_path / "link"
    link.symlink_to(precious)
    with pytest.raises(TransferError, match="exists"), new_file(link, RANDOM):
        raise AssertionError("nothing is written")
    with new_file(link, RANDOM, force=True) as stream:
        stream.write(b"later")
    assert link.is_symlink()
    assert precious.read_bytes() == b"later"
    link.unlink()
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(TransferError, match="exists"), new_file(link, RANDOM):
        raise AssertionError("nothing is written")


def test_only_files_are_replaced_and_errors_name_the_path(tmp_path: Path) -> None:
    for target, force, message in (
        (tmp_path, True, "is not a file"),
        (Path("/dev/null"), True, "is not a file"),
        (tmp_path / "missing" / "x", False, "missing/x: No such file"),
    ):
        with pytest.raises(TransferError, match=message), new_file(target, RANDOM, force=force):
            raise AssertionError("nothing is written")


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "export.jsonl"
    with (
        open("/dev/full", "wb") as full,
        pytest.raises(TransferError, match="jsonl: No space left"),
    ):
        write(target, b"x" * 100, lambda stream: os.dup2(full.fileno(), stream.fileno()))
    assert list(tmp_path.iterdir()) == []
