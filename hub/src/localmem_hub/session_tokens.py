"""Challenges and session tokens: what the hub says and later knows again, without keeping it.

    lmc_<base64url of MessagePack, then HMAC-SHA256>   a challenge: 32 random bytes, until when, for whom
    lms_<the same>                                     who proved to be a device of a pool, until when

The key of the HMAC is drawn once and kept in the hub's database, so that every process of a hub knows
what another one said.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final, TypeVar

import msgspec

from localmem_hub.errors import TokenError
from localmem_hub.limits import CHALLENGE_MS, SESSION_MS
from localmem_protocol.seams import Random

CHALLENGE: Final = "lmc_"
SESSION: Final = "lms_"
NONCE_BYTES: Final = 32
TEXT_CHARS_MAX: Final = 512
"""Of a challenge or a token; those that are made here have less than 250."""

_MAC_BYTES: Final = 32

Sealed = TypeVar("Sealed", bound=msgspec.Struct)


class Challenge(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a device has to sign. It names a pool ("" for none) and a device id, or "recovery"."""

    nonce: bytes
    expires_ms: int
    pool: str
    device: str


class Grant(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a session token says: who proved to be which device, when the roster had this length."""

    pool: str
    device: str
    role: str
    expires_ms: int
    length: int


class Mint:
    """Makes challenges and tokens, and knows its own."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def challenge(self, pool: str, device: str, random: Random, now_ms: int) -> str:
        """A challenge that nobody had, good for CHALLENGE_MS."""
        nonce = random.token_bytes(NONCE_BYTES)
        return self._seal(CHALLENGE, Challenge(nonce, now_ms + CHALLENGE_MS, pool, device))

    def grant(self, pool: str, device: str, role: str, length: int, now_ms: int) -> str:
        """A session token, good for SESSION_MS."""
        return self._seal(SESSION, Grant(pool, device, role, now_ms + SESSION_MS, length))

    def open_challenge(self, text: str, now_ms: int) -> Challenge:
        """The challenge in what came back. Raises TokenError."""
        challenge = self._open(CHALLENGE, text, Challenge)
        if now_ms >= challenge.expires_ms:
            raise TokenError("this challenge has expired; ask for another one")
        return challenge

    def open_grant(self, text: str, now_ms: int) -> Grant:
        """What a session token says. Raises TokenError, without repeating it."""
        grant = self._open(SESSION, text, Grant)
        if now_ms >= grant.expires_ms:
            raise TokenError("this token has expired; prove the key again")
        return grant

    def _seal(self, kind: str, content: msgspec.Struct) -> str:
        body = msgspec.msgpack.encode(content)
        return kind + urlsafe_b64encode(body + self._mac(kind, body)).decode().rstrip("=")

    def _open(self, kind: str, text: str, content: type[Sealed]) -> Sealed:
        refused = TokenError(f"not of this hub ({kind}…)")
        if not text.startswith(kind) or not text.isascii() or len(text) > TEXT_CHARS_MAX:
            raise refused
        encoded = text[len(kind) :]
        try:
            data = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        except ValueError:
            raise refused from None
        body, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(kind, body)):
            raise refused
        try:
            return msgspec.msgpack.decode(body, type=content)
        except msgspec.DecodeError:  # of another release of this hub
            raise refused from None

    def _mac(self, kind: str, body: bytes) -> bytes:
        return hmac.digest(self._secret, kind.encode() + body, hashlib.sha256)
