"""A device of the demo: a home of its own, a daemon of its own, a cable to the hub."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from localmem_node.client import DaemonClient
from localmem_node.demo.wire import Wire
from localmem_node.errors import DemoError
from localmem_protocol.events import Draft

CALL_EVENTS: Final = 64
"""Events of one record call: some fractions of a second of work, so that progress shows."""


class Device:
    """Talks to its daemon as any editor would."""

    def __init__(
        self, name: str, home: Path, wire: Wire, pool: str, key: bytes, token: str
    ) -> None:
        self.name = name
        self.wire = wire
        home.mkdir(mode=0o700)
        self.home = home
        clean = {key: value for key, value in os.environ.items() if not key.startswith("LOCALMEM_")}
        self._client = DaemonClient(
            clean
            | {
                "LOCALMEM_HOME": str(home),
                "LOCALMEM_PASSPHRASE": secrets.token_urlsafe(16),
                "LOCALMEM_HUB_URL": f"ws://127.0.0.1:{wire.port}",
                "LOCALMEM_HUB_TOKEN": token,
                "LOCALMEM_POOL": pool,
                "LOCALMEM_POOL_KEY": key.hex(),
            }
        )

    @property
    def id(self) -> str:
        """The device id."""
        return str(self._client.status()["device"])

    @property
    def store_path(self) -> Path:
        """The ring file."""
        return self._client.settings.store_path

    def record(self, drafts: Sequence[Draft], progress: Callable[[int], None]) -> list[str]:
        """Record all; their ids. `progress` hears how many are done. Raises DemoError."""
        ids: list[str] = []
        for start in range(0, len(drafts), CALL_EVENTS):
            events = [msgspec.to_builtins(one) for one in drafts[start : start + CALL_EVENTS]]
            answer = self._client.record(events)
            if answer["failed"]:
                raise DemoError(f"{self.name}: an event was refused: {answer['failed'][0]}")
            ids += [one["id"] for one in answer["recorded"]]
            progress(len(ids))
        return ids

    def query(self, text: str, k: int) -> dict[str, Any]:
        """What answers a query."""
        return self._client.query(text, k)

    def order(self, count: int) -> list[str]:
        """The ids of the newest `count` events, newest first."""
        return [one["id"] for one in self._client.recent(count)["events"]]

    def sync(self, wait_s: float) -> dict[str, Any]:
        """Synchronise now; how it went."""
        return self._client.call("POST", "/v1/sync", {"wait_s": wait_s})

    def until(self, reached: Callable[[dict[str, Any]], bool], what: str, limit_s: float) -> None:
        """Wait for a state of the daemon. Raises DemoError saying `what` did not happen."""
        deadline = time.monotonic() + limit_s
        while not reached(self._client.status()):
            if time.monotonic() > deadline:
                raise DemoError(f"{self.name}: {what} did not happen within {limit_s:.0f} s")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the daemon."""
        self._client.stop()
        self._client.close()
