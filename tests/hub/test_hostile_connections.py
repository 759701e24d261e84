"""What strangers do at the door: slow, half-open and oversized connections, tricks with addresses.

The process and everybody else go on; each offender gets the status or code that fits.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import pytest

from localmem_hub.limits import SESSION_MS, WEBSOCKET_BYTES_MAX
from localmem_hub.session_tokens import Mint
from localmem_hub.system import SystemRandom
from localmem_protocol.frames import PROTOCOL, Close
from support.hub_process import HubProcess, running_hub
from support.plain_client import PlainClient
from support.sync_client import RawClient, close_code, dial

ONE, TWO = (f"{number:016x}" for number in (1, 2))
POOL_ID = "ab" * 16


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with running_hub(tmp_path_factory.mktemp("hub"), "--plain") as running:
        yield running


@pytest.fixture(autouse=True)
async def others(hub: HubProcess) -> AsyncIterator[None]:
    """Somebody in a sealed room and somebody in a plain one, whom nothing here disturbs."""
    sealed = await RawClient.join(hub.url, "others", ONE, hub.token("others", ONE))
    token = hub.token("plain-others", kind="plain")
    fresh = int.from_bytes(os.urandom(4), "big")
    one = await PlainClient.join(hub.url, "plain-others", token, client=fresh)
    two = await PlainClient.join(hub.url, "plain-others", token)
    yield
    async with asyncio.timeout(60):
        await sealed.write(b"still here")
        await sealed.acknowledged(sealed.clock)
        await one.write(os.urandom(4).hex())
        await two.update()
    assert hub.running
    await sealed.socket.close()
    for client in (one, two):
        await client.leave()


@asynccontextmanager
async def raw(hub: HubProcess) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A TCP connection."""
    host, _, port = hub.url.removeprefix("ws://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def status(hub: HubProcess, request: bytes) -> int:
    """What a request is answered with; 0 for a connection that is just closed."""
    async with asyncio.timeout(60), raw(hub) as (reader, writer):
        writer.write(request)
        with suppress(ConnectionError):
            await writer.drain()
        try:
            line = await reader.readline()
        except ConnectionError:
            return 0
        return int(line.split()[1]) if line else 0


def upgrade(path: bytes, *headers: bytes) -> bytes:
    """The handshake of a WebSocket."""
    key = base64.b64encode(os.urandom(16))
    lines = [
        b"GET " + path + b" HTTP/1.1",
        b"Host: 127.0.0.1",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: " + key,
        *headers,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def frame(opcode: int, data: bytes, *, bits: int = 0x80) -> bytes:
    """A masked WebSocket frame; the mask is zero."""
    size = len(data)
    length = (
        bytes((0x80 | size,))
        if size < 126
        else b"\xfe" + size.to_bytes(2, "big")
        if size < 65536
        else b"\xff" + size.to_bytes(8, "big")
    )
    return bytes((bits | opcode,)) + length + bytes(4) + data


async def closing_code(reader: asyncio.StreamReader) -> int:
    """Read a server's frames until it closes; the code, 0 for none."""
    while True:
        try:
            first, second = await reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                size = int.from_bytes(await reader.readexactly(2), "big")
            elif size == 127:
                size = int.from_bytes(await reader.readexactly(8), "big")
            data = await reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0
        if first & 0x0F == 8:
            return int.from_bytes(data[:2], "big")


@asynccontextmanager
async def plain_socket(
    hub: HubProcess, *headers: bytes
) -> AsyncIterator[tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A WebSocket in a plain room by hand: the head of the answer, and what comes after."""
    token = hub.token("by-hand", kind="plain")
    async with asyncio.timeout(60), raw(hub) as (reader, writer):
        writer.write(upgrade(b"/v1/yjs/by-hand?token=" + token.encode(), *headers))
        yield await reader.readuntil(b"\r\n\r\n"), reader, writer


async def answer_to_a_part(hub: HubProcess, part: bytes) -> bytes:
    """What somebody is told who sends this, then a byte now and then, and never ends."""
    async with asyncio.timeout(60), raw(hub) as (reader, writer):
        writer.write(part)
        answering = asyncio.create_task(reader.readuntil(b" 408 "))
        while not answering.done():
            await asyncio.wait({answering}, timeout=0.5)
            with suppress(ConnectionError):
                writer.write(b"a")
                await writer.drain()
        return await answering


async def test_whoever_never_ends_a_request_is_sent_away_and_holds_nobody_up(
    hub: HubProcess,
) -> None:
    parts = [
        b"GET /",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ",
        upgrade(b"/v1/sync/others")[:-2] + b"X-A: ",
        upgrade(b"/v1/yjs/others")[:-2] + b"X-A: ",
        # A second request on a connection whose first was answered.
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nX-A: ",
        b"POST /v1/auth HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
    ]
    slow = asyncio.gather(*(answer_to_a_part(hub, part) for part in parts * 20))
    assert await status(hub, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") == 200
    assert not slow.done()
    for answer in await slow:
        assert answer.endswith(b"HTTP/1.1 408 ")


async def test_a_head_without_end_is_refused(hub: HubProcess) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 20_000
    assert await status(hub, head) in (0, 400, 431)  # 0: it was reset while it wrote on


async def test_a_socket_that_is_there_and_says_nothing_costs_nobody_anything(
    hub: HubProcess,
) -> None:
    async with plain_socket(hub) as (head, _, writer):
        assert head.startswith(b"HTTP/1.1 101")
        writer.write(frame(2, bytes(1000))[:100])  # half a frame, then silence
        await writer.drain()
        assert await status(hub, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") == 200


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (bytes((0x82, 0xFF)) + (2**62).to_bytes(8, "big") + bytes(4), 1009),
        (bytes((0x82, 0xFF)) + (WEBSOCKET_BYTES_MAX + 1).to_bytes(8, "big") + bytes(4), 1009),
        (frame(2, b"\x03")[:1] + b"\x01\x03", 1002),  # not masked
        (frame(3, b"?"), 1002),  # no such kind of frame
        (frame(2, b"\x03", bits=0xC0), 1002),  # compressed, which was not agreed to
        (frame(0, b"\x03"), 1002),  # goes on with nothing
        (frame(9, bytes(126)), 1002),  # a ping that is too large
        (frame(1, b"\xff\xfe"), 1007),  # text that is none
        (frame(2, b"\x07"), Close.BAD_FRAME),
    ],
)
async def test_frames_that_are_none_are_told_so(hub: HubProcess, sent: bytes, code: int) -> None:
    async with plain_socket(hub) as (_, reader, writer):
        writer.write(sent)
        assert await closing_code(reader) == code


async def test_compression_is_not_agreed_to_and_a_bomb_is_refused(hub: HubProcess) -> None:
    offer = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
    async with plain_socket(hub, offer) as (head, reader, writer):
        assert b"permessage-deflate" not in head.lower()
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        bomb = packer.compress(bytes(200 * 1024 * 1024)) + packer.flush(zlib.Z_SYNC_FLUSH)
        assert len(bomb) < 1024 * 1024
        writer.write(frame(2, bomb, bits=0xC0))
        assert await closing_code(reader) == 1002


@pytest.mark.parametrize("subprotocol", ["nonsense", "localmem.sync.v0", PROTOCOL + "x"])
async def test_a_wrong_subprotocol_is_not_agreed_to(hub: HubProcess, subprotocol: str) -> None:
    token = hub.token("subprotocols", TWO)
    socket = await dial_as(hub, token, subprotocol)
    assert socket == Close.BAD_FRAME
    offer = f"Sec-WebSocket-Protocol: {subprotocol}".encode()
    async with plain_socket(hub, offer) as (head, _, _):  # whose clients need none
        assert head.startswith(b"HTTP/1.1 101")
        assert b"sec-websocket-protocol" not in head.lower()


async def dial_as(hub: HubProcess, token: str, subprotocol: str) -> int:
    head = upgrade(
        b"/v1/sync/subprotocols",
        f"Sec-WebSocket-Protocol: {subprotocol}".encode(),
        f"Authorization: Bearer {token}".encode(),
        f"X-Localmem-Device: {TWO}".encode(),
    )
    async with asyncio.timeout(60), raw(hub) as (reader, writer):
        writer.write(head)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        return await closing_code(reader)


@pytest.mark.parametrize(
    "path",
    [
        b"/v1/sync/..",
        b"/v1/sync/../../etc/passwd",
        b"/v1/sync/%2e%2e%2fhealthz",
        b"/v1/sync/a%00b",
        b"/v1/sync/" + b"a" * 4000,
        b"/v1/sync/a%2Fb",
        b"/v1/sync/'%20OR%20'1'='1",
        b"/v1/sync/x');DROP%20TABLE%20pools;--",
        b"/v1/sync/%ff%fe",
        b"/v1/yjs/..",
        b"/v1/yjs/%2e%2e/%2e%2e/healthz",
        b"/v1/yjs/a%00b",
        b"/v1/yjs/" + b"a" * 4000,
        b"/v1/yjs/'%20OR%20'1'='1",
        b"/v1/yjs/x');DROP%20TABLE%20pools;--",
        b"/v1/yjs/%ff%fe",
        b"/v1/yjs/",
    ],
)
async def test_no_name_leads_anywhere(hub: HubProcess, path: bytes) -> None:
    token = hub.token("plain-others", kind="plain")
    header = f"Authorization: Bearer {token}".encode()
    async with asyncio.timeout(60), raw(hub) as (reader, writer):
        writer.write(upgrade(path, header, b"Sec-WebSocket-Protocol: " + PROTOCOL.encode()))
        answer = await reader.readuntil(b"\r\n\r\n")
        if answer.startswith(b"HTTP/1.1 101"):
            assert await closing_code(reader) == Close.BAD_TOKEN
        else:
            assert answer.split()[1] in (b"403", b"404")
    assert hub.query("SELECT COUNT(*) FROM pools")[0][0] > 0


async def test_an_address_without_end_is_refused(hub: HubProcess) -> None:
    long = b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    assert await status(hub, long) in (0, 400, 414, 431)


@pytest.mark.parametrize("host", [b"", b"evil.example", b"127.0.0.1:1", b"a b", b"x" * 5000])
async def test_a_wrong_host_opens_nothing_and_breaks_nothing(hub: HubProcess, host: bytes) -> None:
    request = b"GET /v1/sync/others HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
    assert await status(hub, request) in (400, 401, 421)


async def test_tokens_of_another_time_open_nothing(hub: HubProcess) -> None:
    """Of the past: expired. Of the future: a roster that it knows is longer than the hub's, or none."""
    with hub.store() as store:
        mint = Mint(store.access.secret("session", SystemRandom()))
    now_ms = time.time_ns() // 1_000_000
    for made_ms in (now_ms - SESSION_MS - 1, now_ms + 10 * 365 * 24 * 3600 * 1000, 2**62):
        token = mint.grant(POOL_ID, ONE, "writer", 1, made_ms)
        socket = await dial(hub.url, f"{POOL_ID}.1", ONE, token)
        assert await close_code(socket) == Close.BAD_TOKEN
        request = f"GET /v1/pools/{POOL_ID}/roster HTTP/1.1\r\nHost: x\r\n"
        request += f"Authorization: Bearer {token}\r\n\r\n"
        assert await status(hub, request.encode()) in (401, 404)
    challenge = mint.challenge(POOL_ID, ONE, SystemRandom(), now_ms - 3_600_000)
    body = json.dumps(
        {
            "challenge": challenge,
            "signature": base64.b64encode(bytes(64)).decode(),
            "origin": "http://127.0.0.1",
        }
    )
    head = f"POST /v1/auth/proof HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    assert await status(hub, (head + body).encode()) == 401


@pytest.mark.parametrize(
    "headers",
    [
        ["Authorization: Bearer lmt_' OR '1'='1"],
        ["Authorization: Bearer lmt_" + "0" * 16 + "_" + "0" * 63 + "'"],
        ["Authorization: Bearer " + "lmt_" * 2000],
        ["Authorization: Bearer {token}", "Authorization: Bearer nonsense", "Cookie: a=b"],
        ["Authorization: Basic {token}"],
        ["Authorization: Bearer {token}", "X-Localmem-Device: ' OR 1=1 --"],
        ["Authorization: Bearer {token}", "X-Localmem-Device: " + "f" * 17],
        ["Authorization: Bearer {token}", "X-Localmem-Device: \u0660" + "0" * 15],
        ["Authorization: Bearer {token}", f"X-Localmem-Device: {TWO}"],
        ["X-Original-URL: /v1/sync/others", "X-Rewrite-URL: /v1/sync/others", "X-User: root"],
        ["X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1", "Forwarded: for=127.0.0.1"],
    ],
)
async def test_no_header_opens_another_pool_or_passes_for_another_device(
    hub: HubProcess, headers: list[str]
) -> None:
    token = hub.token("headers", ONE)
    lines = "".join(f"{line.format(token=token)}\r\n" for line in headers)
    for path in ("/v1/sync/others", f"/v1/pools/{POOL_ID}/roster", "/v1/sync/others/updates"):
        request = f'GET {path} HTTP/1.1\r\nHost: x\r\nIf-None-Match: "0.w."\r\n{lines}\r\n'
        assert await status(hub, request.encode()) in (400, 401, 431)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/pools/../sync/others",
        "/v1/pools/%2e%2e/roster",
        "/v1/pools/'%20OR%20'1'='1/roster",
        "/v1/pools/" + "a" * 5000 + "/roster",
        "/v1/pools/%00/roster",
        "/v1/recovery/'%20OR%201=1",
        "/v1/mailboxes/1%20OR%201=1/0",
        "/v1/mailboxes/-1/0",
        "/v1/mailboxes/%D9%A1/0",
        "//v1/sync/others",
        "/v1/sync/others/",
        "/v1/sync/others/updates/..",
        "/V1/SYNC/others",
    ],
)
async def test_no_path_leads_around_what_asks_for_a_token(hub: HubProcess, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"
    assert await status(hub, request.encode()) in (307, 400, 401, 404, 405)


async def test_a_device_token_knows_no_clock_but_the_hubs(hub: HubProcess) -> None:
    """One that was made in the future is good, one of the past has expired, by the hub's clock alone."""
    day_ms, now_ms = 24 * 3600 * 1000, time.time_ns() // 1_000_000
    with hub.store() as store:
        made = [
            store.tokens.create("clocks", None, "writer", SystemRandom(), at_ms, days=1).text
            for at_ms in (now_ms - day_ms - 1000, now_ms + 100 * day_ms)
        ]
    for token, expected in zip(made, (401, 200), strict=True):
        skewed = "Date: Thu, 01 Jan 1970 00:00:00 GMT"
        request = f"GET /v1/sync/clocks HTTP/1.1\r\nHost: x\r\n{skewed}\r\n"
        request += f"Authorization: Bearer {token}\r\n\r\n"
        assert await status(hub, request.encode()) == expected
