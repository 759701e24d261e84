"""A device that does not read is let go, and costs nobody else anything."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from localmem_protocol.frames import Close, Update
from localmem_protocol.limits import OUTGOING_BYTES_MAX
from support.hub_process import running_hub
from support.sync_client import RawClient, close_code

POOL = "team"
ONE, TWO, SLOW = (f"{number:016x}" for number in (1, 2, 3))
BATCH = bytes(1024 * 1024)
BATCHES = 2 * OUTGOING_BYTES_MAX // len(BATCH) + 8
"""Enough for the hub's queue and for what the sockets between hold."""


async def test_a_slow_reader_is_dropped_while_the_others_go_on(tmp_path: Path) -> None:
    with running_hub(tmp_path) as hub:
        tokens = {name: hub.token(POOL, name) for name in (ONE, TWO, SLOW)}
        async with asyncio.timeout(60):
            slow = await RawClient.join(hub.url, POOL, SLOW, tokens[SLOW], queue=1)
            await slow.synchronise()
            writer = await RawClient.join(hub.url, POOL, ONE, tokens[ONE])
            reader = await RawClient.join(hub.url, POOL, TWO, tokens[TWO])
            await reader.synchronise()
            for _ in range(BATCHES):
                await writer.write(BATCH)
                await writer.acknowledged(writer.clock)
                assert isinstance(await reader.next(), Update)
            assert await close_code(slow.socket) in (Close.SLOW, 1006)
            with pytest.raises(ConnectionClosed):
                await slow.next()
            for raw in (writer, reader):
                await raw.socket.close()
        assert hub.stop() == 0
        assert f"device={SLOW}" in _line(hub.log, SLOW)
        assert f"code={Close.SLOW}" in _line(hub.log, SLOW)
        assert "code=1000" in _line(hub.log, TWO)


def _line(log: Path, device: str) -> str:
    lines = [line for line in log.read_text().splitlines() if "closed pool=" in line]
    (found,) = [line for line in lines if f"device={device}" in line]
    return found
