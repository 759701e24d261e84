"""What is known of a session beside its events: whether it had its digest, and since when the model
no longer has the session's own events in its context.

One small file beside the store, as with `delivered`: digests of sessions under a key of the store's,
replaced whole when a session starts or is compacted, and so still true after a crash. Damaged, or of
another store, it starts anew: a session is then told once more what it had.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import Final, Literal

import msgspec

from localmem_node.errors import ConfigError
from localmem_node.files import read_private, write_private

SESSIONS_MAX: Final = 256
"""What was used longest ago is given up first."""

PURPOSE: Final = "sessions"
"""What the key is derived for."""

_MAGIC: Final = b"lmsessn1"
_DIGEST: Final = 8
_TAG: Final = 16

logger = logging.getLogger(__name__)

Owed = Literal["", "project", "session"]


class SessionState(msgspec.Struct, frozen=True, array_like=True):
    """`lost_ms`: the model has none of the session's events from before (0: it has all). `owed`: the
    digest that it is to be given next. `compacting`: the compaction under way is known of.
    """

    lost_ms: int = 0
    owed: Owed = "project"
    compacting: bool = False


_ROWS: Final = msgspec.msgpack.Decoder(list[tuple[bytes, SessionState]])


class SessionStates:
    """Thread-safe. A session is whatever text names it."""

    def __init__(self, path: Path, key: bytes) -> None:
        """`path` need not exist; its folder must."""
        self._path, self._key = path, key
        self._lock = Lock()
        self._states = self._load()

    def of(self, session: str) -> SessionState:
        """What is known of a session."""
        with self._lock:
            return self._states.get(self._name(session), SessionState())

    def change(
        self, session: str, change: Callable[[SessionState], SessionState]
    ) -> tuple[SessionState, SessionState]:
        """The state before and after; on disk when it returns, unless the disk is full."""
        name = self._name(session)
        with self._lock:
            before = self._states.get(name, SessionState())
            after = change(before)
            if after != before or name not in self._states:
                self._states.pop(name, None)
                self._states[name] = after  # the newest
                while len(self._states) > SESSIONS_MAX:
                    del self._states[next(iter(self._states))]
                self._save()
            return before, after

    def _name(self, session: str) -> bytes:
        data = session.encode(errors="surrogatepass")
        return blake2b(data, digest_size=_DIGEST, key=self._key, person=b"session").digest()

    def _tag(self, data: bytes) -> bytes:
        return blake2b(data, digest_size=_TAG, key=self._key, person=b"file").digest()

    def _save(self) -> None:
        data = msgspec.msgpack.encode(list(self._states.items()))
        try:
            write_private(self._path, _MAGIC + self._tag(data) + data, durable=False)
        except OSError as error:
            logger.warning("%s: %s; a digest may be repeated", self._path, error.strerror)

    def _load(self) -> dict[bytes, SessionState]:
        if not self._path.exists():
            return {}
        try:
            found = read_private(self._path, "the states of sessions")
        except ConfigError as error:
            logger.warning("%s; a digest may be repeated", error)
            return {}
        head, data = found[: len(_MAGIC) + _TAG], found[len(_MAGIC) + _TAG :]
        if not hmac.compare_digest(head, _MAGIC + self._tag(data)):
            logger.warning("%s is damaged; a digest may be repeated", self._path)
            return {}
        return dict(_ROWS.decode(data))


def states_path(store: Path) -> Path:
    """Where this is kept for a store."""
    return store.with_name(f"{store.name}.sessions")
