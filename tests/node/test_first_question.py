"""The first question, which loads the encoder: everybody else is served meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from localmem_node.daemon.app import Handlers
from support.events import draft
from support.node import GatedEncoder, StandingClock, open_node


async def test_the_loop_turns_while_the_encoder_is_loaded(tmp_path: Path) -> None:
    encoder, clock = GatedEncoder(), StandingClock()
    encoder.gate.set()
    engine = open_node(tmp_path / "store", encoder=encoder, clock=clock)
    engine.record([draft(snippet="retry_limit = 5")])
    engine.drain()
    handlers = Handlers(engine, clock, (), stop=lambda: None)
    encoder.gate.clear()
    encoder.asked.clear()
    asking = asyncio.create_task(handlers.answer(b'{"query": "retry_limit"}'))
    assert await asyncio.to_thread(encoder.asked.wait, 60)
    assert not asking.done()  # nor does it hold us up
    encoder.gate.set()
    (found,) = msgspec.json.decode(await asking)["events"]
    assert found["snippet"] == "retry_limit = 5"
    assert engine.is_warm
    assert engine.status()["encoder"]["problem"] is None
    handlers.close()
    engine.close()
