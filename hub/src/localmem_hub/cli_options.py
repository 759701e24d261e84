"""What the commands share: their options, the settings and the store."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from localmem_hub.blobs.address import Address, is_blob_url
from localmem_hub.errors import ConfigError, HubError
from localmem_hub.settings import Settings, load_settings

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from localmem_hub.audit import Audit
    from localmem_hub.blobs.store import BlobStore
    from localmem_hub.replication import Links
    from localmem_hub.server import Beside
    from localmem_hub.store import SqlStore

URLS: Final = "sqlite:///PATH, postgresql+psycopg://USER@HOST/DATABASE, or azure-blob://CONTAINER"
Command = TypeVar("Command", bound=Callable[..., Any])


def common(command: Command) -> Command:
    """The options of every command."""
    options = (
        click.option("--config", type=click.Path(path_type=Path), help="A TOML file of settings."),
        click.option("--database", "--db", metavar="URL", help=URLS),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def read_settings(config: Path | None, **overrides: object) -> Settings:
    """The settings that hold for a command. Raises ConfigError."""
    return load_settings(os.environ, Path.home(), config, overrides)


def blob_address(settings: Settings) -> Address | None:
    """Where the hub's blobs are, if it keeps its data in blobs. Raises ConfigError."""
    if not is_blob_url(settings.database):
        return None
    account, connection = settings.storage_account, settings.storage_connection
    return Address.parse(settings.database, account=account, connection=connection)


def open_store(settings: Settings, *, migrate: bool = False) -> SqlStore | BlobStore:
    """The store, with tables or blobs of this release. Raises HubError."""
    address = blob_address(settings)
    if address is not None:
        from localmem_hub import blobs

        return blobs.open_store(address, migrate=migrate)
    from localmem_hub.database import open_engine, prepare
    from localmem_hub.store import SqlStore

    engine = open_engine(settings.database)
    try:
        prepare(engine, migrate=migrate)
    except HubError:
        engine.dispose()
        raise
    return SqlStore(engine)


def links_of(settings: Settings, store: SqlStore | BlobStore) -> Links | None:
    """How this replica reaches the others, if it can. Raises ConfigError."""
    url = store.url if store.shared else None
    if settings.fanout and url is None:
        raise ConfigError("fanout: replicas share a PostgreSQL database; this is another one")
    if settings.fanout and importlib.util.find_spec("nats") is None:
        raise ConfigError('fanout: NATS needs its client; pip install "localmem-hub[nats]"')
    if url is None:
        return None
    from localmem_hub.replication import Links

    return Links(url, settings.fanout)


def metrics_of(settings: Settings, app: Starlette) -> Beside | None:
    """What serves the metrics, if they are wanted. Raises ConfigError, ListenError."""
    address = settings.metrics_address
    if address is None:
        return None
    if importlib.util.find_spec("prometheus_client") is None:
        raise ConfigError('metrics: they need a library; pip install "localmem-hub[metrics]"')
    from localmem_hub.exposition import metrics_app
    from localmem_hub.server import Beside, listen

    listener = listen(*address)
    host, port = listener.getsockname()[:2]
    logging.getLogger(__name__).info("metrics host=%s port=%d", host, port)
    return Beside(metrics_app(app.state.hub), listener)


@contextmanager
def auditing(settings: Settings) -> Iterator[Audit]:
    """What a command does goes into the audit log as well, if that is a file: the terminal is none.

    Raises ConfigError.
    """
    from localmem_hub.audit import OFF, STDERR, Audit, open_audit
    from localmem_hub.system import SystemClock

    end = open_audit(OFF if settings.audit == STDERR else settings.audit)
    try:
        yield Audit(SystemClock())
    finally:
        end()


def when(time_ms: int | None) -> str:
    """A time for people to read."""
    if time_ms is None:
        return "never"
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
