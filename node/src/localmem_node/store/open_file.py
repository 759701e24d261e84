"""From a path or a disk to an open ring file in its parts; and making one where there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from localmem_node.errors import StoreError, WrongKey
from localmem_node.seams import Disk, KeyStore
from localmem_node.store.bodies import Reader
from localmem_node.store.checkpoint import IndexSection, unpack_payload
from localmem_node.store.creation import SALT_BYTES, Origin, new_slots
from localmem_node.store.disk import FileDisk, create_file, reason, write_all
from localmem_node.store.layout import VERSION, Geometry, Identity
from localmem_node.store.recovery import Slot, genuine, read_slots, recover, unlock
from localmem_node.store.ring import Ring
from localmem_node.store.vault import Vault, unwrap_with_recovery
from localmem_protocol.seams import Random

Unlock = Callable[[list[Slot], str], tuple[list[Slot], Vault]]


@dataclass(frozen=True)
class OpenFile:
    """An open ring file in its parts."""

    identity: Identity
    ring: Ring
    index: IndexSection
    vault: Vault
    key_location: str


def open_path(path: Path, keystore: KeyStore, random: Random) -> OpenFile:
    """Open the file at a path. Raises what `opening` says; the file is then as it was."""
    return _open_path(path, random, _by(keystore), keystore.location)


def open_with_recovery(path: Path, private: bytes, random: Random) -> OpenFile:
    """Open the file at a path by its recovery key. Raises WrongKey, and the same as `open_path`."""

    def unlock_by_recovery(slots: list[Slot], name: str) -> tuple[list[Slot], Vault]:
        for slot in slots:
            keys = unwrap_with_recovery(slot.identity, private)
            found = None if keys is None else genuine(slots, slot.identity, keys)
            if found is not None:
                return found
        raise WrongKey(
            f"the recovery code does not open {name}; give the one that was exported last"
        )

    return _open_path(path, random, unlock_by_recovery, "the recovery code")


def open_file(
    disk: Disk, read: Reader, name: str, random: Random, unlock_slots: Unlock, key_location: str
) -> OpenFile:
    """Open what is on a disk. `read` serves what was read from it before."""
    try:
        # What the last owner wrote and did not live to sync must be on the medium before it is
        # relied on.
        disk.sync()
    except OSError as error:
        raise StoreError(f"cannot sync {name}: {reason(error)}; check the disk") from None
    slots, vault = unlock_slots(read_slots(disk, name), name)
    identity = slots[0].identity
    index = IndexSection(disk, identity.geometry, vault, random)
    checkpoint = index.read() if identity.version == VERSION else None
    payload = None if checkpoint is None else unpack_payload(checkpoint.payload)
    found = recover(disk, slots, vault, None if payload is None else payload[0])
    ring = Ring(disk, read, vault, random, found, name)
    if found.taken_up and identity.version == VERSION:  # an older file is only read
        ring.settle()
    # A checkpoint that knows more than the ring outlived damage to it: those ordinals are used, and
    # nothing else in it is to be believed once others are written.
    if checkpoint is not None and checkpoint.ordinal >= ring.next_ordinal:
        ring.skip_to(checkpoint.ordinal + 1)
        try:
            index.discard()
        except OSError as error:
            ring.fail(error)
    return OpenFile(found.identity, ring, index, vault, key_location)


def open_disk(disk: Disk, name: str, keystore: KeyStore, random: Random) -> OpenFile:
    """Open what is on a disk that is no file of the operating system."""
    return open_file(disk, disk.pread, name, random, _by(keystore), keystore.location)


def create_at(
    path: Path, geometry: Geometry, keystore: KeyStore, random: Random, origin: Origin | None = None
) -> None:
    """Make a store at a path, whole or not at all. Raises StoreError, KeyUnavailable."""
    salt = random.token_bytes(SALT_BYTES)
    slots = new_slots(geometry, keystore, random, salt, origin)
    try:
        create_file(path, geometry.size, lambda fd: write_all(fd, 0, slots), random)
    except BaseException:
        keystore.discard(salt)
        raise


def create_on(disk: Disk, geometry: Geometry, keystore: KeyStore, random: Random) -> None:
    """Make a store on an empty disk. Raises StoreError, KeyUnavailable."""
    slots = new_slots(geometry, keystore, random, random.token_bytes(SALT_BYTES))
    try:
        disk.pwrite(geometry.size - 1, b"\0")
        disk.pwrite(0, slots)
        disk.sync()
    except OSError as error:
        raise StoreError(
            f"cannot create a store of {geometry.size} bytes: {reason(error)}"
        ) from None


def _by(keystore: KeyStore) -> Unlock:
    return lambda slots, name: unlock(slots, keystore, name)


def _open_path(path: Path, random: Random, unlock_slots: Unlock, key_location: str) -> OpenFile:
    disk = FileDisk(path)
    try:
        return open_file(disk, disk.mapped, str(path), random, unlock_slots, key_location)
    except BaseException:
        disk.close()
        raise
