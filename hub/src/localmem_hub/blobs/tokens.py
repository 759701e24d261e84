"""Device tokens, each a small blob: a check is one request, and what may happen once is conditional."""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from typing import Final

import msgspec

from localmem_hub.blobs import manifest, names
from localmem_hub.blobs.container import Blob, Container
from localmem_hub.blobs.manifest import Manifest
from localmem_hub.blobs.switching import create_room
from localmem_hub.errors import CommitError, ConfigError, TokenError
from localmem_hub.seams import Identity, Kind, Role
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

TRIES: Final = 8
"""For one whose other uses are noted at the same time."""


class _Kept(msgspec.Struct, frozen=True):
    pool: str
    kind: Kind
    device: str | None
    secret_hash: bytes
    role: Role
    created_ms: int
    expires_ms: int | None = None
    revoked_ms: int | None = None
    last_seen_ms: int | None = None


class BlobTokens:
    """A `TokenStore` on blobs, and what an operator does with tokens."""

    def __init__(self, container: Container) -> None:
        self._container = container

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
        """A new token, and its pool if there is none yet. Raises ConfigError, StoreError."""
        check_new(pool, device, kind, days)
        token = new_token(random)
        known = manifest.read(self._container, pool)
        if known is None:
            create_room(self._container, pool, Manifest.new(1, now_ms, kind))
            known = manifest.read(self._container, pool)  # another process may have been faster
        if known is not None and known.manifest.kind != kind:
            raise ConfigError(f"pool: {pool} is there already, as a {known.manifest.kind} one")
        kept = _Kept(pool, kind, device, token.secret_hash, role, now_ms, expiry_ms(days, now_ms))
        self._container.create(names.TOKENS + token.id, msgspec.json.encode(kept), {"pool": pool})
        return token

    def list(self, pool: str | None = None) -> list[TokenRecord]:
        """Every token, or those of one pool, oldest first."""
        found: builtins.list[TokenRecord] = []
        for one in self._container.names(names.TOKENS, metadata=True):
            if pool is None or one.metadata.get("pool") == pool:
                id_ = one.name.removeprefix(names.TOKENS)
                blob = self._container.read(one.name)
                if blob is not None:
                    found.append(_held(id_, blob).record)
        return sorted(found, key=lambda record: (record.created_ms, record.id))

    def revoke(self, token: str, now_ms: int) -> bool:
        """End a token; False if there is none of this id. Revoking again changes nothing."""
        for _ in range(TRIES):
            blob = self._read(token)
            if blob is None:
                return False
            kept = _decode(blob)
            if kept.revoked_ms is not None:
                return True
            if self._replace(token, blob, msgspec.structs.replace(kept, revoked_ms=now_ms)):
                return True
        raise CommitError("cannot revoke the token: it is used all the time; try again")

    def check(
        self, text: str, pool: str, device: str | None, now_ms: int, *, kind: Kind = "sealed"
    ) -> Identity:
        """As `TokenStore` says."""
        token = parse_token(text)
        blob = self._read(token.id)
        held = None if blob is None else _held(token.id, blob)
        return admit(held, token, pool, device, now_ms, kind)

    def note(self, identity: Identity, now_ms: int) -> None:
        """As `TokenStore` says."""
        for _ in range(TRIES):
            blob = self._read(identity.token)
            kept = None if blob is None else _decode(blob)
            if (
                blob is None
                or kept is None
                or kept.revoked_ms is not None
                or kept.device not in (None, identity.device)
            ):
                raise TokenError("another device used this token first, or it was revoked")
            noted = msgspec.structs.replace(kept, device=identity.device, last_seen_ms=now_ms)
            if self._replace(identity.token, blob, noted):
                return
        raise CommitError("cannot note a token's use: others do at the same time; try again")

    def revoked(self, ids: Iterable[str]) -> set[str]:
        """As `TokenStore` says."""
        gone: set[str] = set()
        for id_ in set(ids):
            blob = self._read(id_)
            if blob is None or _decode(blob).revoked_ms is not None:
                gone.add(id_)
        return gone

    def changes(self) -> int:
        """As `TokenStore` says; many processes use this store, and none waits here."""
        return 0

    def remove_of(self, rooms: Iterable[str]) -> int:
        """Remove the tokens of these rooms; how many there were."""
        wanted = set(rooms)
        mine = [
            one.name
            for one in self._container.names(names.TOKENS, metadata=True)
            if one.metadata.get("pool") in wanted
        ]
        for name in mine:
            self._container.delete(name)
        return len(mine)

    def _read(self, id_: str) -> Blob | None:
        return self._container.read(names.TOKENS + id_)

    def _replace(self, id_: str, blob: Blob, kept: _Kept) -> bool:
        data = msgspec.json.encode(kept)
        return self._container.replace(names.TOKENS + id_, data, blob.etag, blob.metadata)


def _decode(blob: Blob) -> _Kept:
    return msgspec.json.decode(blob.data, type=_Kept)


def _held(id_: str, blob: Blob) -> Held:
    kept = _decode(blob)
    record = TokenRecord(
        id_,
        kept.pool,
        kept.device,
        kept.role,
        kept.created_ms,
        kept.expires_ms,
        kept.revoked_ms,
        kept.last_seen_ms,
    )
    return Held(record, kept.secret_hash, kept.kind)
