"""Invitations, each a small blob whose number of uses goes down by conditional writes."""

from __future__ import annotations

from typing import Final

import msgspec

from localmem_hub.blobs import names
from localmem_hub.blobs.container import Container
from localmem_hub.errors import CommitError
from localmem_hub.invitations import NAME_DIGITS, hash_of, is_code, is_name, unknown
from localmem_hub.records import InvitationRecord

TRIES: Final = 8


class Invitation(msgspec.Struct, frozen=True):
    """What is kept of one, under the hash of its code."""

    uses_left: int
    expires_ms: int
    created_ms: int


def create(container: Container, code: str, invitation: Invitation) -> None:
    """Have a new one."""
    container.create(names.INVITATIONS + hash_of(code), msgspec.json.encode(invitation))


def take(container: Container, code: str, now_ms: int) -> None:
    """Use one once. Raises AdmissionError."""
    if not is_code(code) or not _change(container, code, -1, now_ms):
        raise unknown()


def give_back(container: Container, code: str) -> None:
    """It was used in vain."""
    _change(container, code, 1, 0)


def usable(container: Container, now_ms: int) -> list[InvitationRecord]:
    """Those that may still be used, oldest first."""
    found: list[InvitationRecord] = []
    for one in container.names(names.INVITATIONS):
        blob = container.read(one.name)
        held = msgspec.json.decode(blob.data, type=Invitation) if blob is not None else None
        if held is not None and held.uses_left and held.expires_ms >= now_ms:
            name = one.name.removeprefix(names.INVITATIONS)[:NAME_DIGITS]
            found.append(InvitationRecord(name, held.uses_left, held.created_ms, held.expires_ms))
    return sorted(found, key=lambda one: (one.created_ms, one.name))


def end(container: Container, name: str) -> bool:
    """End one by its name; False if there is none."""
    if not is_name(name):
        return False
    here = list(container.names(names.INVITATIONS + name))
    return sum(container.delete(one.name) for one in here) > 0


def sweep(container: Container, now_ms: int) -> None:
    """Remove those that have expired."""
    for one in list(container.names(names.INVITATIONS)):
        blob = container.read(one.name)
        if blob is None:
            continue
        if msgspec.json.decode(blob.data, type=Invitation).expires_ms < now_ms:
            container.delete(one.name, blob.etag)


def _change(container: Container, code: str, change: int, now_ms: int) -> bool:
    name = names.INVITATIONS + hash_of(code)
    for _ in range(TRIES):
        blob = container.read(name)
        if blob is None:
            return False
        held = msgspec.json.decode(blob.data, type=Invitation)
        if held.uses_left + change < 0 or held.expires_ms < now_ms:
            return False
        changed = Invitation(held.uses_left + change, held.expires_ms, held.created_ms)
        if container.replace(name, msgspec.json.encode(changed), blob.etag):
            return True
    raise CommitError("cannot use an invitation: others use it at the same time; try again")
