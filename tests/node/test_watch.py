"""Who watches gets each event once, from the last one it saw on, and holds nobody up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message

from localmem_node.arrivals import Arrivals, Passed
from localmem_node.client import DaemonClient
from localmem_node.daemon.watching import WATCHES_MAX, Watches
from localmem_node.engine import Engine
from localmem_node.engine_watching import EngineWatching
from localmem_node.errors import QueryError, TooManyWatches, WatchTooSlow
from localmem_node.memory import Memory
from localmem_node.selection import EVERYTHING, Selection
from localmem_node.watch import TAKEN_MAX, Watch
from support.daemon import environment
from support.events import draft, event, fields
from support.node import open_node


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_node(tmp_path / "store")
    yield engine
    engine.close()


def record(engine: Engine, *snippets: str, **more: Any) -> list[str]:
    return [one.id for one in engine.record([draft(snippet=text, **more) for text in snippets])]


def take_all(watch: Watch) -> list[str]:
    found: list[str] = []
    more = True
    while more:
        events, more = watch.take()
        found += [one.id for one in events]
    return found


def test_arrivals_keep_their_number_and_know_who_is_too_late() -> None:
    arrivals = Arrivals(3)
    assert arrivals.end() == (0, None)
    arrivals.add("abc")
    assert arrivals.since(0, 2) == ["a", "b"]
    arrivals.add("bd")  # what is there already keeps its place
    assert arrivals.end() == (4, "d")
    assert arrivals.since(1, 9) == ["b", "c", "d"]
    assert (arrivals.place_after("a"), arrivals.place_after("b")) == (None, 2)
    with pytest.raises(Passed):
        arrivals.since(0, 9)


def test_arrivals_survive_a_listener_that_fails_and_forget_one_that_left() -> None:
    arrivals, told = Arrivals(), []

    def fail() -> None:
        raise RuntimeError("the loop is closed")

    arrivals.subscribe(fail)
    leave = arrivals.subscribe(lambda: told.append(1))
    arrivals.add("a")
    leave()
    arrivals.add("b")
    assert told == [1]


def test_a_watch_begins_with_what_comes_next(engine: Engine) -> None:
    (before,) = record(engine, "before")
    watch = Watch(engine, EVERYTHING)
    assert (watch.complete, watch.after) == (True, before)
    assert take_all(watch) == []
    later = record(engine, "one", "two")
    assert take_all(watch) == later
    assert take_all(watch) == []


def test_events_of_other_devices_are_told_in_the_order_in_which_they_arrive(engine: Engine) -> None:
    watch = Watch(engine, EVERYTHING)
    late, early = event(2), event(1)
    engine.insert([late])
    engine.insert([late, early])
    assert take_all(watch) == [late.id, early.id]


def test_a_watch_is_narrowed(engine: Engine) -> None:
    watch = Watch(engine, Selection(session="s"))
    record(engine, "another")
    (wanted,) = record(engine, "this", session="s")
    assert take_all(watch) == [wanted]


def test_a_watch_goes_on_behind_an_event_that_it_saw(engine: Engine) -> None:
    ids = record(engine, *(f"number {number}" for number in range(2 * TAKEN_MAX + 3)))
    watch = Watch(engine, EVERYTHING, ids[0])
    assert watch.complete
    assert take_all(watch) == ids[1:]


def test_after_a_restart_it_goes_on_by_the_order_of_events(tmp_path: Path) -> None:
    engine = open_node(tmp_path / "store")
    ids = record(engine, *(f"number {number}" for number in range(TAKEN_MAX + 3)))
    engine.close()
    engine = open_node(tmp_path / "store")
    watch = Watch(engine, EVERYTHING, ids[1])
    meanwhile = record(engine, "meanwhile")
    assert take_all(watch) == [*ids[2:], *meanwhile]
    assert watch.complete  # nobody else has an event here
    engine.insert([event(1)])
    engine.close()
    engine = open_node(tmp_path / "store")
    assert not Watch(engine, EVERYTHING, ids[1]).complete
    engine.close()


def test_behind_an_event_that_is_gone_nothing_is_told_and_that_is_said(engine: Engine) -> None:
    record(engine, "one")
    watch = Watch(engine, EVERYTHING, "a" * 16)
    assert not watch.complete
    assert take_all(watch) == []
    assert take_all(watch) == []
    later = record(engine, "two")
    assert take_all(watch) == later


def test_who_falls_behind_is_told_so_and_comes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localmem_node.engine.Arrivals", partial(Arrivals, 4))
    engine = open_node(tmp_path / "store")
    watch = Watch(engine, EVERYTHING)
    ids = record(engine, *(f"number {number}" for number in range(6)))
    with pytest.raises(WatchTooSlow):
        watch.take()
    again = Watch(engine, EVERYTHING, ids[0])
    assert take_all(again) == ids[1:]
    engine.close()


def test_a_watch_without_a_daemon_waits_in_its_thread_until_it_is_closed(engine: Engine) -> None:
    watching = EngineWatching(engine, {})
    (told,) = record(engine, "one")
    assert next(watching).id == told
    watching.close()
    assert list(watching) == []
    with pytest.raises(QueryError):
        EngineWatching(engine, {"after": "x"})


def asked(**body: Any) -> Request:
    """A request whose caller stays."""
    sent = False

    async def receive() -> Message:
        nonlocal sent
        if sent:
            await asyncio.Event().wait()
        sent = True
        return {"type": "http.request", "body": json.dumps(body).encode()}

    scope = {"type": "http", "method": "POST", "path": "/v1/watch", "headers": []}
    return Request(scope, receive)


async def test_one_who_takes_nothing_is_let_go_and_delays_nobody(engine: Engine) -> None:
    watches = Watches(engine, send_s=0.01)
    await watches.start()
    request = asked()
    response = await watches.watch(request)
    assert watches.status() == {"watching": 1, "let_go": 0}
    record(engine, "while it does not read")

    async def stuck(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    await response(request.scope, request.receive, stuck)
    assert watches.status() == {"watching": 0, "let_go": 1}
    await watches.stop()


async def test_only_so_many_watch_and_the_end_of_the_daemon_is_told(engine: Engine) -> None:
    watches = Watches(engine)
    await watches.start()
    requests = [asked() for _ in range(WATCHES_MAX)]
    responses = [await watches.watch(one) for one in requests]
    with pytest.raises(TooManyWatches):
        await watches.watch(asked())
    lines: list[bytes] = []

    async def send(message: Message) -> None:
        lines.append(message.get("body", b""))

    watches.ending()
    for request, response in zip(requests, responses, strict=True):
        await response(request.scope, request.receive, send)
    said = [json.loads(line) for line in lines if line]
    assert len(said) == 2 * WATCHES_MAX
    assert [line["error"]["code"] for line in said if "error" in line] == ["stopping"] * WATCHES_MAX
    assert watches.status()["watching"] == 0
    await watches.stop()


async def test_quiet_is_filled_with_heartbeats(engine: Engine) -> None:
    watches = Watches(engine)
    await watches.start()
    request = asked(heartbeat_s=1)
    response = await watches.watch(request)
    told: list[Any] = []

    async def send(message: Message) -> None:
        told.extend(json.loads(line) for line in message.get("body", b"").splitlines())
        if len(told) == 3:
            watches.ending()

    await response(request.scope, request.receive, send)
    assert told[1:3] == [{"heartbeat": True}] * 2
    await watches.stop()


def test_what_arrives_by_import_is_told_as_well_and_nobody_who_left_is_counted(
    tmp_path: Path,
) -> None:
    variables = environment(tmp_path / "home")
    arrived = event(3)
    with Memory(environment=variables) as memory, DaemonClient(variables) as client:
        with memory.watch() as watching:
            memory.import_events([arrived])
            assert next(watching).id == arrived.id
            assert client.status()["services"]["watch"]["watching"] == 1
            recorded = client.record([fields(snippet="password = 'hunter2'")])["recorded"][0]
            told = next(watching)
            assert told.id == recorded["id"]
            assert "hunter2" not in told.snippet
        while client.status()["services"]["watch"]["watching"]:
            pass  # it is noticed with the end of the connection, in a moment
        assert client.stop()
