"""The ways in which an editor calls a hook, timed, and a server that does nothing to hold them against.

`python -m bench.hook_calls RUNTIME_FOLDER` is that server: asyncio, `{}` for every request, on a Unix
socket that the hook's command finds and on a port of the loopback, which it prints.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.daemons import environment
from localmem_node.config import load_settings
from localmem_node.files import private_directory, umask, write_private
from localmem_node.hook.compiled import compiled_text
from localmem_node.hook.launcher import write_launcher

INTERPRETER: Final = (sys.executable, "-I", "-S", "-c", "pass")
NOTHING: Final = ("/bin/true",)
"""The smallest process that there is."""
EDITOR_TIMEOUT_S: Final = 0.3
"""Of an HTTP hook, as it is installed."""

_HEADERS: Final = (
    "{method} {path} HTTP/1.1\r\nAccept: application/json, text/plain, */*\r\n"
    "Content-Type: application/json\r\nAuthorization: Bearer {token}\r\n"
    "User-Agent: axios/1.15.2\r\nContent-Length: {size}\r\n"
    "Accept-Encoding: gzip, compress, deflate, br\r\nHost: 127.0.0.1:{port}\r\n"
    "Connection: keep-alive\r\n\r\n"
)
"""What Claude Code 2.1 sends."""


Commands = Mapping[str, tuple[str, ...]]
"""What editors may run for an event: "command", in Python, and "compiled"."""


def commands_of(home: Path, program: Path | None) -> Commands:
    """What `localmem install` writes for a home: without a compiled client, and with this one."""
    given = environment(home)
    path = write_launcher(load_settings(given), given, lambda environment, interpreter: None)
    texts = {"command": path.read_bytes()}
    if program is not None:
        texts["compiled"] = compiled_text(program.read_bytes(), sys.executable, home)
    # Beside the launcher: a daemon renews that, and takes a compiled one where it finds it.
    commands: dict[str, tuple[str, ...]] = {}
    for way, text in texts.items():
        copied = path.with_name(way)
        copied.write_bytes(text)
        copied.chmod(0o700)
        commands[way] = (str(copied),)
    return commands


class Caller:
    """Requests like those of an editor: over a connection that is kept if the server keeps it."""

    def __init__(self, port: int, token: str) -> None:
        self._port, self._token = port, token
        self._connection: socket.socket | None = None

    def call(self, path: str, body: bytes = b"", method: str = "POST") -> tuple[float, bytes]:
        """(milliseconds, the answer's body); the body is empty without an answer in time."""
        head = _HEADERS.format(
            method=method, path=path, token=self._token, size=len(body), port=self._port
        ).encode()
        began = time.perf_counter()
        try:
            if self._connection is None:
                self._connection = socket.create_connection(
                    ("127.0.0.1", self._port), EDITOR_TIMEOUT_S
                )
                self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connection.sendall(head + body)
            answer, kept = _answer(self._connection)
            if not kept:
                self.close()
        except OSError:
            self.close()
            answer = b""
        return 1000 * (time.perf_counter() - began), answer

    def another(self) -> Caller:
        """One to the same server."""
        return Caller(self._port, self._token)

    def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def run(
    command: tuple[str, ...], body: bytes, environment: Mapping[str, str]
) -> tuple[float, bytes]:
    """(milliseconds of wall time of a process, what it printed)."""
    began = time.perf_counter()
    done = subprocess.run(
        command, input=body, stdout=subprocess.PIPE, env=dict(environment), check=True
    )
    return 1000 * (time.perf_counter() - began), done.stdout


@contextmanager
def bare_server(home: Path) -> Iterator[Caller]:
    """The server that does nothing, as a process of its own in a home of its own."""
    command = [sys.executable, "-m", "bench.hook_calls", str(home / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(home)) as process:
        assert process.stdout is not None
        caller = Caller(int(process.stdout.readline()), "0")
        try:
            yield caller
        finally:
            caller.close()
            process.terminate()


def _answer(connection: socket.socket) -> tuple[bytes, bool]:
    """(the body, whether another request may follow)."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _more(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    head = head.lower()
    size = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
    while len(body) < size:
        body += _more(connection)
    return body, b"\r\nconnection: close" not in head


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(65_536)
    if not data:
        raise ConnectionResetError
    return data


async def _serve(run_dir: Path) -> None:
    path = private_directory(run_dir) / "localmem.sock"
    with umask(0o177):
        unix = await asyncio.start_unix_server(_handle, path)
    loopback = await asyncio.start_server(_handle, "127.0.0.1", 0)
    write_private(run_dir / "hook", f"{path}\n0\n".encode())
    print(loopback.sockets[0].getsockname()[1], flush=True)
    async with unix, loopback:
        await asyncio.Event().wait()


async def _handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            await writer.drain()
            if b"connection: close" in head:
                break
    writer.close()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
