"""Rosters, each an append blob that grows by one entry at a time (`x-ms-blob-condition-appendpos`).

Of two who append at once, one finds that it is longer by then. A roster that is known here is asked for
what is new with one request, which brings nothing if there is nothing.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from secrets import token_bytes
from typing import Final

import msgspec

from localmem_hub.blobs import invitations, manifest, names
from localmem_hub.blobs.container import Container, GoneError
from localmem_hub.blobs.frames import unwrap, wrap
from localmem_hub.blobs.manifest import Manifest
from localmem_hub.blobs.switching import create_room
from localmem_hub.errors import CommitError, LengthError
from localmem_hub.limits import ROSTERS_CACHED_BYTES
from localmem_hub.seams import RosterMark
from localmem_protocol.access import room_name
from localmem_protocol.entries import entry_hash

TRIES: Final = 8
NONCE_BYTES: Final = 12
ENDING_BYTES: Final = 16
"""Of what is known, which are read again: another roster under the name ends otherwise."""


class Founded(msgspec.Struct, frozen=True, array_like=True):
    """What a roster's blob begins with; `nonce` says by which call."""

    nonce: bytes
    recovery: str
    created_ms: int


@dataclass
class _Known:
    """A roster as it was read."""

    founded: Founded | None = None
    entries: list[bytes] = field(default_factory=list)
    length: int = 0
    undecided: bytes = b""
    ending: bytes = b""
    size: int = 0

    def take(self, data: bytes) -> None:
        text = self.undecided + data
        found, done = unwrap(text)
        if found and self.founded is None:
            self.founded = msgspec.msgpack.decode(found.pop(0), type=Founded)
        self.entries += found
        self.size += sum(map(len, found))
        self.length += len(data)
        self.undecided = text[done:]
        self.ending = (self.ending + data)[-ENDING_BYTES:]

    @property
    def mark(self) -> RosterMark | None:
        if not self.entries:
            return None
        return RosterMark(len(self.entries), entry_hash(self.entries[-1]))


class BlobRosters:
    """A `RosterStore` on blobs."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def mark(self, pool: str) -> RosterMark | None:
        """As `RosterStore` says."""
        with self._lock:
            return self._refresh(pool).mark

    def read(self, pool: str, start: int, bytes_max: int) -> list[bytes]:
        """As `RosterStore` says."""
        with self._lock:
            entries = self._refresh(pool).entries[start:]
        size, some = 0, 0
        for entry in entries:
            size += len(entry)
            if some and size > bytes_max:
                break
            some += 1
        return entries[:some]

    def found(
        self,
        pool: str,
        entry: bytes,
        mark: RosterMark,
        recovery: str,
        invitation: str | None,
        now_ms: int,
    ) -> bool:
        """As `RosterStore` says. An invitation that was used in vain is given back."""
        with self._lock:
            if self._refresh(pool).mark is not None:
                return False
        if invitation is not None:
            invitations.take(self._container, invitation, now_ms)
        made = False
        try:
            made = self._found(pool, entry, recovery, now_ms)
        finally:
            if invitation is not None and not made:
                invitations.give_back(self._container, invitation)
        if made:
            create_room(self._container, room_name(pool, 1), Manifest.new(1, now_ms))
        return made

    def append(self, pool: str, entry: bytes, mark: RosterMark, epoch: int, now_ms: int) -> None:
        """As `RosterStore` says."""
        with self._lock:
            self._append(pool, entry, mark.length)
        # After the entry: an epoch that has a room and is in no roster would end the one before it.
        room = room_name(pool, epoch)
        if manifest.read(self._container, room) is None:
            create_room(self._container, room, Manifest.new(epoch, now_ms))

    def recovered(self, recovery: str, limit: int) -> list[str]:
        """As `RosterStore` says."""
        prefix = names.recovery(recovery)
        found = [
            (int(one.metadata.get("created_ms", "0")), one.name.removeprefix(prefix))
            for one in self._container.names(prefix, metadata=True)
        ]
        return [pool for _, pool in sorted(found)[:limit]]

    def created_ms(self, pool: str) -> int:
        """When a pool was made, in milliseconds since 1970; 0 if there is none."""
        with self._lock:
            founded = self._refresh(pool).founded
        return 0 if founded is None else founded.created_ms

    def remove(self, pool: str) -> bool:
        """Remove a pool's roster; False if it has none."""
        with self._lock:
            founded = self._refresh(pool).founded
            self._known.pop(pool, None)
        self._container.delete(names.roster(pool))
        if founded is not None:
            self._container.delete(names.recovery(founded.recovery) + pool)
        return founded is not None

    def _found(self, pool: str, entry: bytes, recovery: str, now_ms: int) -> bool:
        marker = names.recovery(recovery) + pool
        self._container.create(marker, b"", {"created_ms": str(now_ms)})
        self._container.create_log(names.roster(pool))
        founded = Founded(token_bytes(NONCE_BYTES), recovery, now_ms)
        block = wrap(msgspec.msgpack.encode(founded)) + wrap(entry)
        with self._lock:
            for _ in range(TRIES):
                known = self._refresh(pool)
                if known.mark is not None:
                    return known.founded == founded
                if self._container.append_at(names.roster(pool), block, known.length) is not None:
                    known.take(block)
                    return True
        raise CommitError("cannot make a pool: others write to its roster; try again")

    def _append(self, pool: str, entry: bytes, length: int) -> None:
        """Have it as the entry that makes the roster so long."""
        block = wrap(entry)
        for attempt in range(TRIES):
            known = self._refresh(pool) if attempt or pool not in self._known else self._known[pool]
            entries = known.entries
            if attempt and entries[length - 1 : length] == [entry]:
                return  # by this very call, whose answer was lost
            if attempt and len(entries) != length - 1:
                if not entries:
                    raise CommitError(f"there is no pool {pool}")
                raise LengthError(len(entries))
            if len(entries) != length - 1:
                continue
            try:
                if self._container.append_at(names.roster(pool), block, known.length) is not None:
                    known.take(block)
                    return
            except GoneError:
                self._known.pop(pool, None)
        raise CommitError("cannot store a roster entry: others write to its roster; try again")

    def _refresh(self, pool: str) -> _Known:
        """A roster as it is now, empty if there is none."""
        known = self._known.get(pool) or _Known()
        data = self._container.tail(names.roster(pool), known.length - len(known.ending))
        if data is not None and known.ending and not data.startswith(known.ending):
            known = _Known()  # removed, and made again under the same name
            data = self._container.tail(names.roster(pool), 0)
        if data is None:
            self._known.pop(pool, None)
            return _Known()
        known.take(data[len(known.ending) :])
        self._known[pool] = known
        self._known.move_to_end(pool)
        size = sum(one.size for one in self._known.values())
        while size > ROSTERS_CACHED_BYTES and len(self._known) > 1:
            size -= self._known.popitem(last=False)[1].size
        return known
