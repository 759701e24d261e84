"""A connection below ASGI: what it hears and says, and how it ends, on a transport that does as it is told."""

from __future__ import annotations

import asyncio
import gc
import ssl
import weakref
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import pytest
from websockets.frames import Frame, Opcode

from localmem_hub.connection import (
    DEFECT,
    END_SECONDS,
    LOST,
    PING_SECONDS,
    PONG_SECONDS,
    WRITE_BYTES,
    Connection,
)
from localmem_hub.connections import Connections
from localmem_hub.limits import CLOSE_SECONDS, TURN_MESSAGES_MAX
from localmem_hub.websocket_frames import NO_CODE, PING, PONG, close_frame, head
from localmem_protocol.frames import Close
from localmem_protocol.limits import OUTGOING_BYTES_MAX
from support.certificates import trusting, write_certificate
from support.waiting import until

MOST = 1000


class Transport:
    """One that takes a number of writes, and then says that it is full."""

    def __init__(self, writes: int = 1000) -> None:
        self.written: list[bytes] = []
        self.reading = True
        self.closed = self.aborted = False
        self.left = 0  # bytes that the system did not take yet
        self.connection: Connection | None = None
        self._writes = writes

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written.append(data)
        if len(self.written) == self._writes and self.connection is not None:
            self.connection.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self.left

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        assert not self.closed
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True


class Keeper:
    """What `Connections` is, by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.to_write: list[Connection] = []
        self.lost: list[Connection] = []

    def now_s(self) -> float:
        return self.now

    def framed(self, data: bytes) -> bytes:
        return head(len(data)) + data

    def told(self, connection: Connection) -> None:
        self.to_write.append(connection)

    def gone(self, connection: Connection) -> None:
        self.lost.append(connection)


class Listener:
    """Keeps what it hears. With `first` it has something to do before each time."""

    def __init__(self, first: asyncio.Event | None = None, *, fails: bool = False) -> None:
        self.heard: list[list[bytes]] = []
        self.overs = 0
        self._first = first
        self._fails = fails

    def hear(self, messages: list[bytes]) -> Coroutine[None, None, None] | None:
        if self._fails:
            raise RuntimeError("a defect")
        if self._first is not None:
            return self._later(messages)
        self.heard.append(messages)
        return None

    async def _later(self, messages: list[bytes]) -> None:
        assert self._first is not None
        await self._first.wait()
        if messages == [b"defect"]:
            raise RuntimeError("a defect")
        self.heard.append(messages)

    def over(self) -> None:
        self.overs += 1


class World:
    """A connection, and everything around it."""

    def __init__(self, listener: Listener | None = None, writes: int = 1000) -> None:
        self.keeper, self.transport = Keeper(), Transport(writes)
        self.connection = Connection(7, cast(Any, self.transport), self.keeper, MOST)
        self.transport.connection = self.connection
        self.listener = listener or Listener()

    def listening(self) -> World:
        self.connection.listen(self.listener)
        return self

    def say(self, *frames: Frame) -> None:
        self.connection.data_received(b"".join(frame.serialize(mask=True) for frame in frames))

    def pass_s(self, seconds: float) -> None:
        """So much later its keeper looks."""
        self.keeper.now += seconds
        if self.connection.due_s <= self.keeper.now:
            self.connection.look(self.keeper.now)

    def flush(self) -> bytes:
        """What was written since, after this turn of the loop."""
        self.connection.write_now()
        written, self.transport.written = b"".join(self.transport.written), []
        return written


def binary(*data: bytes) -> list[Frame]:
    return [Frame(Opcode.BINARY, one) for one in data]


def framed(*data: bytes) -> bytes:
    return b"".join(frame.serialize(mask=False) for frame in binary(*data))


def test_nothing_is_read_before_somebody_listens() -> None:
    world = World()
    assert not world.transport.reading
    world.listening()
    assert world.transport.reading
    world.say(*binary(b"one", b"two"))
    assert world.listener.heard == [[b"one", b"two"]]
    assert (world.connection.frames, world.connection.bytes) == (2, 6)


def test_what_is_said_in_one_turn_is_one_write() -> None:
    world = World().listening()
    for data in (b"one", b"", bytes(300)):
        world.connection.send(data)
    assert not world.transport.written
    world.connection.write_now()
    assert world.transport.written == [framed(b"one", b"", bytes(300))]
    assert (world.connection.frames_sent, world.connection.bytes_sent) == (3, 303)


def test_who_takes_no_more_leaves_the_rest_until_it_does() -> None:
    world = World(writes=2).listening()
    for _ in range(5):
        world.connection.send(bytes(WRITE_BYTES))
    world.connection.write_now()
    assert len(world.transport.written) == world.connection.frames_sent == 2
    world.connection.write_now()
    assert len(world.transport.written) == 2
    world.connection.resume_writing()
    assert b"".join(world.transport.written) == framed(*[bytes(WRITE_BYTES)] * 5)


def test_a_slow_reader_is_given_up() -> None:
    world = World(writes=1).listening()
    world.connection.send(b"fills it")
    world.connection.write_now()
    for _ in range(OUTGOING_BYTES_MAX // WRITE_BYTES + 1):
        world.connection.send(bytes(WRITE_BYTES))
    assert world.connection.closing == (Close.SLOW, "reads too slowly; connect again")
    world.pass_s(CLOSE_SECONDS - 0.1)
    assert not world.transport.closed
    world.pass_s(0.2)
    assert world.transport.aborted
    world.connection.connection_lost(None)
    assert (world.listener.overs, world.keeper.lost) == (1, [world.connection])


def test_who_is_dropped_hears_what_was_said_and_why_and_says_goodbye() -> None:
    world = World().listening()
    world.connection.send(b"last words")
    world.connection.drop(4400, "no")
    world.connection.drop(4401, "another reason")
    world.connection.send(b"never said")
    assert world.listener.overs == 0
    assert world.flush() == framed(b"last words") + close_frame(4400, "no")
    assert (world.listener.overs, world.connection.ending) == (1, True)
    world.say(*binary(b"unheard"), Frame(Opcode.CLOSE, b""))
    assert world.transport.closed
    assert not world.transport.aborted
    assert world.listener.heard == []
    world.connection.connection_lost(None)
    assert world.listener.overs == 1
    assert world.connection.code == LOST  # nothing of its own


def test_who_never_says_goodbye_is_let_go() -> None:
    world = World().listening()
    world.connection.drop(4400, "no")
    world.flush()
    world.pass_s(END_SECONDS - 0.1)
    assert not world.transport.closed
    world.pass_s(0.2)
    assert world.transport.aborted


def test_a_goodbye_from_there_is_answered() -> None:
    world = World().listening()
    world.connection.send(b"too late")
    world.say(*binary(b"heard"), Frame(Opcode.CLOSE, (1001).to_bytes(2) + b"bye"))
    assert world.transport.written == [close_frame(1001)]
    assert world.transport.closed
    assert (world.listener.heard, world.listener.overs) == ([[b"heard"]], 1)
    assert (world.connection.code, world.connection.closing) == (1001, None)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (Frame(Opcode.CLOSE, (1005).to_bytes(2)), 1002),
        (Frame(Opcode.CONT, b"of nothing"), 1002),
        (Frame(Opcode.TEXT, b"\xff"), 1007),
    ],
)
def test_who_breaks_the_rules_hears_so_after_what_was_said_before(frame: Frame, code: int) -> None:
    world = World().listening()
    world.say(*binary(b"before"), frame, *binary(b"after"))
    assert world.listener.heard == [[b"before"]]
    assert world.transport.written[0][2:4] == code.to_bytes(2)
    assert (world.transport.closed, world.connection.code) == (True, code)
    world.say(*binary(b"much later"))
    assert world.listener.heard == [[b"before"]]


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (Frame(Opcode.TEXT, b"text"), Close.BAD_FRAME),
        (Frame(Opcode.BINARY, bytes(MOST + 1)), Close.TOO_LARGE),
    ],
)
def test_what_is_no_message_of_ours_ends_it(frame: Frame, code: int) -> None:
    world = World().listening()
    world.say(frame, *binary(b"after"))
    assert world.connection.closing is not None
    assert world.connection.closing[0] == code
    assert world.listener.heard == []


def test_pings_are_answered_the_last_of_several_and_later_for_who_reads_nothing() -> None:
    world = World().listening()
    world.say(*(Frame(Opcode.PING, b"%d" % number) for number in range(3)))
    world.say(Frame(Opcode.PING, b"x"), *binary(b"heard"), Frame(Opcode.PING, b"y"))
    assert b"".join(world.transport.written) == b"".join(
        head(1, PONG) + data for data in (b"2", b"x", b"y")
    )
    world.connection.pause_writing()
    world.transport.written.clear()
    world.say(Frame(Opcode.PING, b"y"), Frame(Opcode.PING, b"z"))
    world.say(Frame(Opcode.PING, b"later"))
    assert world.transport.written == []
    world.connection.resume_writing()
    world.connection.resume_writing()
    assert world.transport.written == [head(5, PONG) + b"later"]


def test_who_is_silent_is_asked_and_let_go_without_an_answer() -> None:
    world = World().listening()
    world.pass_s(PING_SECONDS - 1)
    world.say(*binary(b"a word"))
    world.pass_s(PING_SECONDS - 1)
    assert world.transport.written == []
    world.pass_s(1)
    assert world.transport.written == [head(0, PING)]
    world.say(Frame(Opcode.PONG, b""))
    world.pass_s(PING_SECONDS)
    assert world.transport.written == [head(0, PING)] * 2
    world.pass_s(PONG_SECONDS)
    assert world.transport.aborted
    assert world.transport.written[2][2:4] == DEFECT.to_bytes(2)
    world.connection.connection_lost(None)
    assert (world.listener.overs, world.connection.closing) == (1, None)


def test_who_reads_slowly_is_there_as_long_as_it_reads() -> None:
    """What it is to answer lies behind all that it has to read, and is not even written."""
    world = World(writes=1).listening()
    world.connection.send(bytes(10 * WRITE_BYTES))
    world.connection.write_now()
    for left in range(10, 1, -1):
        world.transport.left = left * WRITE_BYTES
        world.pass_s(PING_SECONDS)
        assert not world.transport.closed
    world.pass_s(PONG_SECONDS)
    assert world.transport.aborted


def test_who_read_all_has_to_answer_then() -> None:
    world = World(writes=1).listening()
    world.connection.send(bytes(WRITE_BYTES))
    world.connection.write_now()
    world.transport.left = WRITE_BYTES
    world.pass_s(PING_SECONDS)
    world.transport.left = 0
    world.connection.resume_writing()
    world.transport.written.clear()
    world.pass_s(PONG_SECONDS)
    assert world.transport.written == [head(0, PING)]
    world.pass_s(PONG_SECONDS)
    assert world.transport.aborted


async def test_who_cannot_be_heard_is_not_asked() -> None:
    first = asyncio.Event()
    world = World(Listener(first))
    for _ in range(3):
        world.pass_s(PING_SECONDS)
    world.listening()
    world.pass_s(PING_SECONDS)
    assert world.transport.written == [head(0, PING)]
    world.say(*binary(b"one"))
    for _ in range(5):
        world.pass_s(PING_SECONDS)
    assert world.transport.written == [head(0, PING)]
    assert not world.transport.closed
    first.set()
    await until(lambda: world.transport.reading)
    world.pass_s(PING_SECONDS)
    world.pass_s(PONG_SECONDS)
    assert world.transport.aborted


async def test_what_was_said_before_a_message_that_is_too_large_is_heard() -> None:
    first = asyncio.Event()
    first.set()
    world = World(Listener(first)).listening()
    world.say(*binary(b"one", b"two", bytes(MOST + 1), b"after"))
    await until(lambda: world.connection.closing is not None)
    assert world.connection.closing == (Close.TOO_LARGE, f"a message of over {MOST} bytes")
    assert world.listener.heard == [[b"one", b"two"]]


async def test_many_messages_are_several_turns_and_nothing_is_read_meanwhile() -> None:
    world = World().listening()
    said = [b"%d" % number for number in range(2 * TURN_MESSAGES_MAX + 1)]
    world.say(*binary(*said), Frame(Opcode.CLOSE, b""))
    assert world.listener.heard == [said[:TURN_MESSAGES_MAX]]
    assert not world.transport.reading
    world.connection.data_received(b"")  # what was on its way
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [one for some in world.listener.heard for one in some] == said
    assert world.transport.closed


async def test_who_has_something_to_do_first_is_waited_for_in_order() -> None:
    first = asyncio.Event()
    world = World(Listener(first)).listening()
    world.say(*binary(b"one"))
    world.say(*binary(b"two"))  # it was on its way
    assert not world.transport.reading
    await asyncio.sleep(0)
    assert world.listener.heard == []
    first.set()
    await until(lambda: len(world.listener.heard) == 2)
    assert world.listener.heard == [[b"one"], [b"two"]]
    await until(lambda: world.transport.reading)


async def test_who_is_sent_away_meanwhile_is_not_heard() -> None:
    first = asyncio.Event()
    world = World(Listener(first)).listening()
    world.say(*binary(b"one"))
    await asyncio.sleep(0)
    world.connection.drop(4400, "no")
    world.flush()
    first.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert (world.listener.heard, world.listener.overs) == ([], 1)
    assert world.transport.reading  # for its goodbye


@pytest.mark.parametrize("later", [False, True])
async def test_a_defect_ends_the_connection_and_is_logged(
    later: bool, caplog: pytest.LogCaptureFixture
) -> None:
    first = asyncio.Event()
    first.set()
    world = World(Listener(first) if later else Listener(fails=True)).listening()
    world.say(*binary(b"defect"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert world.connection.closing == (DEFECT, "the hub failed; try again")
    assert "a defect" in caplog.text


def test_a_server_that_ends_waits_no_longer() -> None:
    world = World().listening()
    world.connection.shutdown()
    assert (world.transport.written, world.transport.closed) == ([close_frame(1012)], True)
    assert world.listener.overs == 1


def test_who_is_lost_before_somebody_listens_is_over_at_once() -> None:
    world = World()
    world.connection.connection_lost(ConnectionResetError())
    world.listening()
    assert world.listener.overs == 1


def test_a_defect_at_the_end_of_one_keeps_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Listener):
        def over(self) -> None:
            raise RuntimeError("a defect")

    world = World(Failing()).listening()
    world.connection.connection_lost(None)
    assert world.keeper.lost == [world.connection]
    assert "a defect" in caplog.text


async def test_of_who_says_goodbye_twice_by_tls_nothing_is_left(tmp_path: Path) -> None:
    """A transport of TLS that is closed twice cannot be used any more."""
    chain, key = write_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    connections, listener, failed = Connections(), Listener(), list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, said: failed.append(said))

    class Entrance(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self._transport = cast(asyncio.Transport, transport)
            connections.accepted(self, MOST).listen(listener)

        def hand_over(self, take: Callable[[asyncio.Transport], Connection]) -> Connection:
            connection = take(self._transport)
            self._transport.set_protocol(connection)
            return connection

    server = await asyncio.get_running_loop().create_server(Entrance, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting(chain))
        writer.write(Frame(Opcode.CLOSE, b"").serialize(mask=True) * 2)
        assert await reader.read() == close_frame(NO_CODE)
        writer.close()
        await until(lambda: not len(connections) or bool(failed))
    assert (failed, len(connections), listener.overs) == ([], 0, 1)


async def test_who_is_gone_when_it_is_taken_over_is_kept_by_nobody() -> None:
    class Gone:
        def hand_over(self, take: Callable[[asyncio.Transport], Connection]) -> Connection:
            connection = take(cast(Any, Transport()))
            connection.connection_lost(None)
            return connection

    connections = Connections()
    connections.accepted(Gone(), MOST)
    assert (len(connections), connections.ending) == (0, False)


def test_a_connection_that_is_gone_is_free_at_once() -> None:
    world = World().listening()
    world.connection.connection_lost(None)
    gone = weakref.ref(world.listener)
    gc.disable()
    try:
        del world
        assert gone() is None
    finally:
        gc.enable()


def test_a_quiet_connection_is_small() -> None:
    """What README and scaling.md say of idle connections rests on it having no dictionary of its own."""
    assert not hasattr(World().connection, "__dict__")
