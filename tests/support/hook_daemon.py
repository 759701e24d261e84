"""A server where hooks expect the daemon, for what a daemon does not do on demand: hang, or be killed.

It writes the runtime folder's `hook` file like one, and keeps every request that it got.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

TOKEN = "a" * 64


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    head: bytes
    body: bytes


class HookDaemon:
    """Listens in `<home>/run`; `answer` is sent whole for each request, nothing if it is None.

    Without an answer a connection is closed once its request was read, or at its first byte if
    `reads` is false. `accepts` false leaves connections in the kernel's queue: a daemon that hangs.
    """

    def __init__(
        self,
        home: Path,
        answer: bytes | None = b"{}",
        *,
        status: str = "200 OK",
        head: bytes | None = None,
        accepts: bool = True,
        reads: bool = True,
    ) -> None:
        self.run = home / "run"
        self.path = self.run / "localmem.sock"
        self.requests: list[Request] = []
        self.connections = 0
        self._answer, self._status, self._head = answer, status, head
        self._accepts, self._reads = accepts, reads
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self.run.mkdir(parents=True, exist_ok=True)
        self.run.chmod(0o700)
        self.path.unlink(missing_ok=True)
        self._socket.bind(str(self.path))
        self.path.chmod(0o600)
        self._socket.listen(64)
        self.tell()
        if self._accepts:
            self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._socket.close()

    def tell(self, text: str | None = None) -> Path:
        """(Re)write the `hook` file."""
        path = self.run / "hook"
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(os.fsencode(f"{self.path}\n{TOKEN}\n" if text is None else text))
        return path

    def waiting(self) -> int:
        """How many connections were made and never accepted."""
        self._socket.setblocking(False)
        count = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.accept()[0].close()
                count += 1
        return count

    def _start(self, target: object, *arguments: object) -> None:
        assert callable(target)
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            if not self._reads:
                connection.recv(1)
                return
            with connection.makefile("rb") as stream:
                lines = []
                while (line := stream.readline()) not in (b"\r\n", b""):
                    lines.append(line)
                head = b"".join(lines)
                size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                self.requests.append(Request(head, stream.read(size)))
            if self._answer is not None:
                first = b"HTTP/1.1 " + self._status.encode() + b"\r\n"
                length = b"Content-Length: %d\r\n\r\n" % len(self._answer)
                connection.sendall(first + (length if self._head is None else self._head))
                connection.sendall(self._answer)
