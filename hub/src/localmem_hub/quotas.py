"""How much devices and pools may send in a time, and how much of it is kept.

Rates are token buckets in memory, filled for a minute; each process counts for itself. One that lets an
update through may owe for it afterwards: so the largest one passes some time, and costs the time that it
is worth. Quotas compare with what is stored, which is measured now and then in the background, and what
came since. Nobody waits for either: who is over a bound is told when to try again (`Close.LIMITED`), and
keeps what it has until then. What only deletes is taken all the same, or a full pool could never shrink.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Protocol

import msgspec

from localmem_hub.errors import StoppingError, StoreError
from localmem_hub.limits import ADDRESSES_MAX
from localmem_hub.plain.messages import Changes, decode
from localmem_hub.seams import Identity, UpdateLog
from localmem_hub.workers import Workers
from localmem_protocol.errors import ProtocolError
from localmem_protocol.frames import Step2, Update, decode_frame
from localmem_protocol.limits import UPDATE_BYTES_MAX
from localmem_protocol.seams import Clock
from localmem_protocol.updates import decode_update

log: Final = logging.getLogger(__name__)

MEASURE_SECONDS: Final = 10.0
"""How old a measurement of what is stored may be while somebody writes."""

FULL_RETRY_SECONDS: Final = 60.0
"""When to try again where something has to be deleted, or allowed, first."""

RESUME_PART: Final = 0.1
"""How full a bucket has to be before somebody who was over a rate is to come back."""

SHRINK_PART: Final = 0.75
"""How full a pool has to be for a snapshot to be made sooner than it would be."""

MOVING_BYTES: Final = 64 * 1024
"""Bytes of an update which deletes and adds, that is taken a little over a quota: who forgets an event
appends what is to stay of its segment…"""

MOVING_PART: Final = 1.25
"""…and so much of the quota is the end of that."""

DOCUMENT_BYTES: Final = 256 * 1024 * 1024
"""Of one document, unless told otherwise: it is in the hub's memory while somebody is connected."""

Bound = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Bounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an operator allows; 0 for as much as comes. In the environment: `LOCALMEM_HUB_LIMITS_…`.

    Rates are per minute: updates, their bytes, and requests (of a device: connections, single requests,
    and questions on a connection for all that is missing). Of what is kept, `pool_bytes` is what is
    stored of a pool in all its epochs, `document_bytes` of one document, and `device_bytes` what one
    device has in one that is not deleted. `update_bytes` is the size of one update.
    """

    device_updates_per_minute: Bound = 0
    device_bytes_per_minute: Bound = 0
    device_requests_per_minute: Bound = 0
    pool_updates_per_minute: Bound = 0
    pool_bytes_per_minute: Bound = 0
    pool_bytes: Bound = 0
    device_bytes: Bound = 0
    document_bytes: Bound = DOCUMENT_BYTES
    update_bytes: Annotated[int, msgspec.Meta(ge=64 * 1024, le=UPDATE_BYTES_MAX)] = UPDATE_BYTES_MAX


DEFAULT: Final = Bounds()


@dataclass(frozen=True)
class Limit:
    """Why somebody has to wait, and for how many seconds."""

    reason: str
    seconds: float


class Bucket:
    """So much per minute for each key, and a minute's worth at once."""

    def __init__(self, what: str, per_minute: int, clock: Clock) -> None:
        self.what = what
        self.most = per_minute
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # left, at

    def wait_s(self, key: str) -> float:
        """Seconds until one may go on; 0 while there is anything left."""
        if not self.most or (left := self._now(key)) > 0:
            return 0.0
        return (self.most * RESUME_PART - left) * 60 / self.most

    def holds(self, key: str, cost: int) -> bool:
        """Whether that much is left, and more."""
        return not self.most or self._now(key) > cost

    def take(self, key: str, cost: int) -> None:
        """Count it; what is left may be less than nothing then."""
        if self.most:
            self._left[key] = self._now(key) - cost, self._clock.monotonic_s()
            self._left.move_to_end(key)
            while len(self._left) > ADDRESSES_MAX:
                self._left.popitem(last=False)

    def _now(self, key: str) -> float:
        now = self._clock.monotonic_s()
        left, at = self._left.get(key, (float(self.most), now))
        return min(self.most, left + (now - at) * self.most / 60)


class Room(Protocol):
    """What is asked of a room in memory."""

    def live_bytes(self, device: str) -> int:
        """Bytes of a device's batches that are not deleted."""
        ...


@dataclass
class _Measured:
    """What was stored of something, when, and what came since."""

    at_s: float
    size: int = 0
    since: int = 0
    under_way: bool = False

    @property
    def total(self) -> int:
        return self.size + self.since


class Quotas:
    """The bounds of one process. All methods belong to one event loop, and none of them waits.

    `shrink` is called with a room that is too large, in case that a snapshot of it is smaller.
    """

    def __init__(
        self,
        bounds: Bounds,
        store: UpdateLog,
        workers: Workers,
        clock: Clock,
        shrink: Callable[[str], None],
    ) -> None:
        self.bounds = bounds
        self._store = store
        self._workers = workers
        self._clock = clock
        self._shrink = shrink
        self._requests = Bucket("requests", bounds.device_requests_per_minute, clock)
        self._device = (
            Bucket("updates of this device", bounds.device_updates_per_minute, clock),
            Bucket("bytes of this device", bounds.device_bytes_per_minute, clock),
        )
        self._pool = (
            Bucket("updates in this pool", bounds.pool_updates_per_minute, clock),
            Bucket("bytes in this pool", bounds.pool_bytes_per_minute, clock),
        )
        self._paced = any(one.most for one in (*self._device, *self._pool))
        self._stored: OrderedDict[str, tuple[_Measured, _Measured]] = (
            OrderedDict()
        )  # document, pool
        self._held: OrderedDict[str, _Measured] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def request(self, identity: Identity) -> Limit | None:
        """Count a request of a device."""
        key = _device_key(identity)
        if wait := self._requests.wait_s(key):
            return _too_many(self._requests, wait)
        self._requests.take(key, 1)
        return None

    def admit(
        self,
        identity: Identity,
        frames: Sequence[bytes],
        room: Room | None = None,
        *,
        sealed: bool = True,
    ) -> Limit | None:
        """Count the update frames that a device sent at once, unless there is a reason to take none."""
        rates = self._rates(identity, frames)
        for one, key, _ in rates:
            if wait := one.wait_s(key):
                return _too_many(one, wait)
        full = self._full(identity, frames, room, sealed=sealed)
        if full is None:
            _take(rates)
        return full

    def admit_freely(
        self,
        identity: Identity,
        frames: Sequence[bytes],
        room: Room | None = None,
        *,
        sealed: bool = True,
    ) -> bool:
        """The same if they are far from every bound, alone and together; False, and nothing, if not."""
        rates = self._rates(identity, frames)
        free = all(one.holds(key, cost) for one, key, cost in rates)
        free = free and self._full(identity, frames, room, sealed=sealed) is None
        if free:
            _take(rates)
        return free

    def _rates(self, identity: Identity, frames: Sequence[bytes]) -> list[tuple[Bucket, str, int]]:
        """The rates that there are: whom each counts for, and the cost of this."""
        if not self._paced:  # mostly
            return []
        device, pool = _device_key(identity), identity.roster or identity.pool
        costs = (len(frames), sum(map(len, frames)))
        return [
            (one, key, cost)
            for buckets, key in ((self._device, device), (self._pool, pool))
            for one, cost in zip(buckets, costs, strict=True)
        ]

    def _full(
        self, identity: Identity, frames: Sequence[bytes], room: Room | None, *, sealed: bool
    ) -> Limit | None:
        """Whether a quota is used up. What is taken counts, until it is measured."""
        bounds, pool, more = self.bounds, identity.roster or identity.pool, sum(map(len, frames))
        sizes: list[tuple[str, int, _Measured]] = []
        if bounds.device_bytes and room is not None:
            sizes.append(("this device has", bounds.device_bytes, self._of_device(identity, room)))
        if bounds.document_bytes or bounds.pool_bytes:
            document, whole = self._of_room(identity.pool, pool)
            sizes.append(("this document has", bounds.document_bytes, document))
            sizes.append(("this pool has", bounds.pool_bytes, whole))
        for whose, most, size in sizes:
            total = size.total
            if not most or total + more <= most:
                continue
            moves = (_moves(one, total + more, most) if sealed else _deletes(one) for one in frames)
            if not all(moves):
                return Limit(f"{whose} all the {most} bytes it may have", FULL_RETRY_SECONDS)
        for _, _, size in sizes:
            size.since += more
        return None

    def _of_device(self, identity: Identity, room: Room) -> _Measured:
        key, now_s = f"{identity.pool} {identity.device}", self._clock.monotonic_s()
        size = self._held.get(key)
        if size is None or now_s - size.at_s >= MEASURE_SECONDS:
            size = self._held[key] = _Measured(now_s, room.live_bytes(identity.device))
        _bound(self._held, key)
        return size

    def _of_room(self, name: str, pool: str) -> tuple[_Measured, _Measured]:
        now_s = self._clock.monotonic_s()
        sizes = self._stored.get(name)
        if sizes is None:
            sizes = self._stored[name] = (_Measured(-MEASURE_SECONDS), _Measured(0.0))
        _bound(self._stored, name)
        document = sizes[0]
        if now_s - document.at_s >= MEASURE_SECONDS and not document.under_way:
            document.under_way = True
            # What comes from now on may be in what is found or not: it counts twice rather than never.
            counted = (document.since, sizes[1].since)
            task = asyncio.create_task(self._measure(name, pool, sizes, counted))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return sizes

    async def _measure(
        self,
        name: str,
        pool: str,
        sizes: tuple[_Measured, _Measured],
        counted: tuple[int, int],
    ) -> None:
        document = sizes[0]
        try:
            found = await self._workers.read(lambda: self._store.sizes(name, pool))
        except (StoreError, StoppingError) as error:
            log.warning("not measured pool=%s: %s", pool, error)
        else:
            bounds = (self.bounds.document_bytes, self.bounds.pool_bytes)
            for one, size, before, most in zip(sizes, found, counted, bounds, strict=True):
                one.size, one.since = size, one.since - before
                if most and size > most * SHRINK_PART:
                    self._shrink(name)
        finally:
            document.at_s, document.under_way = self._clock.monotonic_s(), False


def _device_key(identity: Identity) -> str:
    return f"{identity.roster or identity.pool} {identity.device}"


def _take(rates: Sequence[tuple[Bucket, str, int]]) -> None:
    for one, key, cost in rates:
        one.take(key, cost)


def _too_many(bucket: Bucket, wait: float) -> Limit:
    return Limit(f"over {bucket.most} {bucket.what} in a minute", wait)


def _moves(data: bytes, total: int, most: int) -> bool:
    """Whether an update is taken over a quota: it deletes, and adds nothing, or little."""
    try:
        frame = decode_frame(data)
        if not isinstance(frame, Step2 | Update):
            return False
        update = decode_update(frame.update)
    except ProtocolError:
        return True  # the room says what is wrong with it
    little = len(data) <= MOVING_BYTES and total <= most * MOVING_PART
    return not update.items or (bool(update.deletes) and little)


def _deletes(data: bytes) -> bool:
    """Whether an update of a plain room has no structs: it deletes, at most.

    A client that comes back tells all that was ever deleted, whether the hub knows it or not.
    """
    try:
        message = decode(data)
    except ProtocolError:
        return True  # the room says what is wrong with it
    return isinstance(message, Changes) and message.update[:1] == b"\0"


def _bound(
    kept: OrderedDict[str, _Measured] | OrderedDict[str, tuple[_Measured, _Measured]], key: str
) -> None:
    kept.move_to_end(key)
    while len(kept) > ADDRESSES_MAX:
        kept.popitem(last=False)
