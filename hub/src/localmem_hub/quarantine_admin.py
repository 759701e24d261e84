"""What an operator does with updates that were refused: look at them, and let them go.

None is ever put into its pool again. It was refused because it breaks a rule that every device relies
on; its sender still has what it wanted to say, and says it again once it is mended.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from localmem_hub.database import failures, reading
from localmem_hub.records import QuarantineRecord
from localmem_hub.tables import quarantine

_COLUMNS = (
    quarantine.c.id,
    quarantine.c.pool,
    quarantine.c.device,
    quarantine.c.reason,
    sa.func.length(quarantine.c.bytes).label("size"),
    quarantine.c.at_ms,
)


class QuarantineAdmin:
    """The operator's view of the quarantine in a database."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._reading = reading(engine)

    def list(self, pool: str | None = None) -> list[QuarantineRecord]:
        """Every refused update, or those of one pool, oldest first."""
        query = sa.select(*_COLUMNS).order_by(quarantine.c.id)
        if pool is not None:
            query = query.where(quarantine.c.pool == pool)
        with failures("cannot list the quarantine"), self._reading.begin() as connection:
            return [QuarantineRecord(*row) for row in connection.execute(query)]

    def get(self, number: int) -> tuple[QuarantineRecord, bytes] | None:
        """One of them, and its bytes."""
        query = sa.select(*_COLUMNS, quarantine.c.bytes).where(quarantine.c.id == number)
        with failures("cannot read the quarantine"), self._reading.begin() as connection:
            row = connection.execute(query).first()
        return None if row is None else (QuarantineRecord(*row[:-1]), bytes(row[-1]))

    def drop(self, numbers: Sequence[int]) -> int:
        """Let these go; how many were there."""
        with failures("cannot empty the quarantine"), self._engine.begin() as connection:
            gone = connection.execute(sa.delete(quarantine).where(quarantine.c.id.in_(numbers)))
            return gone.rowcount

    def drop_all(self, pool: str | None = None) -> int:
        """Let all go, or those of one pool; how many there were."""
        here = sa.true() if pool is None else quarantine.c.pool == pool
        with failures("cannot empty the quarantine"), self._engine.begin() as connection:
            return connection.execute(sa.delete(quarantine).where(here)).rowcount
