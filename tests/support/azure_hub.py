"""A hub in a function app, and the same storage seen from beside."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.azure_app import FunctionApp, running
from localmem_hub.cli_options import open_store
from localmem_hub.seams import Role
from localmem_hub.settings import load_settings
from localmem_hub.system import SystemClock, SystemRandom


@dataclass
class AzureHub:
    """As `HubProcess` is, for what tests ask of one."""

    app: FunctionApp
    settings: dict[str, str]
    transport: str = "auto"

    @property
    def http_url(self) -> str:
        return self.app.url

    @property
    def url(self) -> str:
        return self.app.url

    @contextlib.contextmanager
    def store(self) -> Iterator[Any]:
        store = open_store(load_settings(self.settings, Path("/")))
        try:
            yield store
        finally:
            store.close()

    def token(self, pool: str, device: str | None = None, role: Role = "writer") -> str:
        with self.store() as store:
            made: str = store.tokens.create(pool, device, role, SystemRandom(), 1).text
        return made

    def invitation(self) -> str:
        with self.store() as store:
            code: str = store.access.invite(1, 1, SystemRandom(), SystemClock().now_ms())
        return code

    def rows(self, pool: str) -> int:
        """How many updates are stored of a room, in a snapshot or not."""
        with self.store() as store:
            return int(store.head(pool))


@contextlib.contextmanager
def azure_hub(
    folder: Path, python: Path, settings: dict[str, str], *, processes: int = 2
) -> Iterator[AzureHub]:
    """Published, started, and gone afterwards."""
    with running(folder, python, settings, processes=processes) as app:
        yield AzureHub(app, settings)
