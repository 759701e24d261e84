"""What is written below ASGI is what WebSockets are, as much as fits and no more."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections import deque
from typing import Any, cast

import pytest
from websockets.frames import Frame, Opcode
from websockets.protocol import CLOSED, OPEN

from localmem_hub import wire
from localmem_hub.wire import (
    EXTENSION,
    WAITING_MESSAGE_BYTES,
    WAITING_MESSAGES_MAX,
    WRITE_BYTES,
    WireProtocol,
    close_reason,
    wire_of,
)


class Transport:
    """One that takes a number of writes, and then says that it is full."""

    def __init__(self, protocol: WireProtocol, writes: int = 1000) -> None:
        self.written: list[bytes] = []
        self.pauses = 0
        self.aborted = asyncio.Event()
        self._protocol = protocol
        self._writes = writes

    def write(self, data: bytes) -> None:
        self.written.append(data)
        if len(self.written) == self._writes:
            self._protocol.pause_writing()

    def pause_reading(self) -> None:
        self.pauses += 1

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        self.aborted.set()


def connected(writes: int = 1000, state: object = OPEN) -> tuple[WireProtocol, Transport]:
    protocol = WireProtocol.__new__(WireProtocol)  # without a server around it
    transport = Transport(protocol, writes)
    made = cast(Any, protocol)
    made.writable = asyncio.Event()
    made.writable.set()
    made.transport = transport
    made.conn = type("Conn", (), {"state": state})()
    made.queue = asyncio.Queue()
    made.read_paused = made.close_sent = False
    made.frames, made.curr_msg_data_type = [], "bytes"
    made.tasks, made.connections = set(), {protocol}
    made.loop, made.disconnected = asyncio.get_running_loop(), False
    made.handshake_complete, made.close_timer = True, None
    made.ping_timer = made.pong_timer = made.pending_ping_payload = None
    made.scope = {"extensions": {EXTENSION: protocol}}
    made.logger = logging.getLogger("uvicorn.error")
    made.logger.setLevel(logging.WARNING)
    return protocol, transport


@pytest.mark.parametrize("sizes", [[0], [125], [126], [65_535], [65_536], [1, 125, 126, 70_000]])
async def test_messages_are_framed_as_by_the_library(sizes: list[int]) -> None:
    protocol, transport = connected()
    messages = [bytes([size % 251]) * size for size in sizes]
    assert protocol.write(deque(messages)) == sum(sizes)
    expected = [Frame(Opcode.BINARY, one).serialize(mask=False) for one in messages]
    assert transport.written == [b"".join(expected)]


async def test_who_takes_no_more_leaves_the_rest_where_it_was() -> None:
    protocol, transport = connected(writes=2)
    messages = deque([bytes(WRITE_BYTES)] * 5)
    assert protocol.write(messages) == 2 * WRITE_BYTES
    assert len(transport.written) == 2
    assert len(messages) == 3
    assert not protocol.ready
    assert protocol.write(messages) == 0
    protocol.resume_writing()
    assert protocol.write(messages) == 3 * WRITE_BYTES
    assert not messages


async def test_a_connection_that_is_over_takes_messages_to_nowhere() -> None:
    protocol, transport = connected(state=CLOSED)
    messages = deque([b"a", b"b"])
    assert protocol.write(messages) == 2
    assert not messages
    assert transport.written == []


async def test_small_messages_wait_up_to_a_number_and_a_large_one_alone() -> None:
    def arrive(protocol: WireProtocol, data: bytes) -> None:
        protocol.frames = [data]
        protocol.send_receive_event_to_app()

    protocol, transport = connected()
    for number in range(WAITING_MESSAGES_MAX):
        assert transport.pauses == 0, number
        arrive(protocol, b"small")
    assert (transport.pauses, protocol.read_paused) == (1, True)
    arrive(protocol, b"was under way")
    assert transport.pauses == 1
    assert protocol.queue.qsize() == WAITING_MESSAGES_MAX + 1

    protocol, transport = connected()
    arrive(protocol, bytes(WAITING_MESSAGE_BYTES + 1))
    assert (transport.pauses, protocol.read_paused) == (1, True)


def test_a_server_without_it_has_no_wire() -> None:
    assert wire_of({"type": "websocket"}) is None
    assert wire_of({"extensions": {"websocket.http.response": {}}}) is None
    here = object()
    assert wire_of({"extensions": {EXTENSION: here}}) is here


async def test_who_pings_and_reads_nothing_is_answered_no_more() -> None:
    protocol, transport = connected(writes=1)
    pings = deque([b"pong"] * 3)
    cast(Any, protocol).conn.data_to_send = lambda: [pings.popleft()]
    for _ in range(3):
        protocol.handle_ping()
    assert transport.written == [b"pong"]
    assert not pings  # what is not sent is not kept, either


@pytest.mark.parametrize("gone", [False, True])
async def test_a_connection_that_is_over_is_let_go_whatever_is_unread(
    gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "END_SECONDS", 0.05)
    protocol, transport = connected()
    task = asyncio.create_task(asyncio.sleep(0))
    await task
    protocol.on_task_complete(task)
    if gone:
        protocol.connection_lost(ConnectionError())
        await asyncio.sleep(0.1)
        assert not transport.aborted.is_set()
    else:
        await asyncio.wait_for(transport.aborted.wait(), 60)


async def test_a_connection_that_is_gone_is_free_at_once() -> None:
    protocol, transport = connected()
    transport._protocol = cast(Any, None)
    gone = weakref.ref(protocol)
    gc.disable()
    try:
        protocol.connection_lost(ConnectionError())
        del protocol
        assert gone() is None
    finally:
        gc.enable()


def test_a_reason_fits_into_a_close_frame() -> None:
    assert close_reason("short") == "short"
    cut = close_reason("ä" * 100)
    assert cut == "ä" * 61
    Frame(Opcode.CLOSE, (4400).to_bytes(2) + cut.encode()).check()
