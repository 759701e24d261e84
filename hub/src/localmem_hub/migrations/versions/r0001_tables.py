"""The tables of 0.1: pools, updates, snapshots, clients, tokens, quarantine."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "pools",
        sa.Column("pool", sa.String(64), nullable=False),
        sa.Column("head", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("pool", name="pk_pools"),
    )
    op.create_table(
        "updates",
        sa.Column("pool", sa.String(64), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("device", sa.String(16), nullable=False),
        sa.Column("bytes", sa.LargeBinary, nullable=False),
        sa.Column("received_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("pool", "seq", name="pk_updates"),
        sa.ForeignKeyConstraint(["pool"], ["pools.pool"], name="fk_updates_pool"),
    )
    op.create_table(
        "snapshots",
        sa.Column("pool", sa.String(64), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("pool", "seq", name="pk_snapshots"),
        sa.ForeignKeyConstraint(["pool"], ["pools.pool"], name="fk_snapshots_pool"),
    )
    op.create_table(
        "clients",
        sa.Column("pool", sa.String(64), nullable=False),
        sa.Column("client", sa.BigInteger, nullable=False),
        sa.Column("device", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("pool", "client", name="pk_clients"),
        sa.ForeignKeyConstraint(["pool"], ["pools.pool"], name="fk_clients_pool"),
    )
    _make_tokens()
    _make_quarantine()


def _make_tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("pool", sa.String(64), nullable=False),
        sa.Column("device", sa.String(16)),
        sa.Column("secret_hash", sa.LargeBinary, nullable=False),
        sa.Column("role", sa.String(8), nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("revoked_ms", sa.BigInteger),
        sa.Column("last_seen_ms", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
        sa.ForeignKeyConstraint(["pool"], ["pools.pool"], name="fk_tokens_pool"),
        sa.CheckConstraint("role IN ('writer', 'reader')", name=op.f("ck_tokens_role")),
    )
    op.create_index("ix_tokens_pool", "tokens", ["pool"])


def _make_quarantine() -> None:
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "quarantine",
        sa.Column("id", number, nullable=False),
        sa.Column("pool", sa.String(64), nullable=False),
        sa.Column("device", sa.String(16), nullable=False),
        sa.Column("bytes", sa.LargeBinary, nullable=False),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_quarantine"),
        sa.ForeignKeyConstraint(["pool"], ["pools.pool"], name="fk_quarantine_pool"),
    )
    op.create_index("ix_quarantine_pool", "quarantine", ["pool"])


def downgrade() -> None:
    """Drop the tables, and everything in them."""
    for name in ("quarantine", "tokens", "clients", "snapshots", "updates", "pools"):
        op.drop_table(name)
