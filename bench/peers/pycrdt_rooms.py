"""pycrdt-websocket under uvicorn, with everything that uvicorn's `standard` brings: rooms in memory."""

import asyncio
import logging
import os
import sys
import threading

import uvicorn
from pycrdt.websocket import ASGIServer, WebsocketServer


def ignored(error: Exception, log: logging.Logger) -> bool:
    """A client that leaves must not end the server, which is what happens by default."""
    return True


async def main() -> None:
    """Serve until standard input ends."""
    async with WebsocketServer(exception_handler=ignored) as rooms:
        port = int(os.environ["PORT"])
        config = uvicorn.Config(ASGIServer(rooms), "127.0.0.1", port, log_level="error")
        await uvicorn.Server(config).serve()


def end_with_input() -> None:
    """End with whoever started it."""
    sys.stdin.read()
    os._exit(0)


threading.Thread(target=end_with_input, daemon=True).start()
asyncio.run(main())
