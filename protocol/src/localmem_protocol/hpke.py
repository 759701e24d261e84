"""HPKE (RFC 9180): sealing a few bytes to somebody's public key.

Base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305, one message per encapsulation:
`enc` (32 bytes), then the ciphertext with its tag, 48 bytes more than the plaintext.

`cryptography` opens. It also seals, but with randomness of its own, and a simulation that is played
twice must give the same bytes: so the sender's half stands here, with the ephemeral key passed in.
Tests hold it against the library, both ways.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from localmem_protocol.errors import KeysError, SealError

OVERHEAD_BYTES: Final = 48
"""What sealing adds: the ephemeral public key (32) and the tag (16)."""

_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
_KEM_ID: Final = b"KEM\x00\x20"
_HPKE_ID: Final = b"HPKE\x00\x20\x00\x01\x00\x03"
_BASE: Final = b"\x00"


def seal(plain: bytes, to: bytes, info: bytes, ephemeral: bytes) -> bytes:
    """`plain` for the holder of the X25519 key `to`, bound to `info`.

    `ephemeral` are 32 fresh random bytes, used once. Raises KeysError for a key of low order.
    """
    secret = X25519PrivateKey.from_private_bytes(ephemeral)
    enc = secret.public_key().public_bytes_raw()
    try:
        shared = secret.exchange(X25519PublicKey.from_public_bytes(to))
    except ValueError:
        raise KeysError("a public key that nothing can be sealed to") from None
    prk = _extract(_KEM_ID, b"", b"eae_prk", shared)
    shared = _expand(_KEM_ID, prk, b"shared_secret", enc + to, 32)
    context = b"".join(
        (
            _BASE,
            _extract(_HPKE_ID, b"", b"psk_id_hash", b""),
            _extract(_HPKE_ID, b"", b"info_hash", info),
        )
    )
    prk = _extract(_HPKE_ID, shared, b"secret", b"")
    key = _expand(_HPKE_ID, prk, b"key", context, 32)
    nonce = _expand(_HPKE_ID, prk, b"base_nonce", context, 12)
    return enc + ChaCha20Poly1305(key).encrypt(nonce, plain, b"")


def unseal(sealed: bytes, key: X25519PrivateKey, info: bytes) -> bytes:
    """What was sealed to `key` with this `info`. Raises SealError."""
    try:
        return _SUITE.decrypt(sealed, key, info)
    except (InvalidTag, ValueError):
        raise SealError("sealed to another key, altered, or out of its place") from None


def _extract(suite: bytes, salt: bytes, label: bytes, material: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + material, hashlib.sha256)


def _expand(suite: bytes, prk: bytes, label: bytes, info: bytes, size: int) -> bytes:
    """One block of HKDF-Expand: `size` is at most 32 here."""
    labelled = size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.digest(prk, labelled + b"\x01", hashlib.sha256)[:size]
