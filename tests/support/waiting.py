"""Waiting for what another process or thread brings about."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

WAIT_S = 60.0
"""So long that only what never comes is missed."""


async def until(reached: Callable[[], bool]) -> None:
    """Return when it is so. Raises TimeoutError."""
    async with asyncio.timeout(WAIT_S):
        while not reached():  # noqa: ASYNC110  nothing here would set an event
            await asyncio.sleep(0.01)
