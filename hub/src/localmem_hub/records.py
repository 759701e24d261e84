"""What an operator is shown of what is stored, whatever it is stored in."""

from __future__ import annotations

from dataclasses import dataclass

from localmem_hub.seams import Kind


@dataclass(frozen=True)
class PoolRecord:
    """One pool, or plain room. `entries` is the length of its roster, 0 if it has none; `bytes` what is
    stored of its documents; times in milliseconds since 1970."""

    pool: str
    entries: int
    epoch: int
    bytes: int
    created_ms: int
    kind: Kind = "sealed"


@dataclass(frozen=True)
class InvitationRecord:
    """One that may still be used. `name` is what the log calls it by; its code is kept nowhere."""

    name: str
    uses_left: int
    created_ms: int
    expires_ms: int


@dataclass(frozen=True)
class QuarantineRecord:
    """One refused update. `device` is its sender, in a plain room the id of the token; `size` in bytes;
    `at_ms` in milliseconds since 1970."""

    id: int
    pool: str
    device: str
    reason: str
    size: int
    at_ms: int
