"""The keys of a store, and how they are kept in its header.

Two random keys are sealed together under the key store's key. From the *data key* follow, by
HKDF-SHA256 (RFC 5869), a key for the header's tag, one for the index section and one for every open
of the file; it is drawn anew whenever the file is rewritten. The *lasting key* stays the same from
one file to the next; from it follow the keys that `derive_key` hands to other parts. Records and
keys are sealed with AES-256-GCM (NIST SP 800-38D). Nonces are random; a key per open keeps their
number per key far below the 2^32 that random 96-bit nonces allow.

Both keys may also be sealed for a recovery key (HPKE, RFC 9180: X25519, HKDF-SHA256, AES-256-GCM),
whose private half exists only where the user wrote it down.
"""

from __future__ import annotations

import hmac
from dataclasses import replace
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from localmem_node.store.blocks import NONCE_BYTES
from localmem_node.store.layout import RECOVERY_KEY_BYTES, Identity
from localmem_protocol.seams import Random

KEY_BYTES: Final = 32
NO_RECOVERY: Final = bytes(RECOVERY_KEY_BYTES)
_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class Keys:
    """Both keys of a store. Their memory is overwritten by `wipe`, as far as Python lets us."""

    def __init__(self, secret: bytes | bytearray) -> None:
        """`secret` is the data key and the lasting key; version 1 had one key for both."""
        self._secret = bytearray(secret)

    @classmethod
    def draw(cls, random: Random, lasting: Keys | None = None) -> Keys:
        """A new data key, beside the lasting key of `lasting` or a new one."""
        kept = random.token_bytes(KEY_BYTES) if lasting is None else lasting.lasting
        return cls(random.token_bytes(KEY_BYTES) + kept)

    def __repr__(self) -> str:
        return "Keys()"

    @property
    def data(self) -> bytes:
        """The key of this file."""
        return bytes(self._secret[:KEY_BYTES])

    @property
    def lasting(self) -> bytes:
        """The key of this store, whatever file it is in."""
        return bytes(self._secret[-KEY_BYTES:])

    @property
    def secret(self) -> bytes:
        """Both, for sealing."""
        return bytes(self._secret)

    def wipe(self) -> None:
        """Overwrite them. What `cryptography` copied, it frees and clears itself."""
        self._secret[:] = bytes(len(self._secret))


class Vault:
    """The keys of an open store and what follows from them. Thread-safe."""

    def __init__(self, keys: Keys, identity: Identity) -> None:
        self.keys = keys
        self._salt = identity.salt
        self._version = identity.version
        self._header_key = self._expand(keys.data, b"header")
        self.index = AESGCM(self._expand(keys.data, b"index"))

    def __repr__(self) -> str:
        return "Vault()"

    def records(self, open_id: bytes) -> AESGCM:
        """The cipher of the records written under one open id."""
        return AESGCM(self._expand(self.keys.data, b"records " + open_id))

    def tag(self, header: bytes) -> bytes:
        """HMAC-SHA256 of a header, so that a forged one shows."""
        return hmac.digest(self._header_key, header, "sha256")

    def verify(self, header: bytes, tag: bytes) -> bool:
        """Whether `tag` is that of `header`."""
        return hmac.compare_digest(self.tag(header), tag)

    def derive_key(self, purpose: str) -> bytes:
        """32 bytes for another part of the node, the same for the same purpose in every file."""
        derive = HKDF(
            algorithm=hashes.SHA256(),
            length=KEY_BYTES,
            salt=None,
            info=b"localmem purpose " + purpose.encode(),
        )
        return derive.derive(self.keys.lasting)

    def _expand(self, key: bytes, info: bytes) -> bytes:
        derive = HKDF(
            algorithm=hashes.SHA256(),
            length=KEY_BYTES,
            salt=self._salt,
            info=b"localmem store %d " % self._version + info,
        )
        return derive.derive(key)


def wrap(keys: Keys, wrapping_key: bytes, identity: Identity, random: Random) -> Identity:
    """The identity with the keys sealed in it, for its recovery key as well if it has one."""
    nonce = random.token_bytes(NONCE_BYTES)
    bound = identity.bound()
    wrapped = nonce + AESGCM(wrapping_key).encrypt(nonce, keys.secret, bound)
    if identity.recovery_key == NO_RECOVERY:
        return replace(identity, wrapped=wrapped)
    public = X25519PublicKey.from_public_bytes(identity.recovery_key)
    sealed = _SUITE.encrypt(keys.secret, public, info=bound)
    return replace(identity, wrapped=wrapped, recovery_sealed=sealed)


def unwrap(identity: Identity, wrapping_key: bytes) -> Keys | None:
    """The keys, or None when the wrapping key is not the one."""
    wrapped = identity.wrapped if identity.version > 1 else identity.wrapped[:60]
    nonce, sealed = wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:]
    try:
        return Keys(AESGCM(wrapping_key).decrypt(nonce, sealed, identity.bound()))
    except InvalidTag:
        return None


def unwrap_with_recovery(identity: Identity, private: bytes) -> Keys | None:
    """The keys by the private half of the recovery key; None when it is not the one."""
    key = X25519PrivateKey.from_private_bytes(private)
    if identity.recovery_key != key.public_key().public_bytes_raw():
        return None
    try:
        return Keys(_SUITE.decrypt(identity.recovery_sealed, key, info=identity.bound()))
    except InvalidTag:
        return None


def recovery_pair(random: Random) -> tuple[bytes, bytes]:
    """(private, public) of a new recovery key."""
    private = random.token_bytes(KEY_BYTES)
    return private, X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
