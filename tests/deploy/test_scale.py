"""Three replicas from the built image, with the environment that compose.scale.yaml gives them.

Where an engine gives each container an address, here each has one of loopback: so the names and the
ports in the file hold as they are. The proxy is left out; devices go from replica to replica themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from bench.nats_server import MISSING as NO_NATS
from bench.nats_server import NatsServer, find_program
from bench.postgres_server import MISSING as NO_POSTGRES
from bench.postgres_server import PostgresServer, find_binaries
from localmem_hub.database import open_engine
from localmem_hub.store import SqlStore
from localmem_hub.system import SystemRandom
from support import images
from support.missing import missing
from support.roaming import RequestRoamer, Roamer, SocketRoamer

FILLED_IN = {"HUB_NAME": "hub.example.com", "POSTGRES_PASSWORD": "p4ss", "NATS_PASSWORD": "n4ts"}
POOL = "team"
REPLICAS = 3

pytestmark = pytest.mark.timeout(600)  # debootstrap, the first time


def interpolated(value: Any) -> Any:
    """A value of the file with what `.env` would put into it."""
    if isinstance(value, dict):
        return {name: interpolated(one) for name, one in value.items()}
    if isinstance(value, list):
        return [interpolated(one) for one in value]
    if not isinstance(value, str):
        return value
    return re.sub(r"(?<!\$)\$\{([A-Z_]+)(?::\?[^}]*)?\}", lambda m: FILLED_IN[m[1]], value)


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    text = (images.ROOT / "deploy/docker/compose.scale.yaml").read_text()
    made: dict[str, Any] = interpolated(yaml.safe_load(text)["services"])
    return made


@pytest.fixture(scope="module")
def network() -> Callable[[int], str]:
    """Addresses that only this process's tests use."""
    number = os.getpid() % 64_000

    def address(host: int) -> str:
        return f"127.{1 + number // 256}.{number % 256}.{host}"

    return address


@pytest.fixture
def postgres(services: dict[str, Any], network: Callable[[int], str]) -> Iterator[PostgresServer]:
    """The service `postgres`: its user, its password, its database, its usual port."""
    binaries = find_binaries()
    if binaries is None:
        missing(NO_POSTGRES)
    told = services["postgres"]["environment"]
    user, password = told["POSTGRES_USER"], told["POSTGRES_PASSWORD"]
    server = PostgresServer(binaries, address=network(1), port=5432)
    try:
        server.create()
        server.need_password(user)
        server.start()
        server.run(f"CREATE ROLE {user} LOGIN PASSWORD '{password}'")
        server.run(f"CREATE DATABASE {told['POSTGRES_DB']} OWNER {user}")
        yield server
    finally:
        server.remove()


@pytest.fixture
def nats(services: dict[str, Any], network: Callable[[int], str]) -> Iterator[NatsServer]:
    """The service `nats`, with its command, on its usual port."""
    program = find_program()
    if program is None:
        missing(NO_NATS)
    options = [*services["nats"]["command"], "--http_port", "8222"]  # where it says who is there
    server = NatsServer(program, *options, address=network(2), port=4222)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def containers(tmp_path: Path, network: Callable[[int], str]) -> Iterator[list[images.Container]]:
    """One per replica, which know the other services by their names."""
    images.need_buildah()
    images.build()
    with contextlib.ExitStack() as stack:
        made = []
        for number in range(REPLICAS):
            folder = tmp_path / str(number)
            folder.mkdir()
            container = stack.enter_context(images.container(folder))
            container.names({"postgres": network(1), "nats": network(2)})
            made.append(container)
        yield made


def listens(hub: subprocess.Popen[str]) -> str:
    """A replica's address, once it listens."""
    assert hub.stdout is not None
    lines = []
    for line in hub.stdout:
        lines.append(line)
        if found := re.search(r"ws://[0-9.]+:[0-9]+", line):
            return found[0]
    raise AssertionError("".join(lines))


@pytest.mark.usefixtures("nats")
async def test_three_replicas_of_the_image_lose_nothing_when_two_of_them_go(
    services: dict[str, Any],
    postgres: PostgresServer,
    containers: list[images.Container],
    network: Callable[[int], str],
) -> None:
    environment = services["hub"]["environment"]
    assert services["hub"]["deploy"]["replicas"] == REPLICAS
    assert services["migrate"]["environment"] == environment
    first = containers[0]
    migrating = first.start(services["migrate"]["command"], **environment)
    said, _ = migrating.communicate(timeout=60)
    assert migrating.returncode == 0, said
    create = ["/app/bin/localmem-hub", "token", "create", "--pool", POOL, "--json"]
    tokens = [json.loads(first.execute(*create, **environment))["token"]]
    database = postgres.url(services["postgres"]["environment"]["POSTGRES_DB"])
    store = SqlStore(open_engine(database))
    make = store.tokens.create
    tokens += [make(POOL, None, "writer", SystemRandom(), 1).text for _ in range(3)]
    with contextlib.ExitStack() as stack:
        hubs = []
        for number, container in enumerate(containers):
            # Of all that an engine would do differently, the address alone is said to the hub.
            told = environment | {"LOCALMEM_HUB_HOST": network(10 + number)}
            hubs.append(stack.enter_context(images.running(container.start(**told))))
        urls = [listens(hub) for hub in hubs]
        assert urls == [f"ws://{network(10 + number)}:8765" for number in range(REPLICAS)]
        await ready(urls, f"http://{network(2)}:8222/connz")
        await live_through_it(hubs, urls, tokens)
    assert store.load(POOL).head == 4 * 30
    store.close()


async def ready(urls: list[str], connections: str) -> None:
    """Every replica serves, so it has heard the database; and is at the fan-out, too."""
    async with httpx2.AsyncClient(trust_env=False) as client, asyncio.timeout(60):
        for url in urls:
            while (await client.get(f"http{url[2:]}/readyz")).status_code != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        while (await client.get(connections)).json()["num_connections"] != REPLICAS:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def live_through_it(
    hubs: list[subprocess.Popen[str]], urls: list[str], tokens: list[str]
) -> None:
    """Four devices write ten updates each with all replicas, with two, and with one."""
    here = list(urls)
    roamers: list[SocketRoamer | RequestRoamer] = []
    for number, token in enumerate(tokens, start=1):
        kind = SocketRoamer if number < 4 else RequestRoamer
        roamers.append(kind(lambda: here, POOL, f"{number:016x}", token))
    running = [asyncio.create_task(roamer.run()) for roamer in roamers]
    try:
        for sign in (None, signal.SIGKILL, signal.SIGTERM):
            if sign is not None:
                gone = len(here) - 1
                hubs[gone].send_signal(sign)
                ended = await asyncio.to_thread(hubs[gone].wait, 30)
                assert ended == (0 if sign == signal.SIGTERM else -sign)
                here.pop()
            for roamer in roamers:
                roamer.target += 10
            await converged(roamers, running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def converged(roamers: Sequence[Roamer], running: list[asyncio.Task[None]]) -> None:
    """All that everybody wrote is acknowledged, and everybody has seen it."""
    everything = {one.content(clock) for one in roamers for clock in range(one.target)}

    def missed(one: Roamer) -> set[bytes]:
        own = {one.content(clock) for clock in range(one.target)}
        return everything - own - one.seen

    async with asyncio.timeout(60):
        while any(one.acknowledged < one.target or missed(one) for one in roamers):
            for task in running:
                if task.done():
                    task.result()
            await asyncio.sleep(0.02)
