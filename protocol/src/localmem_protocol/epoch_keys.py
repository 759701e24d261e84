"""What is done with the random key of an epoch in a roster: sealed to members, committed to, labels.

A sealed key is bound to where it stands: to the pool, the epoch and the device it is for. The first
entry cannot be bound to the pool's id, since that is its own hash. What is sealed in it is bound to
the pool's *origin* instead: a hash of everything in that entry but what is sealed, the random nonce
among it. Nobody but the founder, who signs the entry, can make another one with the same origin; and
what is sealed later is bound to the id itself. So no sealed key opens in another pool.

    scope       = origin (32 bytes) in the first entry, the pool id (16 bytes) in all others
    associated  = scope | epoch (4 bytes, little-endian) | device id (8 bytes), or "recovery"
    commitment  = SHA-256("localmem epoch commitment 1" NUL | epoch | key)

ChaCha20-Poly1305 does not commit to a key and HPKE does not tell who sealed: an owner could hand
every member another key. Therefore every rotation carries the commitment, and who unseals a key that
does not fit refuses it.

Labels are sealed under the epoch key by AES-256-GCM-SIV with a fixed nonce: a device that is given
the same name twice in one epoch shows that it is the same, and nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from localmem_protocol.entries import RECOVERY, Found, Label
from localmem_protocol.errors import KeysError, SealError
from localmem_protocol.keys import SEAL_EPOCH_KEY, DeviceKeys, PublicKeys
from localmem_protocol.limits import LABEL_BYTES_MAX
from localmem_protocol.seams import Random

_NONCE: Final = bytes(12)


def origin_of(found: Found, device: str, keys: bytes) -> bytes:
    """The scope of what is sealed in a pool's first entry, by the founder's device and keys."""
    parts = (found.nonce, found.recovery, bytes.fromhex(device), keys)
    return hashlib.sha256(b"localmem pool origin 1\x00" + b"".join(parts)).digest()


def commitment_to(key: bytes, epoch: int) -> bytes:
    """By which everybody knows the key of an epoch when they see it."""
    return hashlib.sha256(b"localmem epoch commitment 1\x00" + _number(epoch) + key).digest()


def seal_key(
    key: bytes, scope: bytes, epoch: int, device: str, to: PublicKeys, random: Random
) -> bytes:
    """An epoch's key for one member (or RECOVERY). Draws 32 bytes; raises KeysError."""
    try:
        return to.seal(SEAL_EPOCH_KEY, key, _associated(scope, epoch, device), random)
    except KeysError as error:
        raise KeysError(f"device {device}: {error}") from None


def unseal_key(
    sealed: bytes, commitment: bytes, scope: bytes, epoch: int, device: str, keys: DeviceKeys
) -> bytes:
    """The inverse. Raises SealError, also for a key that is not the epoch's."""
    key = keys.unseal(SEAL_EPOCH_KEY, sealed, _associated(scope, epoch, device))
    if not hmac.compare_digest(commitment_to(key, epoch), commitment):
        raise SealError(f"not the key of epoch {epoch} that the others were given")
    return key


def seal_label(text: str, key: bytes, pool: bytes, epoch: int, device: str) -> Label:
    """A name for a device (or the pool: "") that members read. `pool` is the pool's origin.

    Raises ValueError for more than LABEL_BYTES_MAX bytes, or what cannot be shown.
    """
    plain = text.encode()
    if not 0 < len(plain) <= LABEL_BYTES_MAX:
        raise ValueError(f"a label of {len(plain)} bytes; it has 1 to {LABEL_BYTES_MAX}")
    if not text.isprintable():
        raise ValueError("a label that cannot be shown")
    associated = _label_place(pool, epoch, device)
    return Label(epoch, _label_cipher(key).encrypt(_NONCE, plain, associated))


def open_label(label: Label, key: bytes, pool: bytes, device: str) -> str:
    """The name; `key` is that of the label's epoch. Raises SealError."""
    try:
        associated = _label_place(pool, label.epoch, device)
        text = _label_cipher(key).decrypt(_NONCE, label.box, associated).decode()
    except (InvalidTag, ValueError):
        raise SealError(f"a label of {device or 'the pool'} that does not open") from None
    if not text.isprintable():
        raise SealError(f"a label of {device or 'the pool'} that cannot be shown")
    return text


@lru_cache(maxsize=64)
def _label_cipher(key: bytes) -> AESGCMSIV:
    derive = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"localmem label 1")
    return AESGCMSIV(derive.derive(key))


def _label_place(pool: bytes, epoch: int, device: str) -> bytes:
    return pool + _number(epoch) + device.encode()


def _associated(scope: bytes, epoch: int, device: str) -> bytes:
    who = RECOVERY.encode() if device == RECOVERY else bytes.fromhex(device)
    return scope + _number(epoch) + who


def _number(epoch: int) -> bytes:
    return epoch.to_bytes(4, "little")
