"""What was given to which session already, so that no block of context repeats it.

One small file beside the store: digests of sessions and of events' texts under a key of the store's,
so that the file alone says nothing. It is replaced whole before an answer goes out, and so outlives
a process that is killed; it is not synced, because after a power cut there is no session to go on.
A file that is damaged, or of another store, is no reason to fail: everything is told again.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import Final

import msgspec

from localmem_node.errors import ConfigError
from localmem_node.files import read_private, write_private
from localmem_protocol.events import Event

SESSIONS_MAX: Final = 256
EVENTS_MAX: Final = 4096
"""Of all sessions together; 8 bytes each. What was used longest ago is given up first."""

PURPOSE: Final = "delivered"
"""What the key is derived for."""

_MAGIC: Final = b"lmdeliv1"
_DIGEST: Final = 8
_TAG: Final = 16

_Sessions = list[tuple[bytes, bytes]]
_DECODER: Final = msgspec.msgpack.Decoder(_Sessions)

logger = logging.getLogger(__name__)


class Delivered:
    """Thread-safe. A session is whatever text names it."""

    def __init__(self, path: Path, key: bytes) -> None:
        """`path` need not exist; its folder must."""
        self._path, self._key = path, key
        self._lock = Lock()
        self._sessions = self._load()

    def known(self, session: str, events: Iterable[Event]) -> set[str]:
        """The ids of those events whose text the session was given."""
        with self._lock:
            given = self._sessions.get(self._session(session), {})
            return {event.id for event in events if self._event(event) in given}

    def add(self, session: str, events: Sequence[Event]) -> None:
        """The session is given these; on disk when it returns, unless the disk is full."""
        if not events:
            return
        with self._lock:
            name = self._session(session)
            given = self._sessions.pop(name, {})
            for event in events:
                digest = self._event(event)
                given.pop(digest, None)
                given[digest] = None
            self._sessions[name] = given  # the newest
            self._bound()
            self._save()

    def take_back(self, session: str, events: Iterable[Event]) -> None:
        """The session was not given these after all."""
        with self._lock:
            given = self._sessions.get(self._session(session), {})
            found = [digest for digest in map(self._event, events) if digest in given]
            for digest in found:
                del given[digest]
            if found:
                self._save()

    def reset(self, session: str) -> None:
        """The session was given nothing, from now on."""
        with self._lock:
            if self._sessions.pop(self._session(session), None) is not None:
                self._save()

    def _bound(self) -> None:
        while len(self._sessions) > SESSIONS_MAX:
            del self._sessions[next(iter(self._sessions))]
        surplus = sum(map(len, self._sessions.values())) - EVENTS_MAX
        for name in list(self._sessions):
            if surplus <= 0:
                return
            given = self._sessions[name]
            for digest in list(given)[:surplus]:
                del given[digest]
                surplus -= 1
            if not given:
                del self._sessions[name]

    def _session(self, session: str) -> bytes:
        return self._digest(b"session", session.encode())

    def _event(self, event: Event) -> bytes:
        """Equal for equal texts from the same place, whichever event had it."""
        shown = msgspec.msgpack.encode((event.kind, event.file_path, event.snippet))
        return self._digest(b"event", shown)

    def _digest(self, purpose: bytes, data: bytes) -> bytes:
        return blake2b(data, digest_size=_DIGEST, key=self._key, person=purpose).digest()

    def _tag(self, data: bytes) -> bytes:
        return blake2b(data, digest_size=_TAG, key=self._key, person=b"file").digest()

    def _save(self) -> None:
        rows = [(name, b"".join(given)) for name, given in self._sessions.items()]
        data = msgspec.msgpack.encode(rows)
        try:
            write_private(self._path, _MAGIC + self._tag(data) + data, durable=False)
        except OSError as error:
            logger.warning("%s: %s; may be repeated after a restart", self._path, error.strerror)

    def _load(self) -> dict[bytes, dict[bytes, None]]:
        if not self._path.exists():
            return {}
        try:
            found = read_private(self._path, "what sessions were given")
        except ConfigError as error:
            logger.warning("%s; what sessions were given may be repeated", error)
            return {}
        head, data = found[: len(_MAGIC) + _TAG], found[len(_MAGIC) + _TAG :]
        if not hmac.compare_digest(head, _MAGIC + self._tag(data)):
            logger.warning("%s is damaged; what sessions were given may be repeated", self._path)
            return {}
        return {
            name: {digests[at : at + _DIGEST]: None for at in range(0, len(digests), _DIGEST)}
            for name, digests in _DECODER.decode(data)
        }


def delivered_path(store: Path) -> Path:
    """Where this is kept for a store."""
    return store.with_name(f"{store.name}.delivered")
