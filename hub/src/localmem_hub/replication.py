"""One replica among several on one database: what it tells the others, and what it does when it hears
from them.

The database is the only truth. Signals (`signals.py`) say where to look, so that nobody has to wait
for the next look of its own; after every interruption, and every POLL_SECONDS anyhow, all pools that
are in use here are looked at. A replica that has not heard the database for REACH_SECONDS may miss
that a token was revoked: it sends everybody away until it has.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from localmem_hub.errors import StoppingError, StoreError
from localmem_hub.limits import (
    POLL_LOST_SECONDS,
    POLL_SECONDS,
    REACH_CHECK_SECONDS,
    REACH_SECONDS,
    RECONNECT_SECONDS,
)
from localmem_hub.signals import (
    Greeted,
    MailboxChanged,
    Moved,
    PoolEmptied,
    PoolRemoved,
    RosterGrew,
    Signal,
    TokenRevoked,
    decode,
    encode,
)
from localmem_protocol.seams import Clock, Random

if TYPE_CHECKING:
    import sqlalchemy as sa

    from localmem_hub.app import Hub

log: Final = logging.getLogger(__name__)

SUBJECT: Final = "fanout"
UNREACHED: Final = "this hub does not reach its database; try again"


@dataclass(frozen=True)
class Links:
    """How the replicas of a hub reach each other: the database, and NATS if there is one."""

    database: sa.URL
    fanout: str = ""


class _Fanout(Protocol):
    @property
    def up(self) -> bool: ...

    async def listen(self) -> None: ...

    async def tell(self, payloads: list[str]) -> bool: ...


class Replication:
    """A `Herald`, and the tasks behind it. All methods belong to one event loop."""

    def __init__(self, links: Links, clock: Clock, random: Random) -> None:
        from localmem_hub.postgres_bus import PostgresBus  # needs the extra

        self._links = links
        self._clock = clock
        self._origin = random.token_bytes(8).hex()
        self._bus = PostgresBus(links.database, clock, self.hear, self._connected)
        self._fanout: _Fanout | None = None
        self._hub: Hub | None = None
        self._moved: dict[str, int] = {}  # what is to be told
        self._greeted: dict[Greeted, None] = {}
        self._to_tell = asyncio.Event()
        self._all_told = asyncio.Event()
        self._all_told.set()
        self._to_look = asyncio.Event()
        self._to_recheck = asyncio.Event()
        self._rosters: dict[str, None] = {}
        self.in_touch = True

    @property
    def silence_s(self) -> float:
        """For how long the database was not heard; less than REACH_SECONDS when all is well."""
        return self._clock.monotonic_s() - self._bus.reached_s

    def attach(self, hub: Hub) -> None:
        """Say whose replica this is."""
        self._hub = hub

    def stored(self, pool: str, head: int) -> None:
        """As `Herald` says."""
        self._moved[pool] = max(head, self._moved.get(pool, 0))
        self._tell_soon()

    def greeted(self, pool: str, client: int) -> None:
        """As `Herald` says."""
        self._greeted[Greeted(pool, client)] = None
        self._tell_soon()

    async def settle(self, seconds: float) -> None:
        """Wait until the others were told all there is to tell, for so long at most.

        What they are not told then they find by looking.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._all_told.wait()

    async def run(self) -> None:
        """Listen, tell and look until cancelled."""
        fanout = await self._open_fanout()
        while True:
            try:
                async with asyncio.TaskGroup() as tasks:
                    for work in self._work(fanout):
                        tasks.create_task(work)
            except Exception:  # a defect: better nobody is served than blindly
                log.exception("replication failed")
                self._lose_touch()
                await asyncio.sleep(POLL_LOST_SECONDS)
            finally:
                await self._bus.close()

    def hear(self, payload: str) -> None:
        """Take what a replica said."""
        try:
            origin, signals = decode(payload)
        except ValueError:
            log.warning("ignored a signal that is none")
            return
        if origin == self._origin:
            return
        try:
            for signal in signals:
                self._follow(signal)
        except Exception:  # a defect must not cost what else was said
            log.exception("a signal was not followed")
            self._look_everywhere()

    def _work(self, fanout: _Fanout | None) -> Iterable[Coroutine[None, None, None]]:
        yield self._bus.listen()
        yield self._tell_forever()
        yield self._look_forever()
        yield self._recheck_forever()
        yield self._watch_forever()
        if fanout is not None:
            yield fanout.listen()

    async def _open_fanout(self) -> _Fanout | None:
        if not self._links.fanout:
            return None
        from localmem_hub.nats_fanout import NatsFanout  # needs the extra

        hub = self._here
        while True:
            try:
                secret = await hub.workers.read(
                    lambda: hub.store.access.secret(SUBJECT, hub.random)
                )
                break
            except StoreError as error:
                log.warning("no fan-out yet: %s", error)
                await asyncio.sleep(POLL_LOST_SECONDS)
        subject = "localmem." + hashlib.sha256(secret).hexdigest()[:32]
        self._fanout = NatsFanout(self._links.fanout, subject, self.hear, self._look_everywhere)
        return self._fanout

    @property
    def _here(self) -> Hub:
        assert self._hub is not None
        return self._hub

    def _follow(self, signal: Signal) -> None:
        hub = self._here
        match signal:
            case Moved(pool, head):
                hub.rooms.moved(pool, head)
                hub.watchers.changed(pool)
            case Greeted(pool, client):
                hub.rooms.taken_over(pool, client)
            case PoolRemoved(pool):
                hub.rooms.moved(pool, None)
                hub.watchers.changed(pool)
                self._rosters[pool] = None
                self._rosters.setdefault("", None)  # its tokens went with it
                self._to_recheck.set()
            case PoolEmptied(pool):
                hub.rooms.emptied_elsewhere(pool)
                hub.watchers.changed(pool)
            case RosterGrew(pool):
                self._rosters[pool] = None
                self._to_recheck.set()
            case TokenRevoked():
                self._rosters.setdefault("", None)
                self._to_recheck.set()
                hub.watchers.wake()
            case MailboxChanged(number):
                hub.mailboxes.changed(number)

    def _tell_soon(self) -> None:
        self._to_tell.set()
        self._all_told.clear()

    def _connected(self) -> None:
        self._here.store.renew()  # what ended this connection ended the others, too
        self._look_everywhere()

    def _look_everywhere(self) -> None:
        """Signals may have been lost: look at all that is in use."""
        self._rosters.setdefault("", None)
        self._to_recheck.set()
        self._to_look.set()

    async def _tell_forever(self) -> None:
        while True:
            await self._to_tell.wait()
            self._to_tell.clear()
            moved, self._moved = self._moved, {}
            greeted, self._greeted = self._greeted, {}
            signals: list[Signal] = [*greeted, *(Moved(pool, head) for pool, head in moved.items())]
            payloads = encode(signals, self._origin)
            told = self._fanout is not None and await self._fanout.tell(payloads)
            if not told:
                await self._bus.tell(payloads)  # or they find out by looking
            if not self._to_tell.is_set():
                self._all_told.set()

    async def _look_forever(self) -> None:
        """Look at every pool in use, when there is reason to and every so often."""
        hub = self._here
        while True:
            lost = self._fanout is not None and not self._fanout.up
            try:
                async with asyncio.timeout(POLL_LOST_SECONDS if lost else POLL_SECONDS):
                    await self._to_look.wait()
            except TimeoutError:
                pass
            self._to_look.clear()
            names = sorted({*hub.rooms.pools, *hub.watchers.pools})
            try:
                heads = await hub.workers.read(lambda names=names: hub.store.heads(names))  # type: ignore[misc]
            except (StoreError, StoppingError) as error:
                log.warning("pools not looked at: %s", error)
                continue
            for pool in names:
                hub.rooms.looked(pool, heads.get(pool))
                hub.watchers.looked(pool, heads.get(pool, 0))

    async def _recheck_forever(self) -> None:
        """Look at tokens and rosters when one of them changed."""
        hub = self._here
        while True:
            await self._to_recheck.wait()
            self._to_recheck.clear()
            changed, self._rosters = list(self._rosters), {}
            try:
                for pool in changed:
                    if not pool:
                        await hub.endpoint.recheck()
                    elif hub.endpoint.follows(pool) or hub.watchers.follows(pool):
                        await hub.rosters.get(pool)
            except (StoreError, StoppingError) as error:
                log.warning("not rechecked: %s", error)
                await asyncio.sleep(RECONNECT_SECONDS)
                self._rosters.setdefault("", None)
                self._to_recheck.set()

    async def _watch_forever(self) -> None:
        hub = self._here
        while True:
            await asyncio.sleep(REACH_CHECK_SECONDS)
            in_touch = self.silence_s <= REACH_SECONDS
            if in_touch == self.in_touch:
                continue
            if in_touch:
                self.in_touch = True
                log.info("in touch with the database again")
                hub.rooms.resume()
            else:
                self._lose_touch()

    def _lose_touch(self) -> None:
        """Send everybody away."""
        hub = self._here
        self.in_touch = False
        log.error("out of touch with the database: nobody is served")
        hub.rooms.suspend(UNREACHED)
        hub.endpoint.send_away(UNREACHED)
        hub.watchers.wake()
