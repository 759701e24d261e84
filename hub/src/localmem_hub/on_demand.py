"""The hub for hosts that start it with a request, such as Azure Functions.

There the application cannot count on anything between two requests: no start or end is announced to it
(the ASGI adapter has no lifespan worth the name), a process is made, frozen and killed as its host sees
fit, and others serve the same pools at the same time. So the hub is put together at the first request,
and does nothing by itself: a timer of the host's has it `care` now and then.

What it needs is imported then, not before: the host asks a new process what it serves, and waits.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from localmem_hub.errors import ConfigError, HubError

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import Receive, Scope, Send

    from localmem_hub.client_address import Proxies
    from localmem_hub.seams import Store
    from localmem_hub.settings import Settings

log: Final = logging.getLogger(__name__)

FRONT: Final = "0.0.0.0"  # noqa: S104  no address to listen on
"""Where requests come from when the host does not say: from its own front, which is at no address of
anybody's, and says in a header whom it saw."""

FORWARDED: Final = "X-Forwarded-For"
STORE_FAILED: Final = 4503
"""`frames.Close.STORE_FAILED`, without what that module brings along."""


class OnDemand:
    """An ASGI application that becomes the hub which the environment describes.

    All calls belong to one event loop. Until the hub can be made every request is answered with 503, and
    the next one tries again.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment
        self._app: Starlette | None = None
        self._making: asyncio.Task[Starlette] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI says, for requests."""
        try:
            app = await self._made()
        except HubError as error:
            await _unavailable(error, scope, send)
            return
        client = scope.get("client") or (FRONT, 0)
        await app({**scope, "client": client}, receive, send)

    async def care(self) -> list[str]:
        """See to what is due; what of it failed. Raises HubError when there is no hub to be had."""
        app = await self._made()
        failed: list[str] = await app.state.hub.care()
        return failed

    async def _made(self) -> Starlette:
        if self._app is None:
            if self._making is None or self._making.done():
                self._making = asyncio.create_task(asyncio.to_thread(make_app, self._environment))
                self._making.add_done_callback(_ignore)
            # Shielded: whoever goes away must not take it from the others.
            made = await asyncio.shield(self._making)
            self._app = made
            return made
        return self._app


def make_app(environment: Mapping[str, str]) -> Starlette:
    """The hub's application, for single requests alone. Raises HubError."""
    from localmem_hub.app import Policy, create_app
    from localmem_hub.cli_options import open_store
    from localmem_hub.settings import load_settings
    from localmem_hub.system import SystemClock, SystemRandom

    try:
        settings = load_settings(environment, Path.home())
        if settings.plain.enabled:
            raise ConfigError("plain.enabled: plain rooms need a server with WebSocket")
        policy = Policy(
            settings.open,
            settings.origins,
            websocket=False,
            wait_seconds=0,  # who waits is paid for
            past_epochs_days=settings.past_epochs_days,
            disk_free_mb=settings.disk_free_mb,
            proxies=_proxies(settings),
            bounds=settings.limits,
            recurring=False,
        )
        _start_logging(settings)
        store: Store = open_store(settings)
    except HubError as error:
        log.error("no hub: %s", error)
        raise
    return create_app(store, SystemClock(), SystemRandom(), policy)


def _proxies(settings: Settings) -> Proxies:
    """The host's own proxy is believed, and those that the operator names. Raises ConfigError."""
    from localmem_hub.client_address import Proxies

    named = settings.proxies
    header = FORWARDED if named is None else named.header
    networks = ", ".join([FRONT, *(map(str, named.networks) if named is not None else ())])
    proxies = Proxies.parse(header, networks)
    assert proxies is not None
    return proxies


def _start_logging(settings: Settings) -> None:
    """Say it to the host, whose handler stands at the root; an audit log in a file would be lost."""
    from localmem_hub.audit import OFF, STDERR
    from localmem_hub.audit import log as audit

    if settings.audit not in (OFF, STDERR):
        raise ConfigError("audit: with the host's log (stderr) or off; files do not last here")
    logging.getLogger("localmem_hub").setLevel(settings.log_level.upper())
    audit.setLevel(logging.CRITICAL if settings.audit == OFF else logging.INFO)
    logging.getLogger("azure").setLevel(
        logging.WARNING
    )  # it has lines for each call, with addresses


async def _unavailable(error: HubError, scope: Scope, send: Send) -> None:
    """What the hub itself answers when its store is away; why stands in the log."""
    code: int | str = STORE_FAILED if scope["path"].startswith("/v1/sync/") else error.code
    message = "the hub cannot start; its log says why"
    content = json.dumps({"error": {"code": code, "message": message, "field": None}}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"retry-after", b"5"),
        (b"content-length", b"%d" % len(content)),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _ignore(task: asyncio.Task[Any]) -> None:
    """Whoever waits for it gets the exception; if nobody does, it matters to nobody."""
    if not task.cancelled():
        task.exception()
