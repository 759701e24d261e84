"""Signals between replicas through NATS, where there are too many for PostgreSQL's NOTIFY.

The same payloads, on a subject that only those who know the hub's secret can name. NATS keeps
nothing and decides nothing: while it is away signals go by PostgreSQL, and pools are looked at more
often (`replication.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from localmem_hub.limits import RECONNECT_SECONDS
from localmem_hub.signals import PAYLOAD_BYTES_MAX

log: Final = logging.getLogger(__name__)


class NatsFanout:
    """A connection to NATS. All methods belong to one event loop; `heard` and `connected` are as those
    of `PostgresBus`."""

    def __init__(
        self,
        url: str,
        subject: str,
        heard: Callable[[str], None],
        connected: Callable[[], None],
    ) -> None:
        self._url = url
        self._subject = subject
        self._heard = heard
        self._connected = connected
        self._client: Client | None = None

    @property
    def up(self) -> bool:
        """Whether signals arrive now, as far as can be told."""
        return self._client is not None and self._client.is_connected

    async def listen(self) -> None:
        """Connect, and stay connected until cancelled."""
        client = Client()
        try:
            while True:
                try:
                    await client.connect(
                        servers=[self._url],
                        name="localmem-hub",
                        max_reconnect_attempts=-1,
                        reconnect_time_wait=1,
                        ping_interval=2,
                        max_outstanding_pings=2,
                        pending_size=0,  # what cannot be told at once need not be told
                        error_cb=_complain,
                        reconnected_cb=self._reconnected,
                    )
                    break
                except (NatsError, OSError, TimeoutError) as error:
                    log.warning("NATS cannot be reached: %s", type(error).__name__)
                    await asyncio.sleep(RECONNECT_SECONDS)
            await client.subscribe(self._subject, cb=self._receive)
            await client.flush()
            self._client = client
            self._connected()
            await asyncio.Event().wait()
        finally:
            self._client = None
            if not client.is_closed:
                await client.close()

    async def tell(self, payloads: Sequence[str]) -> bool:
        """Tell the other replicas; whether NATS took it."""
        client = self._client
        if client is None or not client.is_connected:
            return False
        try:
            for payload in payloads:
                await client.publish(self._subject, payload.encode("ascii"))
        except (NatsError, OSError):
            return False
        return True

    async def _receive(self, message: Msg) -> None:
        if len(message.data) <= PAYLOAD_BYTES_MAX and message.data.isascii():
            self._heard(message.data.decode("ascii"))

    async def _reconnected(self) -> None:
        self._connected()


async def _complain(error: Exception) -> None:
    log.warning("NATS: %s", type(error).__name__)
