"""Opening the hub's container, and making it what this release needs."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from localmem_hub.blobs import names
from localmem_hub.blobs.address import Address
from localmem_hub.blobs.connecting import open_container
from localmem_hub.blobs.container import Container
from localmem_hub.errors import MigrationError

FORMAT: Final = 1


class _Marker(msgspec.Struct, frozen=True):
    format: int


def open_prepared(address: Address, *, migrate: bool = False, **options: Any) -> Container:
    """A container that is ready for a store. Raises ConfigError, MigrationError, StoreError."""
    container = open_container(address, **options)
    try:
        prepare(container, migrate=migrate)
    except BaseException:
        container.close()
        raise
    return container


def prepare(container: Container, *, migrate: bool = False) -> bool:
    """Make sure that the blobs are those of this release; whether anything was done.

    An empty container is taken; only with `migrate` one is made. Raises MigrationError.
    """
    made = False
    if migrate and not container.exists():
        container.make()
        made = True
    blob = container.read(names.HUB)
    if blob is None:
        if next(container.names(""), None) is not None:
            raise MigrationError("the container holds other blobs; give the hub one of its own")
        container.create(names.HUB, msgspec.json.encode(_Marker(FORMAT)))
        return True
    _check(blob.data)
    return made


def is_current(container: Container) -> bool:
    """Whether the container is one of this release."""
    blob = container.read(names.HUB)
    if blob is None:
        return False
    try:
        _check(blob.data)
    except MigrationError:
        return False
    return True


def _check(data: bytes) -> None:
    try:
        found = msgspec.json.decode(data, type=_Marker)
    except msgspec.DecodeError:
        raise MigrationError(
            "the container's blob `hub` is damaged; restore the container"
        ) from None
    if found.format > FORMAT:
        raise MigrationError(
            f"the container is of format {found.format} of a newer release; upgrade"
        )
