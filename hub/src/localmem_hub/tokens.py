"""Device tokens: `lmt_<id>_<secret>`, the id 8 and the secret 32 random bytes in hex.

Only SHA-256 of the secret is kept; with 256 random bits there is nothing to stretch. A token is for
one pool and one role, and for one device: the one it was made for, or the first that uses it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa

from localmem_hub.access_changes import changes, count_change
from localmem_hub.database import failures, insert_missing, reading
from localmem_hub.errors import ConfigError, FullError, TokenError
from localmem_hub.limits import DAY_MS, SEEN_MS
from localmem_hub.postgres import tell
from localmem_hub.seams import Identity, Kind, Role
from localmem_hub.signals import TokenRevoked, encode
from localmem_hub.tables import pools, tokens
from localmem_protocol.access import parse_room
from localmem_protocol.events import is_device_id
from localmem_protocol.seams import Random

ID_BYTES: Final = 8
SECRET_BYTES: Final = 32
IDS_AT_ONCE: Final = 500
"""Ids in one statement; databases bound the number of its variables."""

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


class SqlTokens:
    """The tokens in SQL: a `TokenStore`, and what an operator does with them."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._reading = reading(engine)

    def create(
        self,
        pool: str,
        device: str | None,
        role: Role,
        random: Random,
        now_ms: int,
        *,
        kind: Kind = "sealed",
        days: int | None = None,
    ) -> Token:
        """A new token, and its pool if there is none yet. Raises ConfigError, CommitError.

        With `kind` "plain" it is for a plain room of this name, and for no device. It is good for so
        many `days`, or until it is revoked.
        """
        if days is not None and not 1 <= days <= DAYS_MAX:
            raise ConfigError(f"days: must be from 1 to {DAYS_MAX}")
        if not is_pool_name(pool):
            raise ConfigError(
                "pool: 1 to 64 letters, digits, '.', '_', '-'; a letter or digit first"
            )
        if parse_room(pool) is not None:
            raise ConfigError("pool: such names are rooms of pools with a roster, opened by key")
        if device is not None and not is_device_id(device):
            raise ConfigError("device: must be 16 lower-case hex digits")
        if device is not None and kind == "plain":
            raise ConfigError("device: a token of a plain room is for no device")
        token = new_token(random)
        with failures("cannot create a token"), self._engine.begin() as connection:
            query = sa.select(pools.c.kind).where(pools.c.pool == pool)
            there = connection.scalar(query)
            if there is None:
                new = {"pool": pool, "head": 0, "epoch": 1, "kind": kind, "created_ms": now_ms}
                insert_missing(connection, pools, **new)
                there = connection.scalar(query)  # another process may have been faster
            if there != kind:
                raise ConfigError(f"pool: {pool} is there already, as a {there} one")
            connection.execute(
                sa.insert(tokens).values(
                    id=token.id,
                    pool=pool,
                    device=device,
                    secret_hash=token.secret_hash,
                    role=role,
                    created_ms=now_ms,
                    expires_ms=None if days is None else now_ms + days * DAY_MS,
                )
            )
        return token

    def list(self, pool: str | None = None) -> list[TokenRecord]:
        """Every token, or those of one pool, oldest first."""
        query = sa.select(*(tokens.c[name] for name in TokenRecord.__dataclass_fields__))
        if pool is not None:
            query = query.where(tokens.c.pool == pool)
        with failures("cannot list tokens"), self._reading.begin() as connection:
            rows = connection.execute(query.order_by(tokens.c.created_ms, tokens.c.id)).all()
        return [TokenRecord(*row) for row in rows]

    def revoke(self, token: str, now_ms: int) -> bool:
        """End a token; False if there is none of this id. Revoking again changes nothing."""
        with failures("cannot revoke the token"), self._engine.begin() as connection:
            here = tokens.c.id == token
            connection.execute(
                sa.update(tokens)
                .where(here, tokens.c.revoked_ms.is_(None))
                .values(revoked_ms=now_ms)
            )
            count_change(connection)
            tell(connection, encode([TokenRevoked()]))
            return connection.scalar(sa.select(tokens.c.id).where(here)) is not None

    def check(
        self, text: str, pool: str, device: str | None, now_ms: int, *, kind: Kind = "sealed"
    ) -> Identity:
        """As `TokenStore` says."""
        token = parse_token(text)
        query = sa.select(tokens, pools.c.kind).join(pools).where(tokens.c.id == token.id)
        with failures("cannot check a token"), self._reading.begin() as connection:
            row = connection.execute(query).first()
        # The same work for an id that does not exist.
        held = row.secret_hash if row is not None else bytes(32)
        if not hmac.compare_digest(held, token.secret_hash) or row is None:
            raise TokenError("this token is not known here")
        if row.revoked_ms is not None:
            raise TokenError("this token was revoked")
        if row.expires_ms is not None and now_ms >= row.expires_ms:
            raise TokenError("this token has expired")
        if row.pool != pool or row.kind != kind:
            raise TokenError("this token is for another pool")
        if kind == "plain":
            device = token.id
        if device is not None and row.device not in (None, device):
            raise TokenError("this token belongs to another device")
        fresh = row.device is None or now_ms - (row.last_seen_ms or 0) >= SEEN_MS
        return Identity(
            token.id,
            pool,
            device or row.device or "",
            row.role,
            fresh,
            expires_ms=row.expires_ms,
            first=row.device is None,
        )

    def note(self, identity: Identity, now_ms: int) -> None:
        """As `TokenStore` says."""
        usable = sa.and_(
            tokens.c.id == identity.token,
            tokens.c.revoked_ms.is_(None),
            sa.or_(tokens.c.device.is_(None), tokens.c.device == identity.device),
        )
        noting = sa.update(tokens).values(device=identity.device, last_seen_ms=now_ms)
        try:
            with failures("cannot note a token's use"), self._engine.begin() as connection:
                noted = connection.execute(noting.where(usable).returning(tokens.c.id)).first()
        except FullError:  # whoever reads is served all the same
            bound = sa.select(tokens.c.id).where(usable, tokens.c.device == identity.device)
            with failures("cannot check a token"), self._reading.begin() as connection:
                noted = connection.execute(bound).first()
            if noted is None:
                raise
        if noted is None:
            raise TokenError("another device used this token first, or it was revoked")

    def revoked(self, ids: Iterable[str]) -> set[str]:
        """As `TokenStore` says."""
        wanted = sorted(set(ids))
        valid: set[str] = set()
        with failures("cannot check tokens"), self._reading.begin() as connection:
            for at in range(0, len(wanted), IDS_AT_ONCE):
                here = tokens.c.id.in_(wanted[at : at + IDS_AT_ONCE])
                query = sa.select(tokens.c.id).where(here, tokens.c.revoked_ms.is_(None))
                valid.update(connection.scalars(query))
        return set(wanted) - valid

    def changes(self) -> int:
        """As `TokenStore` says."""
        with failures("cannot look whether tokens changed"), self._reading.begin() as connection:
            return changes(connection)
