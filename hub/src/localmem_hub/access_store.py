"""What access by key needs in SQL: the hub's own secrets, spent challenges, and invitations, which are
taken by the transaction that makes the pool (`take`).
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from localmem_hub.database import failures, reading
from localmem_hub.invitations import NAME_DIGITS, hash_of, is_code, is_name, new_code, unknown
from localmem_hub.limits import DAY_MS
from localmem_hub.records import InvitationRecord
from localmem_hub.tables import invitations, secrets, spent_challenges
from localmem_protocol.seams import Random

SECRET_BYTES: Final = 32


class SqlAccess:
    """An `AccessStore` in SQL, and the invitations of the operator."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._reading = reading(engine)

    def secret(self, name: str, random: Random) -> bytes:
        """As `AccessStore` says."""
        here = sa.select(secrets.c.bytes).where(secrets.c.name == name)
        with failures("cannot read the hub's secret"):
            with self._reading.begin() as connection:
                held = connection.scalar(here)
            if held is None:
                made = random.token_bytes(SECRET_BYTES)
                try:
                    with self._engine.begin() as connection:
                        connection.execute(sa.insert(secrets).values(name=name, bytes=made))
                except IntegrityError:  # another process was first
                    pass
                with self._reading.begin() as connection:
                    held = connection.execute(here).scalar_one()
        return bytes(held)

    def spend(self, nonce: str, expires_ms: int, now_ms: int) -> bool:
        """As `AccessStore` says; those that have expired are forgotten."""
        with failures("cannot note a challenge"):
            try:
                with self._engine.begin() as connection:
                    connection.execute(
                        sa.delete(spent_challenges).where(spent_challenges.c.expires_ms < now_ms)
                    )
                    connection.execute(
                        sa.insert(spent_challenges).values(nonce=nonce, expires_ms=expires_ms)
                    )
            except IntegrityError:
                return False
        return True

    def invite(self, uses: int, days: int, random: Random, now_ms: int) -> str:
        """A new invitation for so many pools; its code. Raises ConfigError."""
        code = new_code(uses, days, random)
        with failures("cannot make an invitation"), self._engine.begin() as connection:
            connection.execute(sa.delete(invitations).where(invitations.c.expires_ms < now_ms))
            connection.execute(
                sa.insert(invitations).values(
                    code_hash=hash_of(code),
                    uses_left=uses,
                    expires_ms=now_ms + days * DAY_MS,
                    created_ms=now_ms,
                )
            )
        return code

    def invitations(self, now_ms: int) -> list[InvitationRecord]:
        """Those that may still be used, oldest first."""
        columns = invitations.c
        good = sa.select(invitations).where(columns.uses_left > 0, columns.expires_ms >= now_ms)
        with failures("cannot list invitations"), self._reading.begin() as connection:
            rows = connection.execute(good.order_by(columns.created_ms, columns.code_hash))
            return [
                InvitationRecord(
                    row.code_hash[:NAME_DIGITS], row.uses_left, row.created_ms, row.expires_ms
                )
                for row in rows
            ]

    def disinvite(self, name: str) -> bool:
        """End an invitation by its name; False if there is none."""
        if not is_name(name):
            return False
        with failures("cannot end an invitation"), self._engine.begin() as connection:
            ended = sa.delete(invitations).where(invitations.c.code_hash.startswith(name))
            return connection.execute(ended).rowcount > 0


def take(connection: sa.Connection, code: str, now_ms: int) -> None:
    """Use an invitation once, in the caller's transaction. Raises AdmissionError."""
    taken = None
    if is_code(code):
        taken = connection.scalar(
            sa.update(invitations)
            .where(
                invitations.c.code_hash == hash_of(code),
                invitations.c.uses_left > 0,
                invitations.c.expires_ms >= now_ms,
            )
            .values(uses_left=invitations.c.uses_left - 1)
            .returning(invitations.c.uses_left)
        )
    if taken is None:
        raise unknown()
