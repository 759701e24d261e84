"""Devices of a `World` without a roster sign, with real keys: everybody is a member."""

from __future__ import annotations

from functools import cache
from hashlib import blake2b
from typing import Final

from localmem_protocol.entries import Role
from localmem_protocol.heads import Position, SignedHead, sign_head
from localmem_protocol.keys import KEYS_BYTES, DeviceKeys, PublicKeys

POOL: Final = "e" * 32
"""The pool's id, as those with a roster have it: heads are signed for one."""


@cache
def keys_of(device: str) -> DeviceKeys:
    """A device's keys, which follow from its id."""
    return DeviceKeys.from_bytes(blake2b(device.encode(), digest_size=KEYS_BYTES).digest())


class SimulatedAuthorship:
    """Implements `signatures.Authorship` for one device."""

    def __init__(self, device: str) -> None:
        self._device = device

    def sign(self, at: Position) -> SignedHead:
        """As `Authorship` says."""
        return sign_head(at, self._device, keys_of(self._device))

    def keys_of(self, device: str) -> PublicKeys | None:
        """As `Authorship` says."""
        return keys_of(device).public

    def role_at(self, device: str, epoch: int) -> Role | None:
        """As `Authorship` says."""
        return "member"
