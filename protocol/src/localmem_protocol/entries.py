"""The entries of a roster: what they say, their bytes, their hashes and signatures.

A roster is the signed list of who belongs to a pool. It is a chain: every entry carries the SHA-256
of the one before it, its author's signature covers that, and the first one names the pool:

    pool id = first 16 bytes of SHA-256 of the first entry, in hex

so that nobody chooses a pool's id, and no other list can be put in a pool's place. What the entries
may say, and who may say it, is in `membership.py`.

Bytes are MessagePack arrays in the shortest form: an entry that is encoded any other way is refused,
as is an action that this release does not know. For an older release must not guess who is a member.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from localmem_protocol.errors import RosterError
from localmem_protocol.hpke import OVERHEAD_BYTES
from localmem_protocol.keys import (
    KEY_BYTES,
    KEYS_BYTES,
    SIGN_ENTRY,
    SIGNATURE_BYTES,
    DeviceKeys,
    PublicKeys,
)
from localmem_protocol.limits import (
    ADMITTED_EPOCHS_MAX,
    LABEL_BYTES_MAX,
    ROSTER_ENTRIES_MAX,
    ROSTER_ENTRY_BYTES_MAX,
    ROSTER_MEMBERS_MAX,
    TIMESTAMP_MS_MAX,
)

Role = Literal["owner", "member", "reader"]
RECOVERY: Final = "recovery"
"""The author of an entry that the recovery phrase signed."""

NONCE_BYTES: Final = 16
HASH_BYTES: Final = 32
NO_ENTRY: Final = bytes(HASH_BYTES)
"""The hash before the first entry."""

SEALED_KEY_BYTES: Final = KEY_BYTES + OVERHEAD_BYTES
LABEL_TAG_BYTES: Final = 16

Device = Annotated[str, Meta(pattern="^[0-9a-f]{16}\\Z", max_length=16)]
Author = Annotated[str, Meta(pattern=f"^([0-9a-f]{{16}}|{RECOVERY})\\Z", max_length=16)]
Epoch = Annotated[int, Meta(ge=1, le=ROSTER_ENTRIES_MAX)]
Hash = Annotated[bytes, Meta(min_length=HASH_BYTES, max_length=HASH_BYTES)]
RawKeys = Annotated[bytes, Meta(min_length=KEYS_BYTES, max_length=KEYS_BYTES)]
SealedKey = Annotated[bytes, Meta(min_length=SEALED_KEY_BYTES, max_length=SEALED_KEY_BYTES)]


class Label(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A name under an epoch's key: members read it, the hub does not."""

    epoch: Epoch
    box: Annotated[
        bytes, Meta(min_length=LABEL_TAG_BYTES + 1, max_length=LABEL_BYTES_MAX + LABEL_TAG_BYTES)
    ]


class _Action(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    pass


class Found(_Action, frozen=True, tag=0):
    """The pool begins. `nonce` is random, `recovery` the public keys of the recovery phrase."""

    nonce: Annotated[bytes, Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
    recovery: RawKeys


class Admit(_Action, frozen=True, tag=1):
    """A device becomes a member. `sealed` are keys of epochs, ascending, sealed to it."""

    device: Device
    keys: RawKeys
    role: Role
    sealed: Annotated[tuple[tuple[Epoch, SealedKey], ...], Meta(max_length=ADMITTED_EPOCHS_MAX)]


class Remove(_Action, frozen=True, tag=2):
    """A device is no member any more."""

    device: Device


class SetRole(_Action, frozen=True, tag=3):
    """A member's role from now on."""

    device: Device
    role: Role


class Rotate(_Action, frozen=True, tag=4):
    """A new epoch: its key, sealed to every member (by device, ascending) and to the phrase.

    `commitment` is a hash of the key, so that nobody can be given another one than the rest.
    """

    epoch: Epoch
    commitment: Hash
    sealed: Annotated[tuple[tuple[Device, SealedKey], ...], Meta(max_length=ROSTER_MEMBERS_MAX)]
    recovery: SealedKey


class Rename(_Action, frozen=True, tag=5):
    """Another name for a device, or for the pool (device "")."""

    device: Annotated[str, Meta(pattern="^([0-9a-f]{16})?\\Z", max_length=16)]
    label: Label


Action = Found | Admit | Remove | SetRole | Rotate | Rename


class Entry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One change of a roster; all of its actions, or none.

    `index` counts from 0; `previous` is the hash of the entry before (`NO_ENTRY` for the first);
    `author` a device id, or RECOVERY; `at_ms` what the author's clock said, for people to read.
    """

    index: Annotated[int, Meta(ge=0, lt=ROSTER_ENTRIES_MAX)]
    previous: Hash
    author: Author
    at_ms: Annotated[int, Meta(ge=0, le=TIMESTAMP_MS_MAX)]
    actions: Annotated[tuple[Action, ...], Meta(min_length=1, max_length=2 * ROSTER_MEMBERS_MAX)]
    signature: Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]

    def verify(self, keys: PublicKeys) -> None:
        """Raise SignatureError unless the holder of `keys` signed this entry."""
        keys.verify(SIGN_ENTRY, _signed_part(self), self.signature)


_decoder: Final = msgspec.msgpack.Decoder(Entry)
_encoder: Final = msgspec.msgpack.Encoder()


def encode_entry(entry: Entry) -> bytes:
    """The bytes of an entry."""
    return _encoder.encode(entry)


def decode_entry(data: bytes) -> Entry:
    """Parse one entry; it may still say what no roster takes. Raises RosterError."""
    if len(data) > ROSTER_ENTRY_BYTES_MAX:
        raise RosterError(f"{len(data)} bytes, over the limit of {ROSTER_ENTRY_BYTES_MAX}")
    try:
        entry = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RosterError(
            f"an entry that does not parse, or of a newer localmem: {error}"
        ) from None
    if _encoder.encode(entry) != data:
        raise RosterError("an entry that is not in its shortest form")
    return entry


def sign_entry(entry: Entry, keys: DeviceKeys) -> Entry:
    """`entry` with the signature of its author, who holds `keys`."""
    signature = keys.sign(SIGN_ENTRY, _signed_part(entry))
    return msgspec.structs.replace(entry, signature=signature)


def entry_hash(data: bytes) -> bytes:
    """The link of the chain: SHA-256 over an encoded entry, signature included."""
    return hashlib.sha256(data).digest()


def pool_id_of(first: bytes) -> str:
    """The id of the pool whose first entry, encoded, this is: 32 hex digits."""
    return entry_hash(first)[:16].hex()


def _signed_part(entry: Entry) -> bytes:
    return _encoder.encode((entry.index, entry.previous, entry.author, entry.at_ms, entry.actions))
