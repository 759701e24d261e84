"""Plain rooms: what kind of room a pool is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision: str | None = "0003"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add the column; what is there is sealed."""
    op.add_column("pools", sa.Column("kind", sa.String(8), nullable=False, server_default="sealed"))


def downgrade() -> None:
    """Drop it. Plain rooms are not told from others any more."""
    op.drop_column("pools", "kind")
