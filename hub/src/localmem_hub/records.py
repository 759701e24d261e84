"""What is told of what is stored, to an operator and to the hub itself, whatever it is stored in."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from localmem_hub.seams import Kind, PastEpoch


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


def past_epochs(
    began: Mapping[tuple[str, int], tuple[int, int | None]],
    readers: Mapping[tuple[str, int], AbstractSet[str]],
) -> list[PastEpoch]:
    """The epochs that are over: those after which another began. `began` has when the room of an epoch of a
    pool was made and when it was dropped, `readers` who has read it to its end."""
    return [
        PastEpoch(
            name, epoch, began[name, epoch + 1][0], frozenset(readers.get((name, epoch), ())), gone
        )
        for (name, epoch), (_, gone) in sorted(began.items())
        if (name, epoch + 1) in began
    ]
