"""A client of the daemon, over its Unix socket, with nothing but the standard library and msgspec.

One connection is kept. One that the daemon closed while idle is noticed before anything is sent;
after that only calls that may be repeated are.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from localmem_node.config import Settings, load_settings
from localmem_node.daemon.endpoint import hook_path
from localmem_node.daemon.launch import launch
from localmem_node.daemon.state import DaemonState, daemon_lock_path, read_state, state_path
from localmem_node.errors import DaemonError, DaemonTimeout, NodeError, QueryError
from localmem_node.exchange import NO_HEADERS, exchange
from localmem_node.files import lock_owner, try_lock
from localmem_node.problems import raise_problem
from localmem_node.system import SystemClock

ANSWER_S: Final = 60.0
CONNECT_S: Final = 5.0
STOP_S: Final = 30.0
ATTEMPTS: Final = 4
"""How often a call that may be repeated is tried when the connection breaks, within 0.3 s."""

_CLOCK: Final = SystemClock()


class DaemonClient:
    """Thread-safe; one request at a time. Starts the daemon if there is none and `start` is true.
    Use it as a context manager, or `close` it.

    Every call raises DaemonError when there is no daemon or no answer, and otherwise the error that
    the daemon reports: EventError, QueryError, StoreError…
    """

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        *,
        start: bool = True,
        answer_s: float | None = ANSWER_S,
    ) -> None:
        """`environment` replaces os.environ, for the daemon as well; `answer_s` is how long an
        answer may take, or None for as long as it does. Raises ConfigError.
        """
        self.environment = dict(os.environ if environment is None else environment)
        self.settings: Settings = load_settings(self.environment)
        self._start = start
        self.answer_s = answer_s
        self._lock = Lock()
        self._connection: tuple[socket.socket, DaemonState] | None = None

    def record(
        self, events: Sequence[Mapping[str, Any]], folder: str | None = None
    ) -> dict[str, Any]:
        """{"recorded": […], "failed": [{"index", "field", "message"}]} for at most 256 events.

        Relative paths are relative to `folder`, an absolute path; without it git is not asked
        whether it ignores them.
        """
        body = {"events": events, "folder": folder}
        return self._call("POST", "/v1/record", body, repeatable=False)

    def query(
        self,
        query: str,
        k: int,
        project: str | None = None,
        *,
        explain: bool = False,
        **filters: Any,
    ) -> dict[str, Any]:
        """{"events": […], "took_ms"}: what answers the query best.

        `filters` are fields of a `Selection`; with `explain` each event has its "evidence".
        """
        body = {"query": query, "k": k, "project": project, "explain": explain, **filters}
        return self._call("POST", "/v1/query", body)

    def recent(self, k: int, project: str | None = None, **filters: Any) -> dict[str, Any]:
        """{"events": […], "took_ms"}: what is newest. `filters` are fields of a `Selection`."""
        return self._call("POST", "/v1/recent", {"k": k, "project": project, **filters})

    def timeline(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """{"events": […]}: `fields` are "id", "k", and those of a `Selection`."""
        return self._call("POST", "/v1/timeline", fields)

    def context(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """{"text", "contextIds", "tokens", "characters", "took_ms"}: a block for a model.

        `fields` are "query", "budget_tokens", "session", "reset", and those of a `Selection`. What
        a daemon that was killed had noted as told and not answered is not told again.
        """
        return self._call("POST", "/v1/context", fields)

    def export_page(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """{"device", "events": […], "cursor"}: the next part of everything, in order.

        `fields` are those of a `Selection`, and the cursor of the answer before.
        """
        return self._call("POST", "/v1/export", fields)

    def import_events(self, events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """{"new", "known", "too_old", "refused": [{"index", "field", "message"}], "evicted"} for at
        most 256 events of an export; may be repeated.
        """
        return self._call("POST", "/v1/import", {"events": events})

    def pin(self, event_id: str, *, pinned: bool = True) -> dict[str, Any]:
        """{"event"}: an event, pinned or let go."""
        return self._call("POST", "/v1/pin", {"id": event_id, "pinned": pinned})

    def forget(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """{"count", "events", "forgotten", "copies"}: what was forgotten, or would be.

        `fields` are those of a `Selection`, "query" and "k", and "dry_run".
        """
        return self._call("POST", "/v1/forget", fields)

    def status(self) -> dict[str, Any]:
        """What the daemon says of itself."""
        return self._call("GET", "/v1/status", None)

    def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Any other route; not repeated when the connection breaks."""
        return self._call(method, path, body, repeatable=False)

    def send(
        self,
        method: str,
        path: str,
        data: bytes,
        headers: Mapping[str, str] = NO_HEADERS,
        *,
        repeatable: bool = False,
    ) -> tuple[int, bytes]:
        """(status, body) of any route, whatever the status; `headers` are further ones, in ASCII."""
        return self._send(method, path, data, headers, repeatable=repeatable)

    def running(self) -> DaemonState | None:
        """The daemon that answers now; none is started."""
        with self._lock:
            if self._connection is None:
                self._try_connect()
            return self._connection[1] if self._connection else None

    def ensure_running(self) -> DaemonState:
        """The daemon, started if there was none."""
        with self._lock:
            return self._connected()[1]

    def stop(self) -> bool:
        """Stop the daemon and wait until it is gone; False if none was running.

        What one that was killed has left behind is removed.
        """
        lock = daemon_lock_path(self.settings)
        if self.running() is not None:
            with contextlib.suppress(DaemonError):  # it went away by itself: the lock tells
                self._call("POST", "/v1/stop", None, repeatable=False, start=False)
            self.close()
        elif not self._stop_unreachable(lock):
            return False
        deadline = _CLOCK.monotonic_s() + STOP_S
        while (descriptor := try_lock(lock)) is None:
            if _CLOCK.monotonic_s() > deadline:
                raise DaemonError(f"the daemon is still busy after {STOP_S:.0f} s; try again")
            time.sleep(0.02)
        os.close(descriptor)
        return True

    def _stop_unreachable(self, lock: Path) -> bool:
        """Signal a daemon whose socket is gone, or tidy up after one that is itself."""
        state = read_state(self.settings)
        if state is None:
            return False
        descriptor = try_lock(lock)
        if descriptor is not None:
            for path in (state_path(self.settings), hook_path(self.settings), Path(state.socket)):
                path.unlink(missing_ok=True)
            os.close(descriptor)
            return False
        # Both say so: it has the lock now, and it is a daemon of ours, not one with its old number.
        if lock_owner(lock) != state.pid:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(state.pid, signal.SIGTERM)
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back; the daemon goes on."""
        with self._lock:
            self._disconnect()

    def _call(
        self,
        method: str,
        path: str,
        body: object,
        *,
        repeatable: bool = True,
        start: bool | None = None,
    ) -> dict[str, Any]:
        data = b"" if body is None else encoded(body)
        status, payload = self._send(
            method, path, data, NO_HEADERS, repeatable=repeatable, start=start
        )
        try:
            answer = msgspec.json.decode(payload, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise DaemonError(
                f"the daemon answered {status} and no JSON; run: localmem down"
            ) from None
        if status != 200:
            raise_problem(answer)
        return answer

    def _send(
        self,
        method: str,
        path: str,
        data: bytes,
        headers: Mapping[str, str],
        *,
        repeatable: bool,
        start: bool | None = None,
    ) -> tuple[int, bytes]:
        with self._lock:
            for attempt in range(1, ATTEMPTS + 1):
                connection, state = self._connected(start)
                try:
                    status, payload, closing = exchange(
                        connection, method, path, state.token, data, headers
                    )
                except TimeoutError:
                    self._disconnect()
                    raise DaemonTimeout(
                        f"the daemon did not answer within {self.answer_s:g} s; "
                        "run: localmem doctor"
                    ) from None
                except OSError as error:
                    self._disconnect()
                    if not repeatable or attempt == ATTEMPTS:
                        doubt = "" if repeatable else "; what was sent may or may not be done"
                        raise DaemonError(
                            f"the daemon went away before it answered: {_reason(error)}{doubt}"
                        ) from None
                else:
                    # One that has just begun may have been told the token of the one before it.
                    replaced = status == 401 and read_state(self.settings) != state
                    if closing or replaced:
                        self._disconnect()
                    if not replaced or attempt == ATTEMPTS:
                        return status, payload
                # A daemon that is being killed still takes connections for a few milliseconds.
                time.sleep(0.05 * attempt)
            raise AssertionError("unreachable")

    def _connected(self, start: bool | None = None) -> tuple[socket.socket, DaemonState]:
        """The connection, made anew if it is closed, with a daemon started if need be."""
        if self._connection is not None and _is_closed(self._connection[0]):
            self._disconnect()
        if self._connection is None:
            self._try_connect()
        if self._connection is None:
            if not (self._start if start is None else start):
                raise DaemonError("no daemon is running; start one with: localmem up")
            launch(self.settings, self.environment, self._try_connect)
            if self._connection is None:
                self._try_connect()
        if self._connection is None:
            raise DaemonError(
                f"the daemon started but cannot be reached; see {self.settings.log_path}"
            )
        return self._connection

    def _try_connect(self) -> bool:
        """Connect if a daemon listens. Raises NodeError for files that are not to be trusted."""
        state = read_state(self.settings)
        if state is None:
            return False
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(CONNECT_S)
            connection.connect(state.socket)
            connection.settimeout(self.answer_s)
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            return False
        except OSError as error:
            connection.close()
            raise NodeError(f"{state.socket}: cannot connect: {_reason(error)}") from None
        self._connection = (connection, state)
        return True

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection[0].close()
            self._connection = None


def encoded(body: object) -> bytes:
    """A body as JSON. Raises QueryError naming the field that is no text in UTF-8."""
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError:
        fields = body if isinstance(body, Mapping) else {"": body}
        wrong = next((str(name) for name, value in fields.items() if not _is_utf8(value)), "")
        raise QueryError(wrong, "contains half of a surrogate pair") from None


def _is_utf8(value: object) -> bool:
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        return False
    return True


def _is_closed(connection: socket.socket) -> bool:
    """Whether the other side has closed; an idle connection has nothing to read otherwise."""
    return bool(select.select([connection], [], [], 0)[0])


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
