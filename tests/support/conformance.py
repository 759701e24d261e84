"""Runs the cases of `tests/vectors/daemon`, in the way its README describes, for the Python clients."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import select
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from localmem_node import AsyncMemory, Memory
from localmem_node.async_memory import AsyncWatching
from localmem_node.client import DaemonClient
from localmem_node.daemon.state import DaemonState, read_state, write_state
from localmem_node.problems import problem
from localmem_node.results import Found, event_json, found_json
from localmem_node.watchings import Watching
from localmem_protocol.events import Event
from support.described import described_daemon

VECTORS = Path(__file__).parents[1] / "vectors" / "daemon"
GRACE_S = 0.5
"""After which a call counts as sent: the daemon is frozen, so nothing else can tell."""

Case = dict[str, Any]


def cases(name: str) -> list[Case]:
    """The cases of a file that Python can run."""
    found: list[Case] = json.loads((VECTORS / f"{name}.json").read_text())["cases"]
    return [one for one in found if "python" in one.get("only", ["python"])]


def cancels(case: Case) -> bool:
    """Whether a caller gives up in a case, which one that is a thread cannot."""
    return any(step.get("meanwhile") == "cancel" for step in case["steps"])


def is_of_watch_or_time(case: Case) -> bool:
    """Whether somebody watches in a case, or waits for a time that is set."""
    return any("watch" in step or "timeout_ms" in step for step in case["steps"])


class Client(Protocol):
    """A client in one of its forms."""

    async def call(self, name: str, given: Mapping[str, Any]) -> Any:
        """What a call returns, as JSON."""
        ...

    async def watch(self, given: Mapping[str, Any]) -> Any:
        """Begin to watch."""
        ...

    async def next(self, watch: Any) -> Event:
        """The next event of a watch."""
        ...

    async def end(self, watch: Any) -> None:
        """End a watch."""
        ...

    async def close(self) -> None:
        """Give everything back."""
        ...


class SyncClient:
    """`Memory`, in threads."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def call(self, name: str, given: Mapping[str, Any]) -> Any:
        return _json(await asyncio.to_thread(_called, self._memory, name, dict(given)))

    async def watch(self, given: Mapping[str, Any]) -> Watching:
        return await asyncio.to_thread(lambda: self._memory.watch(**given))

    async def next(self, watch: Watching) -> Event:
        found: Event = await asyncio.to_thread(next, watch)
        return found

    async def end(self, watch: Watching) -> None:
        watch.close()

    async def close(self) -> None:
        self._memory.close()


class AsyncClient:
    """`AsyncMemory`."""

    def __init__(self, memory: AsyncMemory) -> None:
        self._memory = memory

    async def call(self, name: str, given: Mapping[str, Any]) -> Any:
        return _json(await _called(self._memory, name, dict(given)))

    async def watch(self, given: Mapping[str, Any]) -> AsyncWatching:
        return await self._memory.watch(**given)

    async def next(self, watch: AsyncWatching) -> Event:
        return await anext(watch)

    async def end(self, watch: AsyncWatching) -> None:
        await watch.close()

    async def close(self) -> None:
        await self._memory.close()


def _called(memory: Any, name: str, given: dict[str, Any]) -> Any:
    if name == "record_event":
        return memory.record_event(given["event"])
    if name == "timeline":
        return memory.timeline(given.pop("id", None), **given)
    if name == "pin":
        return memory.pin(given.pop("id"), **given)
    return getattr(memory, name)(**given)


def _json(result: object) -> Any:
    if isinstance(result, list):
        return [_json(one) for one in result]
    if isinstance(result, Found):
        return json.loads(json.dumps(found_json(result)))
    return json.loads(json.dumps(event_json(result))) if isinstance(result, Event) else result


@dataclass
class Run:
    """One case, with what it saved; `make` makes its client, with a time to answer or the usual.

    With `keeps` the client is not this case's own.
    """

    environment: Mapping[str, str]
    make: Callable[[float | None], Client]
    keeps: bool = False
    saved: dict[str, Any] = field(default_factory=dict)
    watches: dict[str, Any] = field(default_factory=dict)

    async def play(self, case: Case) -> None:
        client = self.make(None)
        try:
            for number, step in enumerate(case["steps"]):
                try:
                    await self._step(client, step)
                except AssertionError as error:
                    raise AssertionError(f"{case['name']}, step {number}: {error}") from error
        finally:
            for watch in self.watches.values():
                await client.end(watch)
            if not self.keeps:
                await client.close()

    async def _step(self, client: Client, step: Case) -> None:
        if "call" in step:
            await self._call(client, step)
        elif "request" in step:
            await asyncio.to_thread(self._request, step)
        elif "watch" in step:
            await self._expect(step, self._begin(client, step))
        elif "next" in step:
            async with asyncio.timeout(60):
                event = await client.next(self.watches[step["next"]])
            self.match(step["returns"], _json(event))
        elif "end" in step:
            await client.end(self.watches.pop(step["end"]))
        elif "fault" in step:
            await asyncio.to_thread(self._fault, step["fault"])
        else:
            raise ValueError(f"unknown step: {step}")

    async def _begin(self, client: Client, step: Case) -> None:
        self.watches[step["watch"]] = await client.watch(self.value(step["with"]))

    async def _call(self, client: Client, step: Case) -> None:
        own = None
        if "timeout_ms" in step or step.get("fresh"):
            own = self.make(step["timeout_ms"] / 1000 if "timeout_ms" in step else None)
        try:
            calling = (own or client).call(step["call"], self.value(step["with"]))
            await self._expect(step, self._amid(calling, step.get("meanwhile")))
        finally:
            if own is not None:
                await own.close()

    async def _amid(self, calling: Any, meanwhile: str | None) -> Any:
        if meanwhile is None:
            return await calling
        task = asyncio.ensure_future(calling)
        await asyncio.sleep(GRACE_S)
        assert not task.done(), "answered by a daemon that is frozen"
        if meanwhile == "cancel":
            task.cancel()
        else:
            await asyncio.to_thread(self._fault, meanwhile)
        return await task

    async def _expect(self, step: Case, result: Any) -> None:
        expected = step.get("raises")
        try:
            async with asyncio.timeout(100):
                got = await result
        except asyncio.CancelledError:
            if expected != {"cancelled": True}:
                raise
            return
        except TypeError as error:  # what JSON does not have, Python's own calls refuse by its type
            raise AssertionError(f"{step}: {error!r}") from error
        except Exception as error:
            self._raised(step, error)
            return
        assert expected is None, f"{got} instead of {expected}"
        if "returns" in step:
            self.match(step["returns"], got)

    def _raised(self, step: Case, error: Exception) -> None:
        expected, found = step.get("raises"), problem(error)[1]["error"]
        if expected is None or "code" not in expected:
            raise error
        codes = expected["code"] if isinstance(expected["code"], list) else [expected["code"]]
        assert found["code"] in codes, f"{error!r} is not {expected}"
        if "field" in expected:
            assert found["field"] == expected["field"], f"{error!r} is not {expected}"

    def value(self, given: Any) -> Any:
        """What a VALUE stands for."""
        if isinstance(given, list):
            return [self.value(one) for one in given]
        if not isinstance(given, dict):
            return given
        if len(given) != 1 or not next(iter(given)).startswith("$"):
            return {name: self.value(one) for name, one in given.items()}
        ((name, one),) = given.items()
        if name == "$saved":
            return self.saved[one]
        if name == "$text":
            return "".join(piece * times for piece, times in one)
        if name == "$list":
            return [self.value(one[0])] * one[1]
        if name == "$utf16":
            units = b"".join(int(unit, 16).to_bytes(2, "big") for unit in one.split())
            return units.decode("utf-16-be", "surrogatepass")
        if name == "$not_json":
            return object()
        raise ValueError(f"unknown value: {name}")

    def match(self, pattern: Any, got: Any) -> None:
        """Fail unless a result matches."""
        if isinstance(pattern, list):
            assert isinstance(got, list), f"{got!r} is no list"
            assert len(got) == len(pattern), f"{len(got)} instead of {len(pattern)}: {got!r}"
            for one, other in zip(pattern, got, strict=True):
                self.match(one, other)
        elif not isinstance(pattern, dict):
            same = type(pattern) is type(got) or {type(pattern), type(got)} == {int, float}
            assert same, f"{got!r} is not {pattern!r}"
            assert got == pattern, f"{got!r} is not {pattern!r}"
        elif "$save" in pattern:
            self.match(pattern.get("as", {"$any": True}), got)
            self.saved[pattern["$save"]] = got
        elif "$any" in pattern:
            pass
        elif "$length" in pattern:
            assert len(got) == pattern["$length"], f"{len(got)} is not {pattern['$length']}"
        elif "$from" in pattern:
            assert pattern["$from"] <= got <= pattern["to"], f"{got!r} is not in {pattern}"
        elif "$has" in pattern:
            assert any(self._matches(pattern["$has"], one) for one in got), f"not in {got}"
        elif len(pattern) == 1 and next(iter(pattern)).startswith("$"):
            self.match(self.value(pattern), got)
        else:
            assert isinstance(got, dict), f"{got!r} is no object"
            for name, one in pattern.items():
                assert name in got, f"{name} is not in {got}"
                self.match(one, got[name])

    def _matches(self, pattern: Any, got: Any) -> bool:
        try:
            self.match(pattern, got)
        except AssertionError:
            return False
        return True

    def _fault(self, fault: str) -> None:
        with DaemonClient(self.environment) as client:
            if fault == "start":
                client.ensure_running()
                return
            state = read_state(client.settings)
            assert state is not None
            if fault in ("freeze", "thaw"):
                os.kill(state.pid, signal.SIGSTOP if fault == "freeze" else signal.SIGCONT)
            elif fault == "kill":
                _end(state, signal.SIGKILL)
            elif fault == "stop":
                assert client.stop()
            elif fault == "spoil_store":
                assert client.stop()
                client.settings.store_path.write_bytes(bytes(256 * 1024))
            elif fault == "replace_token":
                other = "0" * len(state.token)
                write_state(
                    client.settings,
                    DaemonState(state.pid, state.port, state.socket, other, state.version),
                )
            else:
                raise ValueError(f"unknown fault: {fault}")

    def _request(self, step: Case) -> None:
        asked, answers = step["request"], step["answers"]
        with DaemonClient(self.environment) as client:
            state = client.ensure_running()
        data = b""
        if "body" in asked:
            data = json.dumps(self.value(asked["body"])).encode()
        elif "text" in asked:
            data = self.value(asked["text"]).encode()
        elif "hex" in asked:
            data = bytes.fromhex(asked["hex"])
        status, headers, body = _exchange(
            state, asked["method"], asked["path"], data, asked.get("headers", {}), asked
        )
        assert status == answers["status"], f"{asked}: {status} {body[:300]!r}"
        kind = headers.get("content-type")
        described_daemon().check(asked["method"], asked["path"], status, kind, body)
        for name, value in answers.get("headers", {}).items():
            assert headers.get(name.lower()) == value, f"{asked}: {name}"
        if "body" in answers:
            self.match(answers["body"], json.loads(body))


def _end(state: DaemonState, number: int) -> None:
    descriptor = os.pidfd_open(state.pid)
    try:
        os.kill(state.pid, number)
        assert select.select([descriptor], [], [], 60)[0]
    finally:
        os.close(descriptor)


def _exchange(
    state: DaemonState,
    method: str,
    path: str,
    data: bytes,
    named: Mapping[str, str | None],
    asked: Case,
) -> tuple[int, dict[str, str], bytes]:
    """One request as it is written down, with no library's opinion of it."""
    headers: dict[str, str | None] = {
        "Host": "localhost",
        "Authorization": f"Bearer {state.token}",
        "Content-Type": "application/json",
        "Content-Length": str(len(data)),
        "Connection": "close",
    }
    if asked.get("chunked"):
        del headers["Content-Length"]
        headers["Transfer-Encoding"] = "chunked"
        data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
    headers |= named
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    head = "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode()
    over_socket = asked.get("over", "socket") == "socket"
    family = socket.AF_UNIX if over_socket else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(60)
        connection.connect(state.socket if over_socket else ("127.0.0.1", state.port))
        connection.sendall(head + data)
        answer = http.client.HTTPResponse(connection, method=method)
        answer.begin()
        return (
            answer.status,
            {name.lower(): value for name, value in answer.getheaders()},
            answer.read(),
        )


def names(cases: Sequence[Case]) -> list[str]:
    """Names for pytest."""
    return [re.sub(r"[^A-Za-z0-9]+", "-", one["name"])[:60] for one in cases]
