"""The description of the HTTP interface: true, whole, and by the standard.

That answers are as it says is checked wherever tests ask a hub (`support/described.py`).
"""

from __future__ import annotations

import re
from pathlib import Path

import httpx2
import pytest
from jsonschema import ValidationError
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route, WebSocketRoute

from localmem_hub.app import Policy
from localmem_hub.openapi import document
from support.described import check_described
from support.served_hub import ServedHub, serving


def served(hub: ServedHub) -> tuple[set[tuple[str, str]], set[str]]:
    """(method, path) of all routes, and the paths of WebSockets."""
    routes: set[tuple[str, str]] = set()
    sockets: set[str] = set()
    for route in hub.app.routes:
        path = re.sub(r":[a-z]+\}", "}", getattr(route, "path", ""))
        if isinstance(route, WebSocketRoute):
            sockets.add(path)
        else:
            assert isinstance(route, Route)
            routes |= {(method, path) for method in route.methods or () if method != "HEAD"}
    return routes, sockets


async def test_it_names_every_route_and_no_other(tmp_path: Path) -> None:
    async with serving(tmp_path, policy=Policy(plain_workers=1)) as hub:
        routes, sockets = served(hub)
        answer = await hub.ask("GET", "/openapi.json")
    told = answer.json()
    assert told == document()
    assert {(m.upper(), path) for path, ops in told["paths"].items() for m in ops} == routes
    assert set(told["x-websockets"]) == sockets


def test_it_is_an_openapi_document() -> None:
    OpenAPIV31SpecValidator(document()).validate()


def test_an_answer_that_is_not_described_is_found() -> None:
    def answer(status: int, content: object) -> httpx2.Response:
        return httpx2.Response(status, json=content)

    check_described("GET", "/healthz", answer(200, {"status": "ok"}))
    check_described("GET", "/nowhere", answer(200, None))
    with pytest.raises(AssertionError, match="418 is not documented"):
        check_described("GET", "/healthz", answer(418, {}))
    for wrong in ({"status": "well"}, {"status": "ok", "more": 1}, {}):
        with pytest.raises(ValidationError):
            check_described("GET", "/healthz", answer(200, wrong))
    with pytest.raises(ValidationError):
        check_described("POST", "/v1/mailboxes/7/join", answer(201, {"number": 7}))
