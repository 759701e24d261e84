"""Alembic's entry point. The caller gives an open connection, and owns its transaction."""

from __future__ import annotations

from alembic import context

from localmem_hub.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
