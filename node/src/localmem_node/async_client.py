"""A client of the daemon for asyncio, over its Unix socket: what `client.py` is for threads.

Several requests at a time; one that is cancelled gives its connection up at once. httpx2 does the
HTTP, and is imported by whoever uses this.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Final, Self

import httpx2
import msgspec

from localmem_node.client import ANSWER_S, ATTEMPTS, CONNECT_S, DaemonClient, encoded
from localmem_node.daemon.state import DaemonState, read_state
from localmem_node.errors import DaemonError, DaemonTimeout
from localmem_node.problems import raise_problem
from localmem_node.watch_place import PATH, SILENCE_S, Interrupted, Place, pause_s
from localmem_protocol.events import Event

_NOT_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


class AsyncDaemonClient:
    """Starts the daemon if there is none. Use it as a context manager, or `close` it.

    Every call raises DaemonError when there is no daemon or no answer, and otherwise the error that
    the daemon reports.
    """

    def __init__(
        self, environment: Mapping[str, str] | None = None, *, answer_s: float = ANSWER_S
    ) -> None:
        """As for `DaemonClient`. Raises ConfigError."""
        self.answer_s = answer_s
        self._starter = DaemonClient(dict(os.environ if environment is None else environment))
        self._settings = self._starter.settings
        self._http: tuple[httpx2.AsyncClient, DaemonState] | None = None

    async def call(
        self, method: str, path: str, body: object = None, *, repeatable: bool = True
    ) -> dict[str, Any]:
        """The answer of a route. It is asked again when the connection breaks, if that may be done."""
        data = b"" if body is None else encoded(body)
        status, payload = await self._send(method, path, data, repeatable=repeatable)
        answer = _decoded(status, payload)
        if status != 200:
            raise_problem(answer)
        return answer

    async def watch(self, fields: Mapping[str, Any]) -> AsyncDaemonWatching:
        """Events as they become durable. Raises QueryError, DaemonError."""
        watching = AsyncDaemonWatching(self, fields)
        await watching.begin()
        return watching

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connections back; the daemon goes on."""
        self._starter.close()
        if self._http is not None:
            (http, _), self._http = self._http, None
            await http.aclose()

    async def connected(self, *, start: bool = True) -> tuple[httpx2.AsyncClient, DaemonState]:
        """The connections to the daemon that there is now. Raises DaemonError."""
        state = read_state(self._settings)
        if state is None:
            if not start:
                raise DaemonError("no daemon is running; start one with: localmem up")
            await self.start()
            state = read_state(self._settings)
            if state is None:
                raise DaemonError("the daemon ended as soon as it had started; see its log")
        if self._http is not None and self._http[1] == state:
            return self._http
        before, self._http = self._http, (_http(state, self.answer_s), state)
        if before is not None:
            await before[0].aclose()
        return self._http

    async def start(self) -> None:
        """Start the daemon, or see that it is there. Raises what keeps it from starting."""
        await asyncio.to_thread(self._starter.ensure_running)

    def is_replaced(self, state: DaemonState) -> bool:
        """Whether another daemon says where it is by now."""
        return read_state(self._settings) != state

    async def _send(
        self, method: str, path: str, data: bytes, *, repeatable: bool
    ) -> tuple[int, bytes]:
        for attempt in range(ATTEMPTS):
            http, state = await self.connected()
            try:
                async with asyncio.timeout(self.answer_s):  # a start takes its own time
                    answer = await http.request(method, path, content=data)
            except _NOT_SENT:
                await self.start()  # only the files of one that was killed were there
            except (httpx2.TimeoutException, TimeoutError):
                raise DaemonTimeout(
                    f"the daemon did not answer within {self.answer_s:g} s; run: localmem doctor"
                ) from None
            except httpx2.TransportError as error:
                if not repeatable or attempt == ATTEMPTS - 1:
                    doubt = "" if repeatable else "; what was sent may or may not be done"
                    raise DaemonError(
                        f"the daemon went away before it answered: {error}{doubt}"
                    ) from None
            else:
                if answer.status_code != 401 or not self.is_replaced(state):
                    return answer.status_code, answer.content
            await asyncio.sleep(pause_s(attempt))
        raise DaemonError("the daemon cannot be reached; run: localmem doctor")


class AsyncDaemonWatching(AsyncIterator[Event]):
    """Events as they become durable, until it is closed; goes on with the next daemon."""

    def __init__(self, client: AsyncDaemonClient, fields: Mapping[str, Any]) -> None:
        """Raises QueryError. `begin` it before anything else."""
        self._client, self._place = client, Place(fields)
        self._answer: httpx2.Response | None = None
        self._lines: AsyncIterator[bytes] | None = None
        self._closed = asyncio.Event()

    @property
    def complete(self) -> bool:
        """False once events of other devices may have been left out, after an interruption."""
        return self._place.complete

    async def begin(self) -> None:
        """Return once the daemon says that it tells. Raises QueryError, DaemonError."""
        for attempt in range(ATTEMPTS):
            await self._connect(start=True)
            if self._lines is not None:
                return
            await asyncio.sleep(pause_s(attempt))
        raise DaemonError("the daemon went away before it answered; watch again")

    async def __anext__(self) -> Event:
        while not self._closed.is_set():
            if self._lines is None:
                await self._connect_again()
                continue
            try:
                event = self._place.heard(await anext(self._lines, b""))
            except (httpx2.TransportError, httpx2.StreamError, Interrupted):
                await self._disconnect()
                continue
            if event is not None:
                return event
        raise StopAsyncIteration

    async def close(self) -> None:
        """End it: whoever waits for the next event waits no more."""
        self._closed.set()
        await self._disconnect()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _connect_again(self) -> None:
        attempt = 0
        while self._lines is None and not self._closed.is_set():
            try:
                async with asyncio.timeout(pause_s(attempt)):
                    await self._closed.wait()
            except TimeoutError:
                attempt += 1
                await self._connect(start=False)

    async def _connect(self, *, start: bool) -> None:
        """Begin to read, if the daemon is there. Raises what it reports."""
        try:
            http, state = await self._client.connected(start=start)
        except DaemonError:
            if start:
                raise
            return
        request = http.build_request(
            "POST", PATH, content=self._place.body(), timeout=httpx2.Timeout(SILENCE_S)
        )
        try:
            async with asyncio.timeout(self._client.answer_s):
                self._answer = await http.send(request, stream=True)
                if self._answer.status_code != 200:
                    await self._refused(self._answer, state)
                lines = _lines(self._answer)
                self._place.heard(await anext(lines, b""))
            self._lines = lines
        except TimeoutError:
            await self._disconnect()
            if start:
                raise DaemonTimeout("the daemon did not answer; run: localmem doctor") from None
        except _NOT_SENT:
            await self._disconnect()
            if start:
                await self._client.start()
        except (httpx2.TransportError, httpx2.StreamError, Interrupted):
            await self._disconnect()
        except BaseException:
            await self._disconnect()
            raise

    async def _refused(self, answer: httpx2.Response, state: DaemonState) -> None:
        if answer.status_code == 401 and self._client.is_replaced(state):
            raise Interrupted
        self._place.refused(_decoded(answer.status_code, await answer.aread()))

    async def _disconnect(self) -> None:
        self._lines = None
        if self._answer is not None:
            answer, self._answer = self._answer, None
            await answer.aclose()


async def _lines(answer: httpx2.Response) -> AsyncIterator[bytes]:
    """Lines by line feeds alone: a text may hold other separators. The last one may lack its end."""
    rest = b""
    async for chunk in answer.aiter_raw():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line + b"\n"
    if rest:
        yield rest


def _http(state: DaemonState, answer_s: float) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        transport=httpx2.AsyncHTTPTransport(uds=state.socket),
        base_url="http://localhost",
        headers={"Authorization": f"Bearer {state.token}", "Content-Type": "application/json"},
        timeout=httpx2.Timeout(answer_s, connect=CONNECT_S),
        trust_env=False,
    )


def _decoded(status: int, payload: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(payload, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise DaemonError(f"the daemon answered {status} and no JSON; run: localmem down") from None
