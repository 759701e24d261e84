"""Device tokens: `lmt_<id>_<secret>`, the id 8 and the secret 32 random bytes in hex.

Only SHA-256 of the secret is kept; with 256 random bits there is nothing to stretch. A token is for
one pool and one role, and for one device: the one it was made for, or the first that uses it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import Final

from localmem_hub.errors import ConfigError, TokenError
from localmem_hub.limits import DAY_MS, SEEN_MS
from localmem_hub.seams import Identity, Kind, Role
from localmem_protocol.access import parse_room
from localmem_protocol.events import is_device_id
from localmem_protocol.seams import Random

ID_BYTES: Final = 8
SECRET_BYTES: Final = 32
DAYS_MAX: Final = 3650

_TOKEN: Final = re.compile(r"lmt_([0-9a-f]{16})_([0-9a-f]{64})", re.ASCII)
_POOL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


@dataclass(frozen=True)
class Token:
    """A token with its secret, which exists only here and with whom it is given to."""

    id: str
    secret: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """As it is given to a device."""
        return f"lmt_{self.id}_{self.secret.hex()}"

    @property
    def secret_hash(self) -> bytes:
        """What the hub keeps of the secret."""
        return hashlib.sha256(self.secret).digest()


@dataclass(frozen=True)
class TokenRecord:
    """What the hub knows of a token; times in milliseconds since 1970."""

    id: str
    pool: str
    device: str | None
    role: Role
    created_ms: int
    expires_ms: int | None
    revoked_ms: int | None
    last_seen_ms: int | None


def is_pool_name(text: str) -> bool:
    """Whether this names a pool: 1 to 64 letters, digits, `.`, `_` and `-`, no mark first."""
    return _POOL.fullmatch(text) is not None


def new_token(random: Random) -> Token:
    """A token that nobody had."""
    return Token(random.token_bytes(ID_BYTES).hex(), random.token_bytes(SECRET_BYTES))


def parse_token(text: str) -> Token:
    """The token in what a device sent. Raises TokenError, without repeating it."""
    match = _TOKEN.fullmatch(text)
    if match is None:
        raise TokenError("not a token of this hub (lmt_…)")
    return Token(match[1], bytes.fromhex(match[2]))


@dataclass(frozen=True)
class Held:
    """What a store keeps of a token: its record, the hash of its secret, and its pool's kind."""

    record: TokenRecord
    secret_hash: bytes
    kind: Kind

    def admit(
        self, token: Token, pool: str, device: str | None, now_ms: int, kind: Kind
    ) -> Identity:
        """Whom a token whose secret was compared stands for (`TokenStore.check`). Raises TokenError."""
        record = self.record
        if record.revoked_ms is not None:
            raise TokenError("this token was revoked")
        if record.expires_ms is not None and now_ms >= record.expires_ms:
            raise TokenError("this token has expired")
        if record.pool != pool or self.kind != kind:
            raise TokenError("this token is for another pool")
        if kind == "plain":
            device = token.id
        if device is not None and record.device not in (None, device):
            raise TokenError("this token belongs to another device")
        fresh = record.device is None or now_ms - (record.last_seen_ms or 0) >= SEEN_MS
        return Identity(
            token.id,
            pool,
            device or record.device or "",
            record.role,
            fresh,
            expires_ms=record.expires_ms,
            first=record.device is None,
        )


def admit(
    held: Held | None, token: Token, pool: str, device: str | None, now_ms: int, kind: Kind
) -> Identity:
    """Whom a token stands for, from what is kept of one of its id. Raises TokenError."""
    # The same work for an id that does not exist.
    kept = held.secret_hash if held is not None else bytes(32)
    if not hmac.compare_digest(kept, token.secret_hash) or held is None:
        raise TokenError("this token is not known here")
    return held.admit(token, pool, device, now_ms, kind)


def check_new(pool: str, device: str | None, kind: Kind, days: int | None) -> None:
    """Whether there may be such a token. Raises ConfigError."""
    if days is not None and not 1 <= days <= DAYS_MAX:
        raise ConfigError(f"days: must be from 1 to {DAYS_MAX}")
    if not is_pool_name(pool):
        raise ConfigError("pool: 1 to 64 letters, digits, '.', '_', '-'; a letter or digit first")
    if parse_room(pool) is not None:
        raise ConfigError("pool: such names are rooms of pools with a roster, opened by key")
    if device is not None and not is_device_id(device):
        raise ConfigError("device: must be 16 lower-case hex digits")
    if device is not None and kind == "plain":
        raise ConfigError("device: a token of a plain room is for no device")


def expiry_ms(days: int | None, now_ms: int) -> int | None:
    """When a token that is good for so many days expires."""
    return None if days is None else now_ms + days * DAY_MS
