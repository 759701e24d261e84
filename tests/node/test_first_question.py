"""A question for which the encoder has to be loaded: everything else goes on meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
from starlette.applications import Starlette

from localmem_node.daemon.app import Direct, create_app
from support.events import draft
from support.node import GatedEncoder, StandingClock, open_node

QUESTION = b'{"query": "retry_limit"}'


class Loading:
    """A daemon's handlers, whose encoder is busy until its gate is opened."""

    def __init__(self, path: Path) -> None:
        self.encoder, clock = GatedEncoder(), StandingClock()
        self.encoder.gate.set()
        self.engine = open_node(path, encoder=self.encoder, clock=clock)
        self.engine.record([draft(snippet="retry_limit = 5")])
        self.engine.drain()
        self.encoder.gate.clear()
        self.encoder.asked.clear()
        app = create_app(self.engine, clock, stop=lambda: None)
        assert isinstance(app, Direct)
        assert isinstance(app._app, Starlette)
        self.app, inner = app, app._app
        self.serving = inner.router.lifespan_context(inner)

    async def ask(self) -> asyncio.Future[bytes]:
        """A question that has reached the encoder."""
        asking = asyncio.ensure_future(self.app._answer(QUESTION))
        assert await asyncio.to_thread(self.encoder.asked.wait, 60)
        return asking


async def test_the_loop_turns_while_the_encoder_is_loaded(tmp_path: Path) -> None:
    loading = Loading(tmp_path / "store")
    async with loading.serving:
        asking = await loading.ask()
        assert not asking.done()  # nor does it hold us up
        loading.encoder.gate.set()
        (found,) = msgspec.json.decode(await asking)["events"]
    assert found["snippet"] == "retry_limit = 5"
    assert loading.engine.is_warm
    assert loading.engine.status()["encoder"]["problem"] is None
    loading.engine.close()


async def test_the_loop_turns_while_the_last_question_is_waited_for(tmp_path: Path) -> None:
    loading = Loading(tmp_path / "store")
    async with loading.serving:
        asking = await loading.ask()
        asyncio.get_running_loop().call_soon(loading.encoder.gate.set)
    await asking
    assert loading.engine.status()["encoder"]["problem"] is None
    loading.engine.close()
