"""The first bytes of a new store: its keys, and two slots around nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from localmem_node.seams import KeyStore
from localmem_node.store.blocks import NO_OPEN_ID, pack_block
from localmem_node.store.keys import PassphraseStore, mode_of
from localmem_node.store.layout import Cost, Geometry, Identity, State
from localmem_node.store.slots import pack_slot
from localmem_node.store.vault import NO_RECOVERY, Keys, Vault, wrap
from localmem_protocol.events import DEVICE_ID_BYTES
from localmem_protocol.seams import Random

FIRST_ORDINAL: Final = 1
SALT_BYTES: Final = 16


@dataclass(frozen=True)
class Origin:
    """What a new file goes on from, when it takes the place of another one."""

    device: bytes
    keys: Keys | None  # whose lasting key goes on
    recovery_key: bytes
    first_ordinal: int
    sequence: int
    clock: int


def new_slots(
    geometry: Geometry,
    keystore: KeyStore,
    random: Random,
    salt: bytes,
    origin: Origin | None = None,
) -> bytes:
    """Both slots of an empty store with new keys. Raises KeyUnavailable.

    Its device id and lasting key are new as well, unless there is an `origin`.
    """
    wrapping_key = keystore.create(salt)
    keys = Keys.draw(random, origin.keys if origin else None)
    identity = Identity(
        geometry=geometry,
        device=origin.device if origin else random.token_bytes(DEVICE_ID_BYTES),
        salt=salt,
        key_mode=mode_of(keystore),
        cost=keystore.cost if isinstance(keystore, PassphraseStore) else Cost(),
        recovery_key=origin.recovery_key if origin else NO_RECOVERY,
    )
    identity = wrap(keys, wrapping_key, identity, random)
    first = origin.first_ordinal if origin else FIRST_ORDINAL
    packed = pack_block(
        geometry.block_size, carried=0, number=0, ordinal=first, open_id=NO_OPEN_ID, payload=b""
    )
    state = State(
        generation=1,
        head=0,
        tail=0,
        first_ordinal=first,
        next_ordinal=first,
        sequence=origin.sequence if origin else 0,
        clock=origin.clock if origin else 0,
        used=0,
        open_checksum=int.from_bytes(packed[:4], "little"),
    )
    vault = Vault(keys, identity)
    return b"".join(
        pack_slot(identity, replace(state, generation=generation), packed, vault)
        for generation in (1, 2)
    )
