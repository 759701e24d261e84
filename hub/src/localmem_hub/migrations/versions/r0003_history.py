"""Tags of rows, by which a device sees that this is another history; who has read which epoch."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = "0002"
branch_labels: str | None = None
depends_on: str | None = None

_TAGGED = ("pools", "updates", "snapshots")


def upgrade() -> None:
    """Add columns, and a table."""
    for name in _TAGGED:
        tag = sa.Column("tag", sa.String(6), nullable=False, server_default="")
        op.add_column(name, tag)
    op.add_column("pools", sa.Column("dropped_ms", sa.BigInteger))
    op.create_table(
        "epochs_read",
        sa.Column("pool", sa.String(32), nullable=False),
        sa.Column("epoch", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("device", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("pool", "epoch", "device", name="pk_epochs_read"),
        sa.ForeignKeyConstraint(["pool"], ["rosters.pool"], name="fk_epochs_read_pool"),
    )


def downgrade() -> None:
    """Take them away again."""
    op.drop_table("epochs_read")
    op.drop_column("pools", "dropped_ms")
    for name in _TAGGED:
        op.drop_column(name, "tag")
