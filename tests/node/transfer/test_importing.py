"""Importing: events stay what they were, come in once, and only as they may be stored."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Thread
from typing import IO, Any

import msgspec
import pytest

from localmem_node import service
from localmem_node.capture.admission import Admission
from localmem_node.engine import Engine
from localmem_node.errors import WrongPassphrase
from localmem_node.results import event_json
from localmem_node.system import SystemRandom
from localmem_node.transfer import importing
from localmem_node.transfer.importing import Imported, check, open_source, send
from localmem_protocol.errors import EventError
from localmem_protocol.events import Event, with_id
from localmem_protocol.limits import PATH_BYTES_MAX, SNIPPET_BYTES_MAX
from support.events import draft, event
from support.exports import PASSPHRASE, plain, sealed
from support.node import open_node
from support.seeded import SeededRandom

OTHER = "ffeeddccbbaa9988"
SECRET = "glpat-" + "abcDEF123456ghiJKL78"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Engine]:
    engine = open_node(tmp_path / "memory.localmem")
    yield engine
    engine.close()


def everything(engine: Engine) -> list[Event]:
    return engine.page(None, 100_000)[0]


def import_into(engine: Engine, events: Sequence[Event]) -> Imported:
    """As the command does, without the daemon in between."""

    def call(batch: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return service.import_events(engine, msgspec.json.decode(msgspec.json.encode(batch)))

    return send(enumerate(events, 2), call)


def noise(number: int, size: int = 150) -> str:
    """Text that does not get shorter."""
    return SeededRandom(number).token_bytes(size).hex()


def test_events_keep_id_time_device_sequence_and_clock(node: Engine) -> None:
    some = [event(number, OTHER) for number in range(1, 600)]
    report = import_into(node, some)
    assert (report.read, report.new, report.known) == (599, 599, 0)
    assert everything(node) == some


def test_a_second_import_changes_nothing(node: Engine) -> None:
    some = [event(number, OTHER) for number in range(1, 300)]
    import_into(node, some)
    report = import_into(node, [*some, event(300, OTHER)])
    assert (report.read, report.new, report.known, report.evicted) == (300, 1, 299, 0)
    assert len(node) == 300


def test_what_is_imported_is_found_by_words_and_by_meaning(node: Engine) -> None:
    import_into(node, [event(1, OTHER, snippet="retry_limit = 5"), event(2, OTHER)])
    node.drain()
    assert node.query_recent(1, "retry limit")[0].event.snippet == "retry_limit = 5"


def test_a_restored_copy_of_a_store_gets_its_own_later_events_back(tmp_path: Path) -> None:
    path, copy = tmp_path / "memory.localmem", tmp_path / "copy.localmem"
    engine = open_node(path)
    engine.record([draft(snippet=f"early {number}") for number in range(3)])
    engine.close()
    shutil.copy(path, copy)
    engine = open_node(path)
    engine.record([draft(snippet=f"late {number}") for number in range(3)])
    exported = everything(engine)
    engine.close()
    restored = open_node(copy)
    report = import_into(restored, exported)
    assert (report.new, report.known) == (3, 3)
    assert everything(restored) == exported
    following = restored.record([draft(snippet="goes on")])[0]
    assert following.sequence == 7
    assert following.order > exported[-1].order
    restored.close()


def test_own_evicted_events_come_back_without_moving_the_marks(tmp_path: Path) -> None:
    engine = open_node(tmp_path / "memory.localmem")
    own = engine.record([draft(snippet=f"own {number}") for number in range(5)])
    other = open_node(tmp_path / "other.localmem", seed=1)
    assert import_into(other, own).new == 5
    assert other.record([draft(snippet="of the other")])[0].sequence == 1
    assert import_into(engine, everything(other)).new == 1
    assert engine.record([draft(snippet="sixth")])[0].sequence == 6
    engine.close()
    other.close()


def test_secrets_are_redacted_and_the_id_follows_so_that_it_is_known_next_time(
    node: Engine,
) -> None:
    leaky = event(1, OTHER, snippet=f"token = '{SECRET}'", session=f"s {SECRET}")
    assert import_into(node, [leaky]).new == 1
    [kept] = everything(node)
    assert SECRET not in kept.snippet + str(kept.session)
    assert kept.id != leaky.id
    assert kept.id == with_id(kept).id
    assert kept.order[:3] == leaky.order[:3]
    report = import_into(node, [leaky])
    assert (report.new, report.known) == (0, 1)
    report = import_into(node, [kept])
    assert (report.new, report.known) == (0, 1)


def test_what_is_here_as_it_is_stays_known_when_the_rules_of_redaction_change(
    node: Engine,
) -> None:
    kept_before = event(1, OTHER, snippet=f"token = '{SECRET}'")
    node.insert([kept_before])  # as if this form of secret had not been known then
    report = import_into(node, [kept_before])
    assert (report.new, report.known) == (0, 1)
    assert everything(node) == [kept_before]


def test_deny_lists_hold_for_imports_too(tmp_path: Path) -> None:
    admission = Admission(["private/**"], ["git@example.org:secret/plans.git"])
    engine = open_node(tmp_path / "memory.localmem", admission=admission)
    [project] = admission._projects
    some = [
        event(1, OTHER, filePath="app/private/notes.py"),
        event(2, OTHER, project=project),
        event(3, OTHER, filePath=".env"),
        event(4, OTHER),
    ]
    report = import_into(engine, some)
    assert (report.read, report.new, report.refused_count) == (4, 1, 3)
    assert [one["line"] for one in report.refused] == [2, 3, 4]
    assert report.refused[0]["reason"] == "filePath: is on the deny list (private/**)"
    assert everything(engine) == some[3:]
    engine.close()


def test_the_daemon_checks_each_event_again(node: Engine) -> None:
    good = event_json(event(1, OTHER))
    answer = service.import_events(node, [good | {"snippet": "altered"}, 7, good, good | {"x": 1}])
    assert answer == {
        "new": 1,
        "known": 0,
        "too_old": 0,
        "refused": [
            {
                "index": 0,
                "field": "id",
                "message": "does not follow from the other fields; one of them was altered",
            },
            {"index": 1, "field": "", "message": "not a JSON object"},
            {"index": 3, "field": "x", "message": "unknown field"},
        ],
        "evicted": 0,
    }
    bad: list[Any] = [[], [good] * 257, None, {}]
    for events in bad:
        with pytest.raises(EventError) as caught:
            service.import_events(node, events)
        assert caught.value.field == "events"


def test_doubles_in_one_call_are_known(node: Engine) -> None:
    answer = service.import_events(node, [event_json(event(1, OTHER))] * 3)
    assert (answer["new"], answer["known"], len(node)) == (1, 2, 1)


def test_own_events_from_a_future_out_of_bounds_are_refused_with_the_reason(node: Engine) -> None:
    absurd = event(10**9, node.device)
    report = import_into(node, [event(1, OTHER), absurd])
    assert report.new == 1
    assert report.refused == [
        {"line": 3, "reason": "clock: is ahead of this device's own by more than a day"}
    ]


def test_an_event_too_large_for_a_small_ring_is_refused_and_the_others_come_in(
    tmp_path: Path,
) -> None:
    engine = open_node(tmp_path / "small", size=10 * 1024)
    some = [event(1, OTHER), event(2, OTHER, snippet=noise(2, 30_000)), event(3, OTHER)]
    report = import_into(engine, some)
    assert (report.new, report.refused_count) == (2, 1)
    assert report.refused[0]["line"] == 3
    assert "make the store larger" in report.refused[0]["reason"]
    assert everything(engine) == [some[0], some[2]]
    engine.close()


def test_a_file_that_holds_more_than_the_ring_leaves_its_newest_and_says_so(
    tmp_path: Path,
) -> None:
    engine = open_node(tmp_path / "small", size=10 * 1024)
    some = [event(number, OTHER, snippet=noise(number)) for number in range(1, 700)]
    report = import_into(engine, some)
    kept = everything(engine)
    assert 0 < len(kept) < 100
    assert kept == some[-len(kept) :]
    assert report.new == report.evicted + len(kept)
    again = import_into(engine, some)
    assert (again.new, again.evicted) == (0, 0)
    assert (again.known, again.too_old) == (len(kept), 699 - len(kept))
    assert everything(engine) == kept
    engine.close()


def test_an_old_file_does_not_drive_out_what_is_newer(tmp_path: Path) -> None:
    engine = open_node(tmp_path / "small", size=10 * 1024)
    newer = [event(number, OTHER, snippet=noise(number)) for number in range(1001, 1101)]
    engine.insert(newer)
    before = everything(engine)
    assert len(before) < 100
    old = [event(number, OTHER, snippet=noise(number)) for number in range(1, 300)]
    report = import_into(engine, old)
    assert (report.too_old, report.new, report.evicted) == (299, 0, 0)
    assert everything(engine) == before
    pinned = event(5, "ab" * 8, pinned=True)
    assert import_into(engine, [pinned]).new == 1
    assert engine.holds(pinned.id)
    engine.close()


def test_no_call_is_larger_than_a_daemon_takes(node: Engine) -> None:
    from localmem_node.daemon.guard import BODY_BYTES_MAX

    sizes: list[int] = []
    counts: list[int] = []

    def call(batch: Sequence[dict[str, Any]]) -> dict[str, Any]:
        sizes.append(len(msgspec.json.encode({"events": batch})))
        counts.append(len(batch))
        return {"new": len(batch), "known": 0, "too_old": 0, "refused": [], "evicted": 0}

    worst = {"snippet": "\x01" * SNIPPET_BYTES_MAX, "filePath": '"' * PATH_BYTES_MAX}
    events = (event(number, **worst) for number in range(1, 300))
    small = (event(number) for number in range(300, 1000))
    seen: list[int] = []
    report = send(enumerate([*events, *small], 2), call, seen.append)
    assert report.read == report.new == 999
    assert max(sizes) < BODY_BYTES_MAX
    assert max(counts) == service.RECORD_EVENTS_MAX
    assert seen == sorted(seen)
    assert seen[-1] == 999


def test_a_long_list_of_refused_lines_is_cut_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "REFUSED_LISTED_MAX", 3)

    def call(batch: Sequence[dict[str, Any]]) -> dict[str, Any]:
        refused = [{"index": n, "field": "", "message": "no"} for n in range(len(batch))]
        return {"new": 0, "known": 0, "too_old": 0, "refused": refused, "evicted": 0}

    report = send(enumerate([event(number) for number in range(1, 11)], 2), call)
    assert (report.refused_count, [one["line"] for one in report.refused]) == (10, [2, 3, 4])


def through_a_pipe(data: bytes) -> int:
    """The reading end of a pipe that somebody writes to."""
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as file:
            file.write(data)

    Thread(target=write).start()
    return reading


@pytest.mark.parametrize("seal", [False, True])
def test_a_pipe_is_read_twice_from_a_copy_that_shows_nothing(
    seal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = [event(number, snippet=f"plaintext {number} " * 50) for number in range(1, 500)]
    data = sealed(plain(some)) if seal else plain(some)
    copy = tmp_path / "copy"
    opened: list[IO[bytes]] = []

    def temporary() -> IO[bytes]:
        opened.append(copy.open("w+b"))
        return opened[0]

    monkeypatch.setattr("tempfile.TemporaryFile", temporary)
    descriptor = through_a_pipe(data)
    with open_source(descriptor, lambda: PASSPHRASE, SystemRandom()) as source:
        assert check(source) == 499
        assert [one for _, one in source.read()] == some
    os.close(descriptor)
    assert opened[0].closed
    assert copy.stat().st_size > len(data)
    assert b"plaintext" not in copy.read_bytes()
    assert b"localmem-export" not in copy.read_bytes()


def test_a_file_is_read_from_where_it_stands_and_the_passphrase_asked_for_once(
    tmp_path: Path,
) -> None:
    some = [event(number) for number in range(1, 4)]
    path = tmp_path / "file"
    path.write_bytes(b"before" + sealed(plain(some)))
    asked: list[str] = []

    def passphrase() -> str:
        asked.append(PASSPHRASE)
        return PASSPHRASE

    with path.open("rb", buffering=0) as file:
        file.seek(6)
        with open_source(file.fileno(), passphrase, SystemRandom()) as source:
            for _ in range(3):
                assert [one for _, one in source.read()] == some
    assert len(asked) == 1


def test_a_wrong_passphrase_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(sealed(plain([event(1)])))
    with (
        path.open("rb") as file,
        open_source(file.fileno(), lambda: "wrong", SystemRandom()) as source,
        pytest.raises(WrongPassphrase),
    ):
        check(source)
