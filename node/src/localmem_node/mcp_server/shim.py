"""The stdio server: `python -P -m localmem_node.mcp_server.shim [--folder PATH]`.

    client ──lines──▶ stdin ─▶ a thread for each request ─▶ Unix socket ─▶ daemon, /mcp
           ◀──lines── stdout ◀─────────────────────────────────────────────┘

What tools do is the daemon's affair, which it starts if there is none, and finds again if there is
another one. So it is small (the SDK is the daemon's), and there may be one for each window of each
editor. Nothing but JSON-RPC goes to stdout. It ends with its stdin.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Mapping
from threading import BoundedSemaphore, Condition, Thread, Timer
from typing import Final, Protocol

from localmem_node.client import DaemonClient
from localmem_node.errors import NodeError
from localmem_node.lines import read_lines
from localmem_node.mcp_server.greeting import greeting
from localmem_node.mcp_server.messages import (
    INVALID_REQUEST,
    SERVER_ERROR,
    BadMessage,
    Id,
    Message,
    agreed_version,
    answer_line,
    error_line,
    headers_of,
    parse_message,
    result_line,
)
from localmem_node.project import current_folder
from localmem_node.system import SystemClock
from localmem_protocol.seams import Clock

PATH: Final = "/mcp"

LINE_BYTES_MAX: Final = 4 * 1024 * 1024
"""Bytes of a line: what the server takes as one message."""

REQUESTS_MAX: Final = 32
"""Requests under way at once; the next waits in the pipe."""

IDLE_MAX: Final = 4
"""Connections that are kept for the next requests."""

FINISH_S: Final = 10.0
"""How long what is under way may take once stdin has ended; a daemon may have to start for it."""

GREETING_S: Final = 0.5
"""After this, counted from its start, it introduces the server itself if the daemon has not yet."""

FOLDER_VARIABLES: Final = ("CLAUDE_PROJECT_DIR",)
"""Where a client says which folder it is about, for one that starts its servers elsewhere."""


class Daemon(Protocol):
    """What the shim needs of a `DaemonClient`."""

    def send(
        self,
        method: str,
        path: str,
        data: bytes,
        headers: Mapping[str, str],
        *,
        repeatable: bool,
    ) -> tuple[int, bytes]:
        """(status, body)."""
        ...

    def close(self) -> None:
        """Give the connection back."""
        ...


class Shim:
    """Thread-safe. `connect` makes clients of the daemon, `write` takes whole lines.

    A daemon that has not answered `greeting_s` seconds from now is spoken for, where that can be.
    """

    def __init__(
        self,
        connect: Callable[[], Daemon],
        write: Callable[[bytes], None],
        folder: str | None,
        *,
        clock: Clock,
        greeting_s: float = GREETING_S,
    ) -> None:
        self._connect, self._write, self._folder = connect, write, folder
        self._changed = Condition()
        self._running: dict[Id, Message] = {}
        self._under_way = 0
        self._idle: list[Daemon] = []
        self._places = BoundedSemaphore(REQUESTS_MAX)
        self._version: str | None = None
        self._client: str | None = None
        self._clock = clock
        self._greeting_s = clock.monotonic_s() + greeting_s
        self._reached = False

    def take(self, line: bytes | None) -> None:
        """A line of the client's; None for one above LINE_BYTES_MAX. Returns at once, as a rule."""
        if line is None:
            text = f"a message has at most {LINE_BYTES_MAX} bytes"
            self._write(error_line(None, INVALID_REQUEST, text))
            return
        try:
            message = parse_message(line)
        except BadMessage as error:
            self._write(error_line(error.id, error.code, str(error)))
            return
        if message.method is None:
            return  # an answer, and the daemon asks nothing
        self._client = message.client or self._client
        cancelled = message.cancels
        with self._changed:
            if cancelled is not None:
                self._running.pop(cancelled, None)  # its answer is not written any more
            if message.id is not None:
                self._running[message.id] = message
            self._under_way += 1
        self._places.acquire()
        Thread(target=self._handle, args=(message, line), daemon=True).start()

    def finish(self, seconds: float) -> None:
        """Wait for what is under way, for so long at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way, seconds)

    def _handle(self, message: Message, line: bytes) -> None:
        instead = self._instead(message)
        try:
            answer = self._ask(message, line)
            if instead is not None:
                instead.cancel()
            self._answer(message, answer)
        finally:
            self._places.release()
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def _instead(self, message: Message) -> Timer | None:
        """What answers a message if the daemon does not in time."""
        result = None if self._reached else greeting(message)
        if message.id is None or result is None:
            return None
        line = result_line(message.id, result)
        timer = Timer(
            max(0.0, self._greeting_s - self._clock.monotonic_s()),
            self._greet,
            (message, line),
        )
        timer.daemon = True
        timer.start()
        return timer

    def _greet(self, message: Message, line: bytes) -> None:
        if message.method == "initialize":
            self._version = self._version or agreed_version(line)
        self._answer(message, line)

    def _answer(self, message: Message, line: bytes) -> None:
        """Write it, unless the message was answered already, or taken back."""
        if message.id is None:
            return
        with self._changed:
            wanted = self._running.get(message.id) is message
            if wanted:
                del self._running[message.id]
        if wanted:
            self._write(line)

    def _ask(self, message: Message, line: bytes) -> bytes:
        """The line that answers; of no use for a notification."""
        id = message.id if message.id is not None else ""
        daemon: Daemon | None = None
        try:
            daemon = self._idle_one() or self._connect()
            headers = headers_of(message, self._version, self._folder, self._client)
            status, body = daemon.send("POST", PATH, line, headers, repeatable=message.repeatable)
        except NodeError as error:
            return error_line(id, SERVER_ERROR, f"localmem: {error}")
        except Exception as error:  # whatever it is, the client must not wait for ever
            text = f"localmem: {type(error).__name__}: {error}; run: localmem doctor"
            return error_line(id, SERVER_ERROR, text)
        finally:
            if daemon is not None:
                self._give_back(daemon)
        self._reached = True
        if message.method == "initialize":
            self._version = agreed_version(body) or self._version
        return answer_line(id, status, body)

    def _idle_one(self) -> Daemon | None:
        with self._changed:
            return self._idle.pop() if self._idle else None

    def _give_back(self, daemon: Daemon) -> None:
        with self._changed:
            if len(self._idle) < IDLE_MAX:
                self._idle.append(daemon)
                return
        daemon.close()


def main() -> int:
    """Pump until stdin ends."""
    parser = argparse.ArgumentParser(prog="python -m localmem_node.mcp_server.shim")
    parser.add_argument("--folder", help="the folder that the client works in")
    return run(parser.parse_args().folder)


def run(folder: str | None) -> int:
    """Pump until stdin ends; `folder` is what the command line says, if it does."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Whatever prints, prints elsewhere: stdout is the client's.
    output = os.dup(1)
    os.dup2(2, 1)
    where = working_folder(folder, os.environ)
    shim = Shim(DaemonClient, _Output(output).write, where, clock=SystemClock())
    for group in read_lines(lambda size: os.read(0, size), LINE_BYTES_MAX):
        for _, line in group:
            shim.take(line)
    shim.finish(FINISH_S)
    return 0


def working_folder(told: str | None, environment: Mapping[str, str]) -> str | None:
    """The absolute path of the folder that the client works in, as far as that is known.

    A variable that the client was to fill in and did not is no path, and counts as not told.
    """
    for path in (told, *(environment.get(name) for name in FOLDER_VARIABLES)):
        if path and os.path.isabs(path):
            return path
    return current_folder()


class _Output:
    """Whole lines to a descriptor, from any thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._place = BoundedSemaphore()

    def write(self, line: bytes) -> None:
        with self._place:
            left = memoryview(line)
            try:
                while left:
                    left = left[os.write(self._descriptor, left) :]
            except BrokenPipeError:
                os._exit(0)  # nobody reads any more


if __name__ == "__main__":
    sys.exit(main())
