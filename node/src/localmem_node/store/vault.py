"""The keys of a store: one random data key, wrapped under the key store's key.

The data key never leaves the store; from it follow, by HKDF-SHA256 (RFC 5869), a key for the
header's tag, one for the index section, one for every open of the file, and those that
`derive_key` hands to other parts. Records and the wrapped key are sealed with AES-256-GCM
(NIST SP 800-38D). Nonces are random; a key per open keeps their number per key far below the 2^32
that random 96-bit nonces allow.
"""

from __future__ import annotations

import hmac
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from localmem_node.store.blocks import NONCE_BYTES
from localmem_node.store.layout import Identity
from localmem_protocol.seams import Random

KEY_BYTES: Final = 32


class Vault:
    """The data key of an open store and what follows from it. Immutable, thread-safe."""

    def __init__(self, data_key: bytes, salt: bytes) -> None:
        self._data_key = data_key
        self._salt = salt
        self._header_key = self._expand(b"header")
        self.index = AESGCM(self._expand(b"index"))

    def __repr__(self) -> str:
        return "Vault()"

    def records(self, open_id: bytes) -> AESGCM:
        """The cipher of the records written under one open id."""
        return AESGCM(self._expand(b"records " + open_id))

    def tag(self, header: bytes) -> bytes:
        """HMAC-SHA256 of a header, so that a forged one shows."""
        return hmac.digest(self._header_key, header, "sha256")

    def verify(self, header: bytes, tag: bytes) -> bool:
        """Whether `tag` is that of `header`."""
        return hmac.compare_digest(self.tag(header), tag)

    def derive_key(self, purpose: str) -> bytes:
        """32 bytes for another part of the node, the same for the same purpose."""
        return self._expand(b"purpose " + purpose.encode())

    def _expand(self, info: bytes) -> bytes:
        derive = HKDF(
            algorithm=hashes.SHA256(),
            length=KEY_BYTES,
            salt=self._salt,
            info=b"localmem store 1 " + info,
        )
        return derive.derive(self._data_key)


def wrap(data_key: bytes, wrapping_key: bytes, identity: Identity, random: Random) -> bytes:
    """The data key sealed for the header, bound to everything else that is fixed there."""
    nonce = random.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(wrapping_key).encrypt(nonce, data_key, identity.bound())


def unwrap(identity: Identity, wrapping_key: bytes) -> bytes | None:
    """The data key, or None when the wrapping key is not the one."""
    nonce, sealed = identity.wrapped[:NONCE_BYTES], identity.wrapped[NONCE_BYTES:]
    try:
        return AESGCM(wrapping_key).decrypt(nonce, sealed, identity.bound())
    except InvalidTag:
        return None
