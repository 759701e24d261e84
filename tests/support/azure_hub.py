"""A hub in a function app, and the same storage seen from beside."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.azure_app import FunctionApp, running
from bench.azurite_server import AzuriteServer
from localmem_hub.cli_options import open_store
from localmem_hub.seams import Role
from localmem_hub.settings import load_settings
from localmem_hub.system import SystemClock, SystemRandom


@dataclass
class Storage:
    """A hub's storage, seen from beside: what an operator does with it."""

    settings: dict[str, str]

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

    def tokens(self, pool: str, devices: Sequence[str]) -> list[str]:
        """One for each."""
        with self.store() as store:
            made = [store.tokens.create(pool, one, "writer", SystemRandom(), 1) for one in devices]
        return [token.text for token in made]

    def invitation(self) -> str:
        with self.store() as store:
            code: str = store.access.invite(1, 1, SystemRandom(), SystemClock().now_ms())
        return code

    def rows(self, pool: str) -> int:
        """How many updates are stored of a room, in a snapshot or not."""
        with self.store() as store:
            return int(store.head(pool))


@dataclass
class AzureHub(Storage):
    """As `HubProcess` is, for what tests ask of one."""

    app: FunctionApp
    transport: str = "auto"

    @property
    def http_url(self) -> str:
        return self.app.url


def blob_settings(server: AzuriteServer) -> dict[str, str]:
    """What a hub is told of a new container in Azurite, which is made."""
    settings = {
        "LOCALMEM_HUB_DATABASE": f"azure-blob://{server.container()}",
        "LOCALMEM_HUB_STORAGE_CONNECTION": server.connection(),
    }
    prepare(settings)
    return settings


def prepare(settings: dict[str, str]) -> None:
    """Make the container."""
    open_store(load_settings(settings, Path("/")), migrate=True).close()


@contextlib.contextmanager
def azure_hub(
    folder: Path, python: Path, settings: dict[str, str], *, processes: int = 2
) -> Iterator[AzureHub]:
    """Published, started, and gone afterwards."""
    with running(folder, python, settings, processes=processes) as app:
        yield AzureHub(settings, app)
