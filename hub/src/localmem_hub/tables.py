"""The hub's tables, one schema for SQLite and PostgreSQL. Times are milliseconds since 1970.

`migrations/` makes them; a test holds the two against each other.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)


def _pool_column(*, primary_key: bool = True) -> Column[str]:
    return Column(
        "pool", String(64), ForeignKey("pools.pool"), primary_key=primary_key, nullable=False
    )


pools = Table(
    "pools",
    metadata,
    Column("pool", String(64), primary_key=True),
    Column("head", BigInteger, nullable=False),  # number of the newest update
    Column("epoch", BigInteger, nullable=False),  # of the key that the members use
    Column("kind", String(8), nullable=False, server_default="sealed"),  # or "plain"
    Column("created_ms", BigInteger, nullable=False),
    Column("tag", String(6), nullable=False, server_default=""),  # of the newest update
    Column("dropped_ms", BigInteger),  # when what it held was dropped, since its epoch is over
)

updates = Table(
    "updates",
    metadata,
    _pool_column(),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("device", String(16), nullable=False),
    Column("bytes", LargeBinary, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("tag", String(6), nullable=False, server_default=""),  # `exchange.follow`
)

snapshots = Table(
    "snapshots",
    metadata,
    _pool_column(),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),  # the newest update in it
    Column("bytes", LargeBinary, nullable=False),
    Column("tag", String(6), nullable=False, server_default=""),  # of that update
)

clients = Table(
    "clients",
    metadata,
    _pool_column(),
    Column("client", BigInteger, primary_key=True, autoincrement=False),
    Column("device", String(16), nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(16), primary_key=True),
    _pool_column(primary_key=False),
    Column("device", String(16)),  # null until its first use
    Column("secret_hash", LargeBinary, nullable=False),  # SHA-256 of 256 random bits
    Column("role", String(8), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("revoked_ms", BigInteger),
    Column("last_seen_ms", BigInteger),
    Column("expires_ms", BigInteger),  # null for one that is good until it is revoked
    CheckConstraint("role IN ('writer', 'reader')", name="role"),
    Index(None, "pool"),
)

rosters = Table(
    "rosters",
    metadata,
    Column("pool", String(32), primary_key=True),
    Column("length", BigInteger, nullable=False),
    Column("head", LargeBinary, nullable=False),  # hash of the newest entry
    Column("recovery", String(32), nullable=False),  # fingerprint of the recovery public keys
    Column("created_ms", BigInteger, nullable=False),
    Index(None, "recovery"),
)

roster_entries = Table(
    "roster_entries",
    metadata,
    Column("pool", String(32), ForeignKey("rosters.pool"), primary_key=True, nullable=False),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("bytes", LargeBinary, nullable=False),
)

epochs_read = Table(
    "epochs_read",
    metadata,
    Column("pool", String(32), ForeignKey("rosters.pool"), primary_key=True, nullable=False),
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("device", String(16), primary_key=True),
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("bytes", LargeBinary, nullable=False),
)

access_changes = Table(  # one row: how often a right was taken away, for processes beside that one
    "access_changes",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("count", BigInteger, nullable=False),
)

spent_challenges = Table(
    "spent_challenges",
    metadata,
    Column("nonce", String(64), primary_key=True),
    Column("expires_ms", BigInteger, nullable=False),
    Index(None, "expires_ms"),
)

invitations = Table(
    "invitations",
    metadata,
    Column("code_hash", String(64), primary_key=True),  # SHA-256 of 128 random bits
    Column("uses_left", Integer, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
)

mailboxes = Table(
    "mailboxes",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("opener_hash", LargeBinary, nullable=False),  # SHA-256 of 256 random bits
    Column("joiner_hash", LargeBinary),  # null until somebody joins
    Column("expires_ms", BigInteger, nullable=False),
    Index(None, "expires_ms"),
)

mailbox_messages = Table(
    "mailbox_messages",
    metadata,
    Column("number", Integer, ForeignKey("mailboxes.number"), primary_key=True, nullable=False),
    Column("slot", Integer, primary_key=True, autoincrement=False),
    Column("bytes", LargeBinary, nullable=False),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    _pool_column(primary_key=False),
    Column("device", String(16), nullable=False),
    Column("bytes", LargeBinary, nullable=False),
    Column("reason", String(500), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Index(None, "pool"),
)
