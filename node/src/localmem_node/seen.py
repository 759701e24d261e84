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

import numpy as np
import numpy.typing as npt

from localmem_node.files import write_private

KEYS_MAX: Final = 524_288
"""Digests that are remembered, two or three for an event: years of hooks, or some hundred long
transcripts. The oldest are given up first, when the file holds twice as many."""

FRESH_MAX: Final = 16_384
"""Digests that are kept one by one, 100 bytes each, before they join the others at 8 bytes."""

PURPOSE: Final = "seen"
"""What the key is derived for."""

_MAGIC: Final = b"lmseen01"
_DIGEST: Final = 8
_TAG: Final = 16
_HEAD: Final = len(_MAGIC) + _TAG

Digests = npt.NDArray[np.uint64]

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
        self._fresh: dict[bytes, None] = {}
        self._written = 0
        self._kept: Digests = np.unique(self._load())

    def __len__(self) -> int:
        return len(self._kept) + len(self._fresh)

    def __contains__(self, digest: bytes) -> bool:
        if digest in self._fresh:
            return True
        wanted = np.frombuffer(digest, "<u8")[0]
        at = int(np.searchsorted(self._kept, wanted))
        return at < len(self._kept) and bool(self._kept[at] == wanted)

    def claim(self, key: str, also: Iterable[str] = (), unless: Iterable[str] = ()) -> Claim | None:
        """The right to record an event; None if it was recorded, or somebody is about to, under its
        key or one of `unless`.

        Whoever gets a claim must `keep` or `release` it.
        """
        digest = self._digest(key)
        digests = tuple(dict.fromkeys((digest, *map(self._digest, also))))
        looked_for = (digest, *map(self._digest, unless))
        with self._lock:
            if any(one in self or one in self._claimed for one in looked_for):
                return None
            self._claimed.update(digests)
        return Claim(digests)

    def keep(self, claims: Sequence[Claim]) -> None:
        """These events are durable."""
        if not claims:
            return
        with self._lock:
            fresh = dict.fromkeys(
                digest for claim in claims for digest in claim.digests if digest not in self
            )
            for claim in claims:
                self._claimed.difference_update(claim.digests)
            self._fresh |= fresh
            self._write(list(fresh))
            if len(self._fresh) > FRESH_MAX:
                self._settle()

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

    def _settle(self) -> None:
        fresh = np.frombuffer(b"".join(self._fresh), "<u8")
        self._kept = np.union1d(self._kept, fresh)
        self._fresh.clear()

    def _write(self, digests: Sequence[bytes]) -> None:
        try:
            if not self._written or self._written + len(digests) > 2 * KEYS_MAX:
                self._write_whole()
            else:
                self._append(b"".join(digests))
                self._written += len(digests)
        except OSError as error:
            self._written = 0  # whole again the next time
            logger.warning("%s: %s; events may be recorded twice", self._path, error.strerror)

    def _write_whole(self) -> None:
        """The newest, by their order in the file, and then what only memory knows."""
        written = self._load()
        known = written if len(written) else self._kept
        fresh = np.frombuffer(b"".join(self._fresh), "<u8")
        every = np.concatenate((known, fresh[~np.isin(fresh, known)]))[-KEYS_MAX:]
        write_private(self._path, self._head() + every.tobytes(), durable=False)
        self._written = len(every)
        self._kept = np.unique(every)
        self._fresh.clear()

    def _append(self, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags)
        try:
            if os.write(descriptor, data) != len(data):
                raise OSError(0, "was not written whole")
        finally:
            os.close(descriptor)

    def _load(self) -> Digests:
        """What the file has, oldest first."""
        nothing = np.zeros(0, "<u8")
        try:
            with self._path.open("rb") as file:
                found = file.read(_HEAD + 4 * KEYS_MAX * _DIGEST)
        except FileNotFoundError:
            return nothing
        except OSError as error:
            logger.warning("%s: %s; events may be recorded twice", self._path, error.strerror)
            return nothing
        if not hmac.compare_digest(found[:_HEAD], self._head()):
            logger.warning("%s is damaged; events may be recorded twice", self._path)
            return nothing
        data = found[_HEAD:]
        whole = len(data) - len(data) % _DIGEST  # the end may have been torn
        digests: Digests = np.frombuffer(data[:whole], "<u8")
        self._written = len(digests) if whole == len(data) else 0
        return digests


def seen_path(store: Path) -> Path:
    """Where this is kept for a store."""
    return store.with_name(f"{store.name}.seen")
