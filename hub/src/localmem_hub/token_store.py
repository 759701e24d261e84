"""Device tokens in SQL. Every method is one transaction, and blocks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import sqlalchemy as sa

from localmem_hub.access_changes import changes, count_change
from localmem_hub.database import failures, insert_missing, reading
from localmem_hub.errors import ConfigError, FullError, TokenError
from localmem_hub.postgres import tell
from localmem_hub.seams import Identity, Kind, Role
from localmem_hub.signals import TokenRevoked, encode
from localmem_hub.tables import pools, tokens
from localmem_hub.tokens import (
    Held,
    Token,
    TokenRecord,
    admit,
    check_new,
    expiry_ms,
    new_token,
    parse_token,
)
from localmem_protocol.seams import Random

IDS_AT_ONCE: Final = 500
"""Ids in one statement; databases bound the number of its variables."""


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
        check_new(pool, device, kind, days)
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
                    expires_ms=expiry_ms(days, now_ms),
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
        held = None
        if row is not None:
            record = TokenRecord(*(getattr(row, name) for name in TokenRecord.__dataclass_fields__))
            held = Held(record, row.secret_hash, row.kind)
        return admit(held, token, pool, device, now_ms, kind)

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
