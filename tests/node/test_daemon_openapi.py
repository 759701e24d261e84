"""The description of the daemon's interface: true, whole, by the standard, and as it is committed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance
from starlette.routing import Route

from localmem_node.client import DaemonClient
from localmem_node.config import load_settings
from localmem_node.daemon.app import Handlers
from localmem_node.daemon.extensions import load_extensions
from localmem_node.daemon.openapi import MCP, document, text
from localmem_node.opening import open_engine
from localmem_node.system import SystemClock, SystemRandom
from support.daemon import environment
from support.described import described_daemon

ROOT = Path(__file__).parents[2]


async def test_it_names_every_route_and_no_other(tmp_path: Path) -> None:
    configuration = load_settings(environment(tmp_path / "home"))
    clock, random = SystemClock(), SystemRandom()
    engine = open_engine(configuration, clock=clock)
    handlers = Handlers(engine, clock, (), lambda: None)
    added = [extend(configuration, engine, clock, random) for extend in load_extensions()]
    served = set()
    for route in [*handlers.routes(), *(route for routes, _ in added for route in routes)]:
        assert isinstance(route, Route)
        path = re.sub(r":[a-z]+\}", "}", route.path)
        served |= {(method, path) for method in route.methods or {"POST"} if method != "HEAD"}
    for _, services in added:
        for one in services:
            await one.stop()
    handlers.close()
    engine.close()
    told = {(m.upper(), path) for path, ops in document()["paths"].items() for m in ops}
    assert told | {("POST", path) for path in MCP} == served


def test_it_is_an_openapi_document() -> None:
    OpenAPIV31SpecValidator(document()).validate()


def test_what_clients_are_made_from_is_what_is_served() -> None:
    committed = (ROOT / "clients/openapi.json").read_bytes()
    assert committed == text(), "make contract"


def test_an_answer_that_is_not_described_is_found() -> None:
    check = described_daemon().check
    kind = "application/json"
    check("GET", "/healthz", 200, kind, b'{"ok":true}')
    check("POST", "/v1/watch", 200, "application/x-ndjson", b'{"heartbeat":true}\n')
    for status, body in ((200, b'{"ok":1}'), (200, b"{}"), (418, b"{}")):
        with pytest.raises(Exception, match=r"."):
            check("GET", "/healthz", status, kind, body)
    with pytest.raises(Exception, match="heartbeat"):
        check("POST", "/v1/watch", 200, "application/x-ndjson", b'{"heartbeat":7}\n')


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """A daemon that holds nothing of value: its address, and what opens it."""
    client = DaemonClient(environment(tmp_path_factory.mktemp("tried") / "home"))
    state = client.ensure_running()
    with client:
        yield f"http://127.0.0.1:{state.port}", {"Authorization": f"Bearer {state.token}"}
        assert client.stop()


LEFT_OUT = r"^/v1/(stop|watch|sync|rotate|recovery|resize|hook|pools)"
"""Ends it, does not end, asks a hub of any name, or works on the whole store at every call. `watch` has
tests of its own; what is asked of the others is held against the document where they are tested."""

SCHEMA: Any = schemathesis.openapi.from_dict(document()).exclude(path_regex=LEFT_OUT)
# Lengths are counted in bytes, and in ASCII these are characters; other texts are in tests/vectors.
SCHEMA.config.generation.update(modes=list(GenerationMode), codec="ascii")

FORGIVING = {"record", "import", "capture", "stats"}
"""Name what is wrong in an answer that is 200, event by event; or leave unknown parameters of the
address alone, as every route does."""

KNOWING = {"timeline", "pin", "forget", "context", "export", "pause"}
"""Refuse what has the right form: an id that is not here, two things that exclude each other."""

EXAMPLES = int(os.environ.get("LOCALMEM_EXAMPLES", "8"))


@SCHEMA.parametrize()  # type: ignore[untyped-decorator]
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_daemon_is_as_it_says(case: Any, daemon: tuple[str, dict[str, str]]) -> None:
    address, headers = daemon
    name = case.operation.definition.raw["operationId"]
    left_out = [negative_data_rejection] if name in FORGIVING else []
    left_out += [positive_data_acceptance] if name in KNOWING else []
    case.call_and_validate(base_url=address, headers=headers, timeout=60, excluded_checks=left_out)
