"""Tokens that expire; a number that shows when a right was taken away."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision: str | None = "0004"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add a column, and a table with its row; tokens that are there do not expire."""
    op.add_column("tokens", sa.Column("expires_ms", sa.BigInteger))
    changes = op.create_table(
        "access_changes",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_access_changes"),
    )
    op.execute(sa.insert(changes).values(id=1, count=0))


def downgrade() -> None:
    """Take them away again. What would have expired is good until it is revoked."""
    op.drop_table("access_changes")
    op.drop_column("tokens", "expires_ms")
