"""Rosters, access by key, invitations and mailboxes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Make the tables."""
    _make_rosters()
    _make_access()
    _make_mailboxes()


def _make_rosters() -> None:
    op.create_table(
        "rosters",
        sa.Column("pool", sa.String(32), nullable=False),
        sa.Column("length", sa.BigInteger, nullable=False),
        sa.Column("head", sa.LargeBinary, nullable=False),
        sa.Column("recovery", sa.String(32), nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("pool", name="pk_rosters"),
    )
    op.create_index("ix_rosters_recovery", "rosters", ["recovery"])
    op.create_table(
        "roster_entries",
        sa.Column("pool", sa.String(32), nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("pool", "position", name="pk_roster_entries"),
        sa.ForeignKeyConstraint(["pool"], ["rosters.pool"], name="fk_roster_entries_pool"),
    )


def _make_access() -> None:
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(16), nullable=False),
        sa.Column("bytes", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_secrets"),
    )
    op.create_table(
        "spent_challenges",
        sa.Column("nonce", sa.String(64), nullable=False),
        sa.Column("expires_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("nonce", name="pk_spent_challenges"),
    )
    op.create_index("ix_spent_challenges_expires_ms", "spent_challenges", ["expires_ms"])
    op.create_table(
        "invitations",
        sa.Column("code_hash", sa.String(64), nullable=False),
        sa.Column("uses_left", sa.Integer, nullable=False),
        sa.Column("expires_ms", sa.BigInteger, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("code_hash", name="pk_invitations"),
    )


def _make_mailboxes() -> None:
    op.create_table(
        "mailboxes",
        sa.Column("number", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("opener_hash", sa.LargeBinary, nullable=False),
        sa.Column("joiner_hash", sa.LargeBinary),
        sa.Column("expires_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_mailboxes"),
    )
    op.create_index("ix_mailboxes_expires_ms", "mailboxes", ["expires_ms"])
    op.create_table(
        "mailbox_messages",
        sa.Column("number", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("slot", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("bytes", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("number", "slot", name="pk_mailbox_messages"),
        sa.ForeignKeyConstraint(
            ["number"], ["mailboxes.number"], name="fk_mailbox_messages_number"
        ),
    )


def downgrade() -> None:
    """Drop the tables, and everything in them."""
    for name in ("mailbox_messages", "mailboxes", "invitations", "spent_challenges", "secrets"):
        op.drop_table(name)
    for name in ("roster_entries", "rosters"):
        op.drop_table(name)
