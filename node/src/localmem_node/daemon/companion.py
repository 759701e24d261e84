"""The daemon's side of its breaker: starts it, answers it, and notices when it has ended.

The breaker (`breaker.py`) is a bare interpreter of some MiB, and is started only where editors call by
HTTP. Without it everything works; an editor then waits for a daemon that hangs with every event.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from localmem_node.daemon.breaker import ANSWER, BEGUN, OPENED, QUESTION

logger = logging.getLogger(__name__)

END_S: Final = 1.0
"""It takes a millisecond to end."""


class Companion:
    """Implements `Service`, for the status: the server begins and ends it, with its sockets."""

    name = "breaker"

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._hooks = self._opened = 0
        self._problem = "not started"

    async def start(self) -> None:
        """Nothing to begin: there is no port yet."""

    async def stop(self) -> None:
        """Nothing to end: it has ended before the port was given back."""

    def status(self) -> dict[str, Any]:
        """Its process, and how often it has sent hooks away since the daemon runs; or why it has not."""
        if self._process is None:
            return {"problem": self._problem}
        return {"pid": self._process.pid, "opened": self._opened}

    def on_hook(self, change: int) -> None:
        """A hook begins (1) or ends (-1)."""
        self._hooks += change
        if change > 0:
            self._say(BEGUN)

    def begin(self, listener: socket.socket) -> None:
        """Start it for a socket that listens; from the thread of the loop that is to answer."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            try:
                self._process = _started(listener.fileno(), theirs.fileno())
            except OSError as error:
                ours.close()
                self._failed(f"could not be started: {error.strerror}")
                return
        self._control = ours
        asyncio.get_running_loop().add_reader(ours, self._asked)

    def end(self) -> None:
        """End it and wait for that, since it holds the port, too."""
        process = self._closed()
        if process is not None:
            _exit_code(process)

    def _asked(self) -> None:
        assert self._control is not None
        try:
            said = self._control.recv(64)
        except BlockingIOError:
            return
        except ConnectionResetError:  # it was killed before it could read
            said = b""
        if QUESTION in said:
            self._say(ANSWER + BEGUN if self._hooks else ANSWER)
        if OPENED in said:
            self._opened += 1
            logger.warning("the event loop stood still; hooks were sent away meanwhile")
        if not said and (process := self._closed()) is not None:
            self._failed(f"ended with {_exit_code(process)}")

    def _say(self, what: bytes) -> None:
        if self._control is not None:
            with contextlib.suppress(OSError):  # that it has ended is noticed elsewhere
                self._control.send(what)

    def _failed(self, why: str) -> None:
        self._problem = why
        logger.error("the breaker %s; a hang would delay every hook of an editor", why)

    def _closed(self) -> subprocess.Popen[bytes] | None:
        """Close the control socket, which ends it; the process, if there still was one."""
        process, self._process, self._problem = self._process, None, "ended"
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()
            self._control = None
        return process


def _started(*descriptors: int) -> subprocess.Popen[bytes]:
    """In a session of its own: what is typed at the terminal of a daemon is not for it."""
    program = Path(__file__).with_name("breaker.py")
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", str(program), *map(str, descriptors)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=descriptors,
        start_new_session=True,
    )


def _exit_code(process: subprocess.Popen[bytes]) -> int:
    """How a process that is about to end has ended."""
    try:
        return process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
