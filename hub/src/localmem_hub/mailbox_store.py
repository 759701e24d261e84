"""Mailboxes in SQL: so that any process of a hub could serve either party.

Of a secret only its SHA-256 is kept; what is in a message is for the two parties to know.
"""

from __future__ import annotations

import hmac
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from localmem_hub.database import failures, reading
from localmem_hub.limits import MAILBOXES_MAX
from localmem_hub.mailbox_numbers import free_number
from localmem_hub.postgres import tell
from localmem_hub.seams import Party
from localmem_hub.signals import MailboxChanged, encode
from localmem_hub.tables import mailbox_messages, mailboxes
from localmem_protocol.seams import Random

TRIES: Final = 5
"""For a number that nobody else takes at that moment; on SQLite the first one always holds."""


class SqlMailboxes:
    """A `MailboxStore` in SQL."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._reading = reading(engine)

    def open(self, secret_hash: bytes, expires_ms: int, random: Random, now_ms: int) -> int | None:
        """As `MailboxStore` says."""
        for left in reversed(range(TRIES)):
            with failures("cannot open a mailbox"):
                try:
                    return self._open(secret_hash, expires_ms, random, now_ms)
                except IntegrityError:  # another process took the number
                    if not left:
                        raise
        return None

    def _open(self, secret_hash: bytes, expires_ms: int, random: Random, now_ms: int) -> int | None:
        with self._engine.begin() as connection:
            _remove(connection, _expired(connection, now_ms))
            taken = set(connection.scalars(sa.select(mailboxes.c.number)))
            if len(taken) >= MAILBOXES_MAX:
                return None
            number = free_number(taken, random)
            connection.execute(
                sa.insert(mailboxes).values(
                    number=number, opener_hash=secret_hash, expires_ms=expires_ms
                )
            )
        return number

    def join(self, number: int, secret_hash: bytes, now_ms: int) -> bool:
        """As `MailboxStore` says."""
        with failures("cannot join a mailbox"), self._engine.begin() as connection:
            joined = connection.scalar(
                sa.update(mailboxes)
                .where(
                    mailboxes.c.number == number,
                    mailboxes.c.joiner_hash.is_(None),
                    mailboxes.c.expires_ms > now_ms,
                )
                .values(joiner_hash=secret_hash)
                .returning(mailboxes.c.number)
            )
        return joined is not None

    def party(self, number: int, secret_hash: bytes, now_ms: int) -> Party | None:
        """As `MailboxStore` says."""
        query = sa.select(mailboxes.c.opener_hash, mailboxes.c.joiner_hash).where(
            mailboxes.c.number == number, mailboxes.c.expires_ms > now_ms
        )
        with failures("cannot open a mailbox"), self._reading.begin() as connection:
            row = connection.execute(query).first()
        # The same work for a number that does not exist, or that nobody joined.
        opener = row.opener_hash if row is not None else b""
        joiner = (row.joiner_hash if row is not None else None) or b""
        is_opener = hmac.compare_digest(opener, secret_hash)
        is_joiner = hmac.compare_digest(joiner, secret_hash)
        return "opener" if is_opener else "joiner" if is_joiner else None

    def put(self, number: int, slot: int, data: bytes) -> bool:
        """As `MailboxStore` says."""
        with failures("cannot leave a message"):
            try:
                with self._engine.begin() as connection:
                    connection.execute(
                        sa.insert(mailbox_messages).values(number=number, slot=slot, bytes=data)
                    )
                    tell(connection, encode([MailboxChanged(number)]))
            except IntegrityError:  # there is one, or the mailbox ended meanwhile
                return self.get(number, slot) == data
        return True

    def get(self, number: int, slot: int) -> bytes | None:
        """As `MailboxStore` says."""
        query = sa.select(mailbox_messages.c.bytes).where(
            mailbox_messages.c.number == number, mailbox_messages.c.slot == slot
        )
        with failures("cannot read a message"), self._reading.begin() as connection:
            found = connection.scalar(query)
        return None if found is None else bytes(found)

    def remove(self, number: int) -> None:
        """As `MailboxStore` says."""
        with failures("cannot end a mailbox"), self._engine.begin() as connection:
            _remove(connection, [number])
            tell(connection, encode([MailboxChanged(number)]))

    def sweep(self, now_ms: int) -> None:
        """As `MailboxStore` says."""
        with failures("cannot sweep mailboxes"):
            with self._reading.begin() as connection:
                over = _expired(connection, now_ms)
            if over:
                with self._engine.begin() as connection:
                    _remove(connection, _expired(connection, now_ms))


def _expired(connection: sa.Connection, now_ms: int) -> list[int]:
    query = sa.select(mailboxes.c.number).where(mailboxes.c.expires_ms <= now_ms)
    return list(connection.execute(query).scalars())


def _remove(connection: sa.Connection, numbers: list[int]) -> None:
    for table in (mailbox_messages, mailboxes):
        connection.execute(sa.delete(table).where(table.c.number.in_(numbers)))
