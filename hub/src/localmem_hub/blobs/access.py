"""What access by key needs on blobs: the hub's own secrets, spent challenges, and new invitations."""

from __future__ import annotations

from secrets import randbelow, token_bytes
from typing import Final

from localmem_hub.blobs import invitations, names
from localmem_hub.blobs.container import Container
from localmem_hub.blobs.invitations import Invitation
from localmem_hub.errors import CommitError
from localmem_hub.invitations import new_code
from localmem_hub.limits import DAY_MS
from localmem_hub.records import InvitationRecord
from localmem_protocol.seams import Random

SECRET_BYTES: Final = 32
SWEPT_ONCE_IN: Final = 64
"""Challenges after which those that have expired are removed, on average."""

_TIME_DIGITS: Final = 15


class BlobAccess:
    """An `AccessStore` on blobs, and the invitations of the operator."""

    def __init__(self, container: Container) -> None:
        self._container = container

    def secret(self, name: str, random: Random) -> bytes:
        """As `AccessStore` says."""
        blob = self._container.read(f"secrets/{name}")
        if blob is None:
            self._container.create(f"secrets/{name}", random.token_bytes(SECRET_BYTES))
            blob = self._container.read(f"secrets/{name}")  # of whoever was first
        if blob is None:
            raise CommitError("cannot keep the hub's secret")
        return blob.data

    def spend(self, nonce: str, expires_ms: int, now_ms: int) -> bool:
        """As `AccessStore` says; now and then those that have expired are forgotten."""
        if randbelow(SWEPT_ONCE_IN) == 0:
            self.sweep(now_ms)
        mine = token_bytes(8)
        name = f"{names.SPENT}{expires_ms:0{_TIME_DIGITS}d}-{nonce}"
        if self._container.create(name, mine):
            return True
        blob = self._container.read(name)
        return blob is not None and blob.data == mine  # by this very call, whose answer was lost

    def invite(self, uses: int, days: int, random: Random, now_ms: int) -> str:
        """A new invitation for so many pools; its code. Raises ConfigError."""
        code = new_code(uses, days, random)
        kept = Invitation(uses, now_ms + days * DAY_MS, now_ms)
        invitations.create(self._container, code, kept)
        return code

    def invitations(self, now_ms: int) -> list[InvitationRecord]:
        """Those that may still be used, oldest first."""
        return invitations.usable(self._container, now_ms)

    def disinvite(self, name: str) -> bool:
        """End an invitation by its name; False if there is none."""
        return invitations.end(self._container, name)

    def sweep(self, now_ms: int) -> None:
        """Forget what has expired."""
        for one in list(self._container.names(names.SPENT)):
            if int(one.name.removeprefix(names.SPENT)[:_TIME_DIGITS]) >= now_ms:
                break
            self._container.delete(one.name)
        invitations.sweep(self._container, now_ms)
