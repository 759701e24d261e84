"""Which real-world events were recorded already, whatever the way they came by.

Editors tell the same event more than once: two hooks, a hook that another editor replays, a spooled
one, a transcript that is imported later. One small file beside the store has digests of the events'
keys (`editors.captured.key_of`) under a key of the store's, so that the file alone says nothing. It
is only appended to, after the events are durable: what a crash takes from it is recorded once more at
the most. A file that is damaged, or of another store, is no reason to fail: it starts anew.
"""

from __future__ import annotations

import hmac
import logging
import os
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import Final

from localmem_node.files import write_private

KEYS_MAX: Final = 65_536
"""Digests that are remembered, two or three for an event; the oldest are given up first."""

PURPOSE: Final = "seen"
"""What the key is derived for."""

_MAGIC: Final = b"lmseen01"
_DIGEST: Final = 8
_TAG: Final = 16
_HEAD: Final = len(_MAGIC) + _TAG

logger = logging.getLogger(__name__)


class Claim:
    """Keys of one event on its way into the store."""

    __slots__ = ("digests",)

    def __init__(self, digests: tuple[bytes, ...]) -> None:
        self.digests = digests


class Seen:
    """Thread-safe."""

    def __init__(self, path: Path, key: bytes) -> None:
        """`path` need not exist; its folder must."""
        self._path, self._key = path, key
        self._lock = Lock()
        self._claimed: set[bytes] = set()
        self._written = 0
        self._seen = self._load()

    def __len__(self) -> int:
        return len(self._seen)

    def claim(self, key: str, also: Iterable[str] = ()) -> Claim | None:
        """The right to record an event; None if it was recorded, or somebody is about to.

        Whoever gets a claim must `keep` or `release` it.
        """
        digest = self._digest(key)
        digests = tuple(dict.fromkeys((digest, *map(self._digest, also))))
        with self._lock:
            if digest in self._seen or digest in self._claimed:
                return None
            self._claimed.update(digests)
        return Claim(digests)

    def keep(self, claims: Sequence[Claim]) -> None:
        """These events are durable."""
        if not claims:
            return
        with self._lock:
            fresh = [
                digest for claim in claims for digest in claim.digests if digest not in self._seen
            ]
            for claim in claims:
                self._claimed.difference_update(claim.digests)
            self._seen.update(dict.fromkeys(fresh))
            while len(self._seen) > KEYS_MAX:
                del self._seen[next(iter(self._seen))]
            self._write(fresh)

    def release(self, claims: Iterable[Claim]) -> None:
        """These events were not recorded."""
        with self._lock:
            for claim in claims:
                self._claimed.difference_update(claim.digests)

    def _digest(self, key: str) -> bytes:
        data = key.encode(errors="surrogatepass")
        return blake2b(data, digest_size=_DIGEST, key=self._key, person=b"seen").digest()

    def _head(self) -> bytes:
        return _MAGIC + blake2b(_MAGIC, digest_size=_TAG, key=self._key, person=b"file").digest()

    def _write(self, digests: Sequence[bytes]) -> None:
        try:
            if not self._written or self._written + len(digests) > 2 * KEYS_MAX:
                write_private(self._path, self._head() + b"".join(self._seen), durable=False)
                self._written = len(self._seen)
            else:
                self._append(b"".join(digests))
                self._written += len(digests)
        except OSError as error:
            self._written = 0  # whole again the next time
            logger.warning("%s: %s; events may be recorded twice", self._path, error.strerror)

    def _append(self, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags)
        try:
            if os.write(descriptor, data) != len(data):
                raise OSError(0, "was not written whole")
        finally:
            os.close(descriptor)

    def _load(self) -> dict[bytes, None]:
        try:
            with self._path.open("rb") as file:
                found = file.read(_HEAD + 4 * KEYS_MAX * _DIGEST)
        except FileNotFoundError:
            return {}
        except OSError as error:
            logger.warning("%s: %s; events may be recorded twice", self._path, error.strerror)
            return {}
        if not hmac.compare_digest(found[:_HEAD], self._head()):
            logger.warning("%s is damaged; events may be recorded twice", self._path)
            return {}
        data = found[_HEAD:]
        whole = len(data) - len(data) % _DIGEST  # the end may have been torn
        digests = [data[at : at + _DIGEST] for at in range(0, whole, _DIGEST)]
        self._written = len(digests) if whole == len(data) else 0
        return dict.fromkeys(dict.fromkeys(digests[-KEYS_MAX:]))


def seen_path(store: Path) -> Path:
    """Where this is kept for a store."""
    return store.with_name(f"{store.name}.seen")
