"""The first bytes of a new store: its keys, and two slots around nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from localmem_node.seams import KeyStore
from localmem_node.store.blocks import NO_OPEN_ID, pack_block
from localmem_node.store.keys import PassphraseStore, mode_of
from localmem_node.store.layout import Cost, Geometry, Identity, State
from localmem_node.store.ring import pack_slot
from localmem_node.store.vault import KEY_BYTES, Vault, wrap
from localmem_protocol.events import DEVICE_ID_BYTES
from localmem_protocol.seams import Random

FIRST_ORDINAL: Final = 1
SALT_BYTES: Final = 16


def new_slots(geometry: Geometry, keystore: KeyStore, random: Random) -> bytes:
    """Both slots of an empty store with a new key and device id. Raises KeyUnavailable."""
    salt = random.token_bytes(SALT_BYTES)
    wrapping_key = keystore.create(salt)
    data_key = random.token_bytes(KEY_BYTES)
    unwrapped = Identity(
        geometry=geometry,
        device=random.token_bytes(DEVICE_ID_BYTES),
        salt=salt,
        key_mode=mode_of(keystore),
        cost=keystore.cost if isinstance(keystore, PassphraseStore) else Cost(),
    )
    identity = replace(unwrapped, wrapped=wrap(data_key, wrapping_key, unwrapped, random))
    packed = pack_block(
        geometry.block_size,
        carried=0,
        number=0,
        ordinal=FIRST_ORDINAL,
        open_id=NO_OPEN_ID,
        payload=b"",
    )
    state = State(
        generation=1,
        head=0,
        tail=0,
        first_ordinal=FIRST_ORDINAL,
        next_ordinal=FIRST_ORDINAL,
        sequence=0,
        clock=0,
        used=0,
        open_checksum=int.from_bytes(packed[:4], "little"),
    )
    vault = Vault(data_key, salt)
    return b"".join(
        pack_slot(identity, replace(state, generation=generation), packed, vault)
        for generation in (1, 2)
    )
