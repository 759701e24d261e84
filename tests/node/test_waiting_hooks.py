"""Hooks that were left to a daemon: it looks for them as long as it runs, and stumbles over none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from localmem_node.config import Settings, load_settings
from localmem_node.daemon import hooks as module
from localmem_node.daemon.common import Common
from localmem_node.daemon.hooks import Hooks
from localmem_node.editors.captured import Told
from localmem_node.editors.reading import read_hook
from localmem_node.engine import Engine
from localmem_node.spool import spool_path
from support.daemon import environment
from support.node import NOW_MS, StandingClock, open_node

TRIES = 3000


class Running:
    """The hooks' service over an engine, which looks for what was left a hundred times a second."""

    def __init__(self, settings: Settings) -> None:
        clock = StandingClock()
        self.settings = settings
        self.engine: Engine = open_node(settings.store_path, clock=clock)
        self.hooks = Hooks(settings, self.engine, Common(settings, self.engine, clock), clock)

    def leave(self, *prompts: str) -> None:
        """What the command client writes."""
        records = b""
        for prompt in prompts:
            body = json.dumps(
                {"session_id": "s", "hook_event_name": "UserPromptSubmit", "prompt": prompt}
            ).encode()
            records += b"claude-code %d %d\n%s\n" % (NOW_MS, len(body), body)
        written = spool_path(self.settings).with_name("written")
        written.write_bytes(records)
        written.chmod(0o600)
        written.rename(spool_path(self.settings))

    async def recorded(self, count: int) -> list[str]:
        """The prompts, once there are so many."""
        for _ in range(TRIES):
            if len(self.engine) >= count:
                break
            await asyncio.sleep(0.01)
        return sorted(found.event.snippet for found in self.engine.recent(10))


@pytest.fixture
async def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    monkeypatch.setattr(module, "TIDY_S", 0.01)
    settings = load_settings(environment(tmp_path / "home"))
    for folder in (settings.runtime_dir, settings.data_dir):
        folder.mkdir(parents=True, mode=0o700)
    running = Running(settings)
    await running.hooks.start()
    yield running
    await running.hooks.stop()
    running.engine.close()


async def test_what_is_left_while_the_daemon_runs_is_read_too(running: Running) -> None:
    for number in range(3):
        running.leave(f"task {number}")
        assert await running.recorded(number + 1) == [f"task {at}" for at in range(number + 1)]


async def test_one_that_cannot_be_read_does_not_keep_the_others_waiting(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(editor: Any, payload: Any, *more: Any) -> Told:
        if payload["prompt"] == "poison":
            raise RecursionError
        return read_hook(editor, payload, *more)

    monkeypatch.setattr(module, "read_hook", read)
    running.leave("first", "poison", "second")
    assert await running.recorded(2) == ["first", "second"]
    running.leave("third")
    assert await running.recorded(3) == ["first", "second", "third"]
