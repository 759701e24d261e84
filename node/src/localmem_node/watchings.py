"""What `Memory.watch` gives: an iterator of events that ends when it is closed.

From the daemon it goes on with the next one when the daemon is replaced; none is started for it after
the first, so that `localmem down` lasts. Embedded: `engine_watching.py`.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from threading import Event as Flag
from threading import Lock, RLock
from types import TracebackType
from typing import Any, Self

import msgspec

from localmem_node.client import ATTEMPTS, CONNECT_S, DaemonClient
from localmem_node.daemon.state import DaemonState, read_state
from localmem_node.errors import DaemonError, DaemonTimeout
from localmem_node.watch_place import PATH, SILENCE_S, Interrupted, Place, pause_s
from localmem_protocol.events import Event


class Watching(Iterator[Event]):
    """Events as they become durable. Use it as a context manager, or `close` it, from any thread."""

    def __init__(self) -> None:
        self._closed = Flag()

    @property
    @abstractmethod
    def complete(self) -> bool:
        """False once events of other devices may have been left out, after an interruption."""

    @abstractmethod
    def __next__(self) -> Event: ...

    @abstractmethod
    def close(self) -> None:
        """End it: whoever waits for the next event waits no more."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class DaemonWatching(Watching):
    """Of the daemon, over a connection of its own."""

    def __init__(self, client: DaemonClient, fields: Mapping[str, Any]) -> None:
        """Raises QueryError, DaemonError, and what keeps the daemon from starting."""
        super().__init__()
        self._client, self._place = client, Place(fields)
        self._lock, self._reading = Lock(), RLock()
        self._socket: socket.socket | None = None
        self._answer: http.client.HTTPResponse | None = None
        for attempt in range(ATTEMPTS):
            self._connect(client.ensure_running())
            if self._answer is not None or self._closed.wait(pause_s(attempt)):
                return
        raise DaemonError("the daemon went away before it answered; watch again")

    @property
    def complete(self) -> bool:
        """Whether nothing was left out for sure."""
        return self._place.complete

    def __next__(self) -> Event:
        with self._reading:
            while not self._closed.is_set():
                if self._answer is None:
                    self._connect_again()
                    continue
                try:
                    event = self._place.heard(self._answer.readline())
                except (OSError, http.client.HTTPException, Interrupted):
                    self._disconnect()
                    continue
                if event is not None:
                    return event
        raise StopIteration

    def close(self) -> None:
        """End it."""
        self._closed.set()
        with self._lock:
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)  # wakes whoever reads
        with self._reading:
            self._disconnect()

    def _connect_again(self) -> None:
        attempt = 0
        while self._answer is None and not self._closed.wait(pause_s(attempt)):
            attempt += 1
            state = read_state(self._client.settings)
            if state is not None:
                self._connect(state)

    def _connect(self, state: DaemonState) -> None:
        """Begin to read, if the daemon is there. Raises what it reports."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with self._lock:
            self._socket = connection
        try:
            connection.settimeout(CONNECT_S)
            connection.connect(state.socket)
            connection.settimeout(self._client.answer_s)
            connection.sendall(_request(state, self._place.body()))
            answer = http.client.HTTPResponse(connection, method="POST")
            answer.begin()
            if answer.status != 200:
                self._refused(state, answer)
            self._place.heard(answer.readline())
            connection.settimeout(SILENCE_S)
            self._answer = answer
        except TimeoutError:
            self._disconnect()
            if not self._place.begun:
                raise DaemonTimeout("the daemon did not answer; run: localmem doctor") from None
        except (OSError, http.client.HTTPException, Interrupted):
            self._disconnect()
        except BaseException:
            self._disconnect()
            raise

    def _refused(self, state: DaemonState, answer: http.client.HTTPResponse) -> None:
        if answer.status == 401 and read_state(self._client.settings) != state:
            raise Interrupted  # another daemon took the socket over meanwhile
        try:
            told = msgspec.json.decode(answer.read(), type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise DaemonError(f"the daemon answered {answer.status} and no JSON") from None
        self._place.refused(told)

    def _disconnect(self) -> None:
        if self._answer is not None:
            self._answer.close()
            self._answer = None
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None


def _request(state: DaemonState, body: bytes) -> bytes:
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {state.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body
