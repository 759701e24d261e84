"""Secrets planted through every way in are found nowhere: not in a file, not in what is sealed.

Every way plants over a hundred, drawn from a seed of its own, so that what is found tells how it
came in. Looked for are the secrets themselves and what base64, hex, URLs and JSON make of them, in
every byte under the home; then every event of the sealed stores, opened.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import msgspec
import pytest

from bench.planted_secrets import Planted, planted
from localmem_node import Memory
from localmem_node.client import DaemonClient
from localmem_node.config import load_settings
from localmem_node.daemon.state import read_state
from localmem_node.errors import QueryError
from localmem_node.opening import open_engine
from localmem_protocol.errors import EventError
from localmem_protocol.limits import LABEL_BYTES_MAX
from support.daemon import daemons_of, environment, localmem
from support.events import fields
from support.hashing_encoder import HashingEncoder

LABELS = ("filePath", "tool", "session", "project")
PREFIX = 6
"""Bytes of a secret that are looked up first, so that thousands are searched for in one pass."""

CLI_EACH = 12
"""Of so many secrets one goes through flags: each is a process of its own."""


class World:
    """A home, its daemon, and what was planted."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.variables = environment(home, LOCALMEM_SIZE="2 MiB")
        self.planted: list[Planted] = []
        self.recorded = 0

    def plant(self, way: str) -> list[Planted]:
        """Fresh secrets for one way in."""
        fresh = planted(way)
        assert len(fresh) > 100
        self.planted += fresh
        return fresh


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    home = tmp_path / "home"
    yield World(home)
    for pid in daemons_of(home):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.timeout(300)
def test_planted_secrets_are_nowhere_under_the_home(world: World) -> None:
    with DaemonClient(world.variables) as client:
        client.ensure_running()
        for way in (by_socket, by_memory, by_lines, by_escapes, by_loopback, by_flags):
            way(world, client)
        embedded = world.home / "embedded.localmem"
        by_embedding(world, embedded)
        in_queries(world, client)
        in_what_is_wrong(world, client)
        assert client.stop()
    assert (world.home / "state" / "daemon.log").stat().st_size > 0
    assert [str(path) for path, _ in found_under(world.home, world.planted)] == []
    events = [*opened(world, None), *opened(world, embedded)]
    assert len(events) == world.recorded
    text = "\n".join(events)
    assert [one for one in world.planted if any(piece in text for piece in one.pieces)] == []


def by_socket(world: World, client: DaemonClient) -> None:
    for events in batches(world.plant("socket")):
        keep(world, client.record(events), len(events))


def by_memory(world: World, client: DaemonClient) -> None:
    with Memory(environment=world.variables) as memory:
        for one in world.plant("memory"):
            memory.record_event(fields(snippet=one.text))
            world.recorded += 1


def by_embedding(world: World, path: Path) -> None:
    with Memory.embedded(path, environment=world.variables) as memory:
        for events in batches(world.plant("embedded")):
            for event in events:
                memory.record_event(event)
                world.recorded += 1


def by_lines(world: World, client: DaemonClient) -> None:
    for events in batches(world.plant("lines")):
        lines = "\n".join(json.dumps(event, ensure_ascii=False) for event in events)
        done = localmem(world.home, "record", "--json", stdin=lines.encode())
        keep(world, json.loads(done.stdout), len(events))


def by_escapes(world: World, client: DaemonClient) -> None:
    """Every character of every string is written as an escape."""

    def written(value: object) -> str:
        if not isinstance(value, str):
            return json.dumps(value)
        data = value.encode("utf-16-be")
        units = (data[at : at + 2].hex() for at in range(0, len(data), 2))
        return '"' + "".join(f"\\u{unit}" for unit in units) + '"'

    for events in batches(world.plant("escapes")):
        objects = (
            ", ".join(f'"{name}": {written(value)}' for name, value in event.items())
            for event in events
        )
        lines = "\n".join(f"{{{one}}}" for one in objects)
        assert json.loads(lines.split("\n")[0]) == events[0]
        done = localmem(world.home, "record", "--json", stdin=lines.encode())
        keep(world, json.loads(done.stdout), len(events))


def by_loopback(world: World, client: DaemonClient) -> None:
    for events in batches(world.plant("loopback")):
        status, answer = asked(world, "POST", "/v1/record", json.dumps({"events": events}).encode())
        assert status == 200
        keep(world, answer, len(events))


def by_flags(world: World, client: DaemonClient) -> None:
    for one in world.plant("flags")[::CLI_EACH]:
        arguments = ["record", "--json", "--snippet", one.text]
        if fits_a_label(one):
            arguments += ["--file", one.text, "--lines", "1", "--tool", one.text]
            arguments += ["--session", one.text]
        done = localmem(world.home, *arguments)
        keep(world, json.loads(done.stdout), 1)


def in_queries(world: World, client: DaemonClient) -> None:
    """What is asked for is kept nowhere."""
    for number, one in enumerate(world.plant("queries")):
        client.query(one.text, 1)
        with contextlib.suppress(QueryError):  # no project is called so
            client.recent(1, one.text)
        if number % 40 == 0:
            localmem(world.home, "query", one.text, "-k", "1")


def in_what_is_wrong(world: World, client: DaemonClient) -> None:
    """Requests that are refused, with a secret wherever one can stand."""
    for one in world.plant("wrong"):
        text = json.dumps(one.text)
        for body in (
            f'{{"events": [{{"snippet": {text}',
            f'{{"events": [{{{text}: 1}}]}}',
            f'{{"events": [{{"snippet": "x", "timestamp": 1, "kind": {text}}}]}}',
            f'{{"events": [{{"snippet": "x", "timestamp": {text}, "kind": "note"}}]}}',
            f'{{"events": {text}}}',
            f"{{{text}: []}}",
            one.text,
        ):
            asked(world, "POST", "/v1/record", body.encode())
        asked(world, "POST", f"/v1/{quote(one.text, safe='')}", b"{}")
        asked(world, "POST", "/v1/query", b"{}", token=quote(one.secret.split("\n")[0]))
        asked(world, "POST", "/v1/query", b"{}", host=quote(one.secret.split("\n")[0]))
        raw(world, f"{one.text}\r\n\r\n".encode())
        raw(world, f"GET /{one.text} HTTP/1.1\r\nHost: {one.text}\r\n\r\n".encode())
    for one in world.planted[-3:]:
        for arguments in (("--kind", one.text), ("--lines", one.text), ("--hash", one.text)):
            done = localmem(world.home, "record", "--snippet", "x", *arguments)
            assert done.returncode in (1, 2)
    for one in planted("denied"):
        world.planted.append(one)
        with pytest.raises(EventError), Memory(environment=world.variables) as memory:
            memory.record_event(fields(snippet=one.text, filePath=".env"))


def batches(secrets: list[Planted]) -> Iterator[list[dict[str, Any]]]:
    """Events with the secrets in their snippets, then in all of the labels, where they fit."""
    yield [event(snippet=one.text) for one in secrets]
    short = [one for one in secrets if fits_a_label(one)]
    assert len(short) > 60
    yield [event(**dict.fromkeys(LABELS, one.text)) for one in short]


def event(**changes: Any) -> dict[str, Any]:
    plain = {"tool": None, "session": None, "project": None}
    return fields(**(plain | changes))


def fits_a_label(one: Planted) -> bool:
    """Labels hold ids, so that randomness alone says nothing there."""
    return not one.guessed and one.text.isprintable() and len(one.text.encode()) <= LABEL_BYTES_MAX


def keep(world: World, answer: dict[str, Any], count: int) -> None:
    assert answer["failed"] == []
    assert len(answer["recorded"]) == count
    world.recorded += count


def asked(
    world: World,
    method: str,
    path: str,
    body: bytes,
    *,
    token: str | None = None,
    host: str | None = None,
) -> tuple[int, Any]:
    """One request over loopback; whatever comes back."""
    state = read_state(load_settings(world.variables))
    assert state is not None
    connection = http.client.HTTPConnection("127.0.0.1", state.port, timeout=30)
    headers = {"Authorization": f"Bearer {token or state.token}", "Host": host or "localhost"}
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def raw(world: World, data: bytes) -> None:
    """Bytes that are no HTTP, over the Unix socket."""
    state = read_state(load_settings(world.variables))
    assert state is not None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(state.socket)
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


def opened(world: World, path: Path | None) -> list[str]:
    """Every event of a sealed store, all its fields, as text."""
    settings = load_settings(world.variables)
    if path is not None:
        settings = replace(settings, store_path=path)
    engine = open_engine(settings, encoder=HashingEncoder())
    try:
        events = engine.own_events(0, 1_000_000)
        return [json.dumps(msgspec.to_builtins(one), ensure_ascii=False) for one in events]
    finally:
        engine.close()


ENCODINGS: dict[str, Callable[[bytes], list[bytes]]] = {
    "as it is": lambda data: [data],
    "hex": lambda data: [data.hex().encode(), data.hex().upper().encode()],
    # Where in a longer text it begins decides between three forms; their outer characters vary.
    "base64": lambda data: [
        base64.b64encode(b"\0" * shift + data)[4 if shift else 0 : -4] for shift in range(3)
    ],
    "URL": lambda data: [quote(data, safe="").encode(), quote_plus(data).encode()],
    "JSON": lambda data: [
        json.dumps(data.decode()).encode()[1:-1],
        msgspec.json.encode(data.decode())[1:-1],
    ],
    "UTF-16": lambda data: [data.decode().encode("utf-16-le")],
}


def found_under(home: Path, secrets: list[Planted]) -> list[tuple[Path, str]]:
    """Files under a folder that hold a secret, in whatever form, and its name."""
    forms: dict[bytes, list[tuple[bytes, str]]] = {}
    for one in secrets:
        for piece in one.pieces:
            for encode in ENCODINGS.values():
                for form in encode(piece.encode()):
                    forms.setdefault(form[:PREFIX], []).append((form, one.name))
    found: list[tuple[Path, str]] = []
    for path in sorted(home.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            for at in range(len(data)):
                for form, name in forms.get(data[at : at + PREFIX], ()):
                    if data.startswith(form, at):
                        found.append((path, name))
    return found


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_search_would_find_each_of_them(tmp_path: Path, encoding: str) -> None:
    """The test above means something."""
    for number, one in enumerate(planted("control")):
        piece = one.pieces[0].encode()
        if encoding == "base64":
            form = base64.b64encode(b"x" * (number % 7) + piece + b"y" * 9)
        else:
            form = ENCODINGS[encoding](piece)[0]
        path = tmp_path / str(number) / "deep" / "file"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"before " + form + b" after")
        assert (path, one.name) in found_under(tmp_path / str(number), [one])


def test_an_unredacted_event_would_be_found_in_the_sealed_store(world: World) -> None:
    """So does the search of the stores."""
    secret = "nobody would call this a secret"
    with Memory.embedded(environment=world.variables) as memory:
        memory.record_event(fields(snippet=secret))
    assert secret in "".join(opened(world, None))
