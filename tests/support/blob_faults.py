"""A storage account that fails when a test says so: what goes between the library and a real Azurite."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import requests
from azure.core.pipeline.transport import RequestsTransport
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse

from localmem_protocol.simulation import SeededRandom

Fault = Literal["busy", "refused", "lost answer", "lost request", "killed", "full"]

ALL_KINDS: tuple[Fault, ...] = ("busy", "lost answer", "lost request", "killed")


class Killed(BaseException):
    """The process is no more."""


@dataclass
class Rule:
    """What happens to the next `times` requests that match; `skip` of them go by before.

    A callable runs before its request is sent.
    """

    method: str
    part: str
    fault: Fault | Callable[[], object]
    times: int = 1
    skip: int = 0
    query: str = ""

    def matches(self, request: Any) -> bool:
        path, _, query = request.url.partition("?")
        return request.method == self.method and self.part in path and self.query in query


@dataclass
class Faults:
    """The rules, and by chance what else happens: `rate` of all requests, with this seed."""

    rules: list[Rule] = field(default_factory=list)
    chance: SeededRandom | None = None
    rate: float = 0.0
    kinds: tuple[Fault, ...] = ("busy", "lost answer", "lost request")
    sent: list[tuple[str, str]] = field(default_factory=list)
    happened: list[str] = field(default_factory=list)
    lock: Any = field(default_factory=threading.RLock)

    def add(self, method: str, part: str, fault: Any, **more: Any) -> Rule:
        """One more rule."""
        rule = Rule(method, part, fault, **more)
        self.rules.append(rule)
        return rule

    def of(self, request: Any) -> Fault | Callable[[], object] | None:
        """What happens to a request."""
        with self.lock:
            self.sent.append((request.method, request.url))
            for rule in self.rules:
                if rule.times and rule.matches(request):
                    if rule.skip:
                        rule.skip -= 1
                        continue
                    rule.times -= 1
                    self.happened.append(str(rule.fault))
                    return rule.fault
            if self.chance is not None and self.chance.below(1000) < 1000 * self.rate:
                kind = self.kinds[self.chance.below(len(self.kinds))]
                self.happened.append(kind)
                return kind
        return None


class FaultyTransport(RequestsTransport):  # type: ignore[misc]
    """Carries out what `Faults` says."""

    def __init__(self, faults: Faults) -> None:
        session = requests.Session()
        session.mount("http://", _FaultyAdapter(faults))
        super().__init__(session=session)
        self.faults = faults

    def sleep(self, duration: float) -> None:
        """Nobody waits in tests."""


class _FaultyAdapter(HTTPAdapter):
    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self._faults = faults

    def send(self, request: Any, *args: Any, **kwargs: Any) -> requests.Response:
        fault = self._faults.of(request)
        if callable(fault):
            fault()
            fault = None
        if fault == "busy":
            return self._answer(request, 503, "ServerBusy", {"Retry-After": "0"})
        if fault == "refused":
            return self._answer(request, 403, "AuthenticationFailed")
        if fault == "full":
            return self._answer(request, 409, "BlockCountExceedsLimit")
        if fault == "lost request":
            raise requests.exceptions.ConnectionError("the request got lost")
        if fault == "killed":
            raise Killed
        answer = super().send(request, *args, **kwargs)
        if fault == "lost answer":
            _ = answer.content  # so that the connection can be used again
            raise requests.exceptions.ReadTimeout("the answer got lost")
        return answer

    def _answer(
        self, request: Any, status: int, code: str, headers: dict[str, str] | None = None
    ) -> requests.Response:
        told = {"x-ms-error-code": code, "Content-Length": "0"} | (headers or {})
        raw = HTTPResponse(io.BytesIO(b""), headers=told, status=status, preload_content=False)
        return self.build_response(request, raw)
