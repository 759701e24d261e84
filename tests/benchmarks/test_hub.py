"""The loads of `bench hub`, small, on our own hub; the peers are installed by whoever compares."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench import hub, hub_servers
from bench.hub_clients import DIALECTS, frame, ranges
from bench.hub_load import Client, Guest, Job, Load, Room
from bench.hub_peers import PeerMissingError
from localmem_protocol.updates import NOTHING

SMALL = ["--rounds", "1", "--clients", "4", "--updates", "5", "--rooms", "3", "--readers", "3"]
SMALL += ["--joins", "1", "--document-mb", "0.5", "--idle", "6", "--idle-s", "0.1"]


def figures(capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    hub.main([*SMALL, *more, "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.timeout(300)
def test_every_load_reaches_everybody(capsys: pytest.CaptureFixture[str]) -> None:
    sealed = figures(capsys, "--servers", "localmem", "--only", "burst,join")
    plain = figures(capsys, "--servers", "localmem-plain", "--only", "readers,idle")
    burst, readers = sealed["burst"]["localmem"], plain["readers"]["localmem-plain"]
    assert burst["deliveries"] == 4 * 5 * 3
    assert readers["deliveries"] == 5 * 3
    assert sealed["join"]["localmem"]["bytes"] > 500_000
    assert plain["idle"]["localmem-plain"]["connections"] == 6
    wanted = {"updates_per_s", "p50_ms", "p99_ms", "server_cpu_s", "rss_mb"}
    assert wanted <= set(burst)
    assert wanted <= set(readers)


def test_a_peer_that_cannot_be_had_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(script: str) -> list[str]:
        raise PeerMissingError(f"nothing for {script}")

    monkeypatch.setattr(hub_servers, "node_server", missing)
    found = figures(capsys, "--servers", "hocuspocus", "--only", "burst")
    assert found["missing"] == {"hocuspocus": "nothing for hocuspocus.mjs"}
    assert found["burst"] == {}


class Inbox:
    """What a load reads of a connection."""

    def __init__(self, messages: list[tuple[float, bytes]]) -> None:
        self.inbox = messages


def test_an_update_that_somebody_did_not_get_is_missed() -> None:
    load = Load(Job(dialect="plain", url="", rooms=[]))
    writer, reader = (
        Guest("room", f"{client:016x}", Inbox([]), client, writer=True)  # type: ignore[arg-type]
        for client in (1, 2)
    )
    sent = [writer.update((bytes(100),)) for _ in range(3)]
    writer.sent_s = [1.0, 2.0, 3.0]
    load._guests += [writer, reader]
    for place, update in enumerate((sent[0], sent[0], sent[2])):  # one twice, one never
        message = DIALECTS["plain"].update("room", update)
        reader.socket.inbox.append((10.0 + place, message))
    times, end_s, missing = load._count()
    assert sorted(times) == [9.0, 9.0]
    assert (end_s, missing) == (12.0, 1)


def test_messages_are_read_as_they_were_made() -> None:
    update = Guest("room", "0" * 16, Inbox([]), 7, writer=True).update((b"x", b"y"))  # type: ignore[arg-type]
    assert ranges(update) == [(7, 0, 2)]
    for dialect in DIALECTS.values():
        assert dialect.read("room", dialect.update("room", update)) == (update, False)
        assert dialect.read("room", dialect.ask("room", {7: 2})) is None
    for size, head in ((1, 6), (200, 8), (70_000, 14)):
        assert len(frame(bytes(size))) == head + size
    assert ranges(NOTHING) == []


def test_rooms_have_the_writers_that_were_asked_for() -> None:
    made = hub.room("room", 3, writers=1)
    assert [one.writer for one in made.clients] == [True, False, False]
    assert Room(name="a", clients=[Client(name="b")]).clients[0].writer
