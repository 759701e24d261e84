"""Forgetting without a daemon: the tombstones go into the journal, and the next daemon tells the pool."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from typing import Final

from localmem_node.config import HubSettings, Settings
from localmem_node.engine import Engine
from localmem_node.errors import ConfigError, SyncError
from localmem_node.sync.journal import SqliteJournal
from localmem_node.sync.pool_files import POOLS, PoolFiles
from localmem_node.sync.standing import Standing, identity_of
from localmem_node.sync.untold import PURPOSE as UNTOLD
from localmem_node.sync.untold import Untold
from localmem_node.system import SystemRandom
from localmem_protocol.access import room_name
from localmem_protocol.envelope import PoolKey
from localmem_protocol.tombstones import TombstoneKey

logger = logging.getLogger(__name__)

EPOCH: Final = 1

JOURNAL: Final = "sync.sqlite"
"""The journal's file in the state directory."""


def open_journal(files: PoolFiles, device: str, pool: str, epoch: int) -> SqliteJournal:
    """The journal of a pool's epoch. What others are still to forget comes with from older ones."""
    path = files.journal(pool, epoch)
    journal = SqliteJournal(path, device, room_name(pool, epoch))
    for older in files.older_journals(pool, epoch):
        before = SqliteJournal(files.journal(pool, older), device, room_name(pool, older))
        journal.queue(before.load().outbox)
        before.close()
    files.drop_journals(pool, keep=epoch)
    return journal


def open_told(files: PoolFiles, device: str, key: PoolKey, untold: Untold) -> SqliteJournal:
    """As `open_journal`; and what could not be told to the pool before is told with it."""
    journal = open_journal(files, device, key.pool, key.epoch)
    try:
        if waiting := untold.ids(key.pool):
            tombstones = TombstoneKey(key)
            journal.queue([tombstones.of(event_id) for event_id in waiting])
            untold.told(key.pool, waiting)
    except BaseException:
        journal.close()
        raise
    return journal


def pool_key(hub: HubSettings) -> PoolKey:
    """The key of the pool that is set up."""
    return PoolKey(hub.pool, EPOCH, hub.pool_key)


def tell_when_forgetting(settings: Settings, hub: HubSettings, engine: Engine) -> None:
    """From now on, what is forgotten in this store is queued for the pool.

    A forgetting raises SyncError, and does nothing, when that is not possible.
    """
    key = TombstoneKey(pool_key(hub))

    def queue(ids: Sequence[str]) -> None:
        journal = SqliteJournal(settings.state_dir / JOURNAL, engine.device, hub.pool)
        try:
            journal.queue([key.of(event_id) for event_id in ids])
        finally:
            journal.close()

    engine.honour(key)
    engine.maintenance.before_forgetting(queue)


def tell_pools_when_forgetting(settings: Settings, engine: Engine) -> None:
    """The same for every pool that this device is in, in the newest epoch that it knows.

    For a pool that is damaged it is kept until that works again, as by the daemon.
    """
    files, identity = PoolFiles(settings.state_dir / POOLS), identity_of(engine)
    untold = Untold(files, engine.derive_key(UNTOLD), SystemRandom())
    keys: dict[str, PoolKey | None] = {}
    for pool in files.pools():
        try:
            files.record(pool)
            epochs = Standing(files, pool, identity).epochs()
            keys[pool] = epochs[max(epochs)] if epochs else None
        except (ConfigError, SyncError) as error:
            logger.error("%s; what is forgotten is told there once that is mended", error)
            keys[pool] = None
    for key in filter(None, keys.values()):
        engine.honour(TombstoneKey(key))

    def queue(key: PoolKey, ids: Sequence[str]) -> None:
        tombstones = TombstoneKey(key)
        with contextlib.closing(open_told(files, engine.device, key, untold)) as journal:
            journal.queue([tombstones.of(event_id) for event_id in ids])

    def tell(ids: Sequence[str]) -> None:
        for pool, key in keys.items():
            if key is None:
                untold.keep(pool, ids)
                continue
            try:
                queue(key, ids)
            except SyncError as error:
                logger.error("%s; what is forgotten is told to pool %s later", error, pool)
                untold.keep(pool, ids)

    engine.maintenance.before_forgetting(tell)
