"""How a hub on SQLite hears at once that another process took a right away, such as its command line.

Whoever does counts one up in its transaction, and the hub looks at that one number several times a
second, instead of at every token that is in use. Replicas on PostgreSQL are told by NOTIFY.
"""

from __future__ import annotations

import sqlalchemy as sa

from localmem_hub.tables import access_changes


def count_change(connection: sa.Connection) -> None:
    """Say that a right was taken away, in the caller's transaction.

    Nobody asks on PostgreSQL, where one row would have all such transactions wait for each other.
    """
    if connection.dialect.name == "sqlite":
        one_more = access_changes.c.count + 1
        connection.execute(sa.update(access_changes).values(count=one_more))


def changes(connection: sa.Connection) -> int:
    """How often one was, so far."""
    return connection.scalar(sa.select(access_changes.c.count)) or 0
