"""The keys of a device, and what is done with them.

A device has an Ed25519 key, to sign with, and an X25519 key, to have things sealed to it. A recovery
phrase stands for such a pair too (`recovery.py`). Nothing else in localmem has a private key.

What is signed and what is sealed says what it is for. The purposes stand here, all of them, and each
ends in the version of what it covers: so no signature and no sealed box can be taken for another.

    signature over   "localmem " purpose NUL data                             (64 bytes, RFC 8032)
    HPKE's info      "localmem " purpose NUL associated                       (see `hpke.py`)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from localmem_protocol import hpke
from localmem_protocol.errors import KeysError, SignatureError
from localmem_protocol.seams import Random

SIGN_ENTRY: Final = "roster entry 1"
SIGN_HEAD: Final = "chain head 1"
SIGN_ACCESS: Final = "hub access 1"
SIGN_PAIRING: Final = "pairing 1"
SEAL_EPOCH_KEY: Final = "epoch key 1"
SEAL_INVITATION: Final = "invitation 1"

KEY_BYTES: Final = 32
KEYS_BYTES: Final = 64
"""Bytes of a pair of keys, public or private: Ed25519, then X25519."""

SIGNATURE_BYTES: Final = 64
EPHEMERAL_BYTES: Final = 32

_PRIME: Final = 2**255 - 19
_SMALL_ORDER: Final = frozenset(
    {0, 1, _PRIME - 1}
    | {
        int.from_bytes(bytes.fromhex(half), "little")
        for half in (
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        )
    }
)
"""The y of the eight points of Ed25519 whose order divides 8. OpenSSL takes them for keys, and for one of
them anybody makes signatures that hold."""

_PROBE: Final = X25519PrivateKey.from_private_bytes(b"\x40" * KEY_BYTES)


@dataclass(frozen=True)
class PublicKeys:
    """What others know of a device's keys. Make one with `from_bytes`."""

    signing: bytes
    sealing: bytes

    @classmethod
    def from_bytes(cls, data: bytes) -> PublicKeys:
        """The keys in 64 bytes.

        Raises KeysError for another length; for an Ed25519 key of small order, which everybody could
        sign for, or written in another than its shortest form (y not below 2^255 - 19), which would
        be one key with two fingerprints; and for an X25519 key of low order: nothing could be
        sealed to it, and its owner would be in the way of every rotation.
        """
        if len(data) != KEYS_BYTES:
            raise KeysError(f"public keys are {KEYS_BYTES} bytes, not {len(data)}")
        y = int.from_bytes(data[:KEY_BYTES], "little") & (1 << 255) - 1
        if y >= _PRIME or y in _SMALL_ORDER:
            raise KeysError("a public key that everybody could sign for, or in two ways to write")
        try:
            _PROBE.exchange(X25519PublicKey.from_public_bytes(data[KEY_BYTES:]))
        except ValueError:
            raise KeysError("a public key that nothing can be sealed to") from None
        return cls(data[:KEY_BYTES], data[KEY_BYTES:])

    def to_bytes(self) -> bytes:
        """The 64 bytes of both."""
        return self.signing + self.sealing

    def verify(self, purpose: str, data: bytes, signature: bytes) -> None:
        """Raise SignatureError unless this device signed `data` for this purpose."""
        try:
            key = Ed25519PublicKey.from_public_bytes(self.signing)
            key.verify(signature, _covered(purpose, data))
        except (InvalidSignature, ValueError):
            raise SignatureError(f"not signed by this device ({purpose})") from None

    def seal(self, purpose: str, plain: bytes, associated: bytes, random: Random) -> bytes:
        """`plain`, for this device alone, bound to its purpose and to `associated`.

        Draws 32 bytes from `random`. Raises KeysError if nothing can be sealed to this key.
        """
        ephemeral = random.token_bytes(EPHEMERAL_BYTES)
        return hpke.seal(plain, self.sealing, _covered(purpose, associated), ephemeral)

    def fingerprint(self) -> str:
        """What people compare on two screens: 128 bits as eight groups of four hex digits."""
        digest = hashlib.sha256(b"localmem fingerprint 1\x00" + self.to_bytes()).hexdigest()
        return " ".join(digest[at : at + 4] for at in range(0, 32, 4))


@dataclass(frozen=True)
class DeviceKeys:
    """A device's private keys. Make them with `generate` or `from_bytes`; never show them."""

    signing: bytes = field(repr=False)
    sealing: bytes = field(repr=False)

    @classmethod
    def generate(cls, random: Random) -> DeviceKeys:
        """Fresh keys; draws 32 bytes for each."""
        return cls(random.token_bytes(KEY_BYTES), random.token_bytes(KEY_BYTES))

    @classmethod
    def from_bytes(cls, data: bytes) -> DeviceKeys:
        """The keys in 64 bytes. Raises KeysError for another length."""
        if len(data) != KEYS_BYTES:
            raise KeysError(f"private keys are {KEYS_BYTES} bytes, not {len(data)}")
        return cls(data[:KEY_BYTES], data[KEY_BYTES:])

    def to_bytes(self) -> bytes:
        """The 64 bytes of both, as a key store keeps them."""
        return self.signing + self.sealing

    @cached_property
    def public(self) -> PublicKeys:
        """The public halves."""
        return PublicKeys(
            self._signer.public_key().public_bytes_raw(),
            self._opener.public_key().public_bytes_raw(),
        )

    def sign(self, purpose: str, data: bytes) -> bytes:
        """The 64 bytes by which others know that this device said `data`, for this purpose."""
        return self._signer.sign(_covered(purpose, data))

    def unseal(self, purpose: str, sealed: bytes, associated: bytes) -> bytes:
        """What was sealed to this device for this purpose, with `associated`. Raises SealError."""
        return hpke.unseal(sealed, self._opener, _covered(purpose, associated))

    @cached_property
    def _signer(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.signing)

    @cached_property
    def _opener(self) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(self.sealing)


def _covered(purpose: str, data: bytes) -> bytes:
    return b"localmem " + purpose.encode() + b"\x00" + data
