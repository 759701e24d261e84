"""What access by key needs in SQL: the hub's own secrets, spent challenges, and invitations.

An invitation `lmi_<code>` lets a pool be made: 16 random bytes in hex, of which only SHA-256 is kept.
It is taken by the transaction that makes the pool (`take`).
"""

from __future__ import annotations

import re
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from localmem_hub.database import failures, reading
from localmem_hub.errors import AdmissionError, ConfigError
from localmem_hub.invitations import code_hash
from localmem_hub.limits import DAY_MS
from localmem_hub.tables import invitations, secrets, spent_challenges
from localmem_hub.tokens import DAYS_MAX
from localmem_protocol.seams import Random

SECRET_BYTES: Final = 32
CODE_BYTES: Final = 16
USES_MAX: Final = 10_000
_CODE: Final = re.compile(r"lmi_[0-9a-f]{32}", re.ASCII)


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
        if not 1 <= uses <= USES_MAX:
            raise ConfigError(f"uses: must be from 1 to {USES_MAX}")
        if not 1 <= days <= DAYS_MAX:
            raise ConfigError(f"days: must be from 1 to {DAYS_MAX}")
        code = f"lmi_{random.token_bytes(CODE_BYTES).hex()}"
        with failures("cannot make an invitation"), self._engine.begin() as connection:
            connection.execute(sa.delete(invitations).where(invitations.c.expires_ms < now_ms))
            connection.execute(
                sa.insert(invitations).values(
                    code_hash=code_hash(code),
                    uses_left=uses,
                    expires_ms=now_ms + days * DAY_MS,
                    created_ms=now_ms,
                )
            )
        return code


def take(connection: sa.Connection, code: str, now_ms: int) -> None:
    """Use an invitation once, in the caller's transaction. Raises AdmissionError."""
    taken = None
    if _CODE.fullmatch(code):
        taken = connection.scalar(
            sa.update(invitations)
            .where(
                invitations.c.code_hash == code_hash(code),
                invitations.c.uses_left > 0,
                invitations.c.expires_ms >= now_ms,
            )
            .values(uses_left=invitations.c.uses_left - 1)
            .returning(invitations.c.uses_left)
        )
    if taken is None:
        raise AdmissionError("this invitation (lmi_…) is not known here, used up, or expired")
