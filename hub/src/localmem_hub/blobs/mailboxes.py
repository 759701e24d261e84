"""Mailboxes on blobs: a box for the two parties, and a blob for each message.

Messages are under a name that chance gave the box, so that those of an earlier one of this number are
nobody's.
"""

from __future__ import annotations

import hmac
from secrets import token_hex
from typing import Final

import msgspec

from localmem_hub.blobs import names
from localmem_hub.blobs.container import Blob, Container
from localmem_hub.errors import CommitError
from localmem_hub.limits import MAILBOXES_MAX
from localmem_hub.mailbox_numbers import free_number
from localmem_hub.seams import Party
from localmem_protocol.seams import Random

TRIES: Final = 8


class _Box(msgspec.Struct, frozen=True):
    chance: str
    opener: bytes
    expires_ms: int
    joiner: bytes | None = None
    joined: str = ""  # by which call


class BlobMailboxes:
    """A `MailboxStore` on blobs."""

    def __init__(self, container: Container) -> None:
        self._container = container

    def open(self, secret_hash: bytes, expires_ms: int, random: Random, now_ms: int) -> int | None:
        """As `MailboxStore` says."""
        box = _Box(token_hex(8), secret_hash, expires_ms)
        metadata = {"expires_ms": str(expires_ms)}
        for _ in range(TRIES):
            taken = self._taken(now_ms)
            if len(taken) >= MAILBOXES_MAX:
                return None
            number = free_number(taken, random)
            if self._container.create(_name(number), msgspec.json.encode(box), metadata):
                return number
            found = self._box(number)
            if found is not None and found[0] == box:
                return number  # by this very call, whose answer was lost
        raise CommitError("cannot open a mailbox: others take the numbers; try again")

    def join(self, number: int, secret_hash: bytes, now_ms: int) -> bool:
        """As `MailboxStore` says."""
        call = token_hex(8)
        for _ in range(TRIES):
            found = self._box(number)
            if found is None:
                return False
            box, blob = found
            if box.joined == call:
                return True  # its answer was lost
            if box.joiner is not None or box.expires_ms <= now_ms:
                return False
            joined = msgspec.json.encode(
                msgspec.structs.replace(box, joiner=secret_hash, joined=call)
            )
            if self._container.replace(_name(number), joined, blob.etag, blob.metadata):
                return True
        raise CommitError("cannot join a mailbox; try again")

    def party(self, number: int, secret_hash: bytes, now_ms: int) -> Party | None:
        """As `MailboxStore` says."""
        found = self._box(number)
        box = found[0] if found is not None and found[0].expires_ms > now_ms else None
        # The same work for a number that does not exist, or that nobody joined.
        opener = box.opener if box is not None else b""
        joiner = (box.joiner if box is not None else None) or b""
        is_opener = hmac.compare_digest(opener, secret_hash)
        is_joiner = hmac.compare_digest(joiner, secret_hash)
        return "opener" if is_opener else "joiner" if is_joiner else None

    def put(self, number: int, slot: int, data: bytes) -> bool:
        """As `MailboxStore` says."""
        found = self._box(number)
        if found is None:
            return False
        if self._container.create(_message(number, found[0], slot), data):
            return True
        return self.get(number, slot) == data

    def get(self, number: int, slot: int) -> bytes | None:
        """As `MailboxStore` says."""
        found = self._box(number)
        blob = found and self._container.read(_message(number, found[0], slot))
        return blob.data if blob else None

    def remove(self, number: int) -> None:
        """As `MailboxStore` says."""
        self._container.delete(_name(number))
        for one in list(self._container.names(f"{names.MAILBOXES}{number}/")):
            if not one.name.endswith("/box"):
                self._container.delete(one.name)

    def sweep(self, now_ms: int) -> None:
        """As `MailboxStore` says."""
        self._taken(now_ms)

    def _taken(self, now_ms: int) -> set[int]:
        """The numbers that are in use; those that have expired are ended."""
        taken: set[int] = set()
        for one in list(self._container.names(names.MAILBOXES, metadata=True)):
            number, _, rest = one.name.removeprefix(names.MAILBOXES).partition("/")
            if rest != "box":
                continue
            if int(one.metadata.get("expires_ms", "0")) > now_ms:
                taken.add(int(number))
            else:
                self.remove(int(number))
        return taken

    def _box(self, number: int) -> tuple[_Box, Blob] | None:
        blob = self._container.read(_name(number))
        return None if blob is None else (msgspec.json.decode(blob.data, type=_Box), blob)


def _name(number: int) -> str:
    return f"{names.MAILBOXES}{number}/box"


def _message(number: int, box: _Box, slot: int) -> str:
    return f"{names.MAILBOXES}{number}/{box.chance}/{slot}"
