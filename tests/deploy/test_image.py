"""The hub's image is built from its Dockerfile, and run as an engine would run it."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from localmem_protocol.envelope import PoolKey
from localmem_protocol.frames import Ack
from support import images
from support.sync_client import RawClient

POOL = PoolKey("team", 1, bytes(32))
ONE, TWO = f"{1:016x}", f"{2:016x}"
ABOVE_BASE_MAX = 160_000_000
"""Bytes of what is added to the base: twice what is there now would be a mistake."""

pytestmark = pytest.mark.timeout(600)  # debootstrap, the first time


@pytest.fixture(scope="module")
def image() -> images.Image:
    images.need_buildah()
    images.build()
    return images.inspect()


@pytest.fixture(scope="module")
def container(
    image: images.Image, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[images.Container]:
    with images.container(tmp_path_factory.mktemp("container")) as made:
        yield made


def started(hub: subprocess.Popen[str]) -> str:
    """The hub's address, once it listens."""
    assert hub.stdout is not None
    lines = []
    for line in hub.stdout:
        lines.append(line)
        if found := re.search(r"ws://[0-9.]+:[0-9]+", line):
            return found[0].replace("0.0.0.0", "127.0.0.1")
    raise AssertionError("".join(lines))


def status(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text()
    return {name: value.strip() for name, value in (one.split(":", 1) for one in text.splitlines())}


def writable(pid: int) -> set[str]:
    """Where a process may write, of what is mounted."""
    mounts = map(str.split, Path(f"/proc/{pid}/mountinfo").read_text().splitlines())
    return {fields[4] for fields in mounts if "rw" in fields[5].split(",")}


def test_the_image_says_how_it_is_run(image: images.Image) -> None:
    config = image.config
    assert config["User"] == "hub"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Volumes"] == {"/data": {}}
    assert list(config["ExposedPorts"]) == ["8765/tcp"]
    assert config["Healthcheck"]["Test"][0] == "CMD"


def test_the_image_holds_a_hub_and_nothing_of_a_node(
    container: images.Container, image: images.Image
) -> None:
    script = (
        "import importlib.metadata as m, json;"
        "print(json.dumps([(d.name.lower().replace('_', '-'), d.version) for d in m.distributions()]))"
    )
    packages = dict(json.loads(container.execute("/app/bin/python", "-c", script)))
    added = image.size - image.base_size
    print(f"{image.size / 1e6:.0f} MB, {added / 1e6:.0f} MB of it above the base; {packages}")
    assert {"localmem-hub", "localmem-protocol", "psycopg", "nats-py"} <= packages.keys()
    assert packages.keys().isdisjoint(
        {"localmem-node", "localmem-minilm", "numpy", "pip", "hatchling"}
    )
    assert added < ABOVE_BASE_MAX
    locked = (images.ROOT / "deploy/docker/requirements.txt").read_text()
    pinned = dict(re.findall(r"^([a-z0-9.-]+)==([^ ]+)", locked, re.MULTILINE))
    ours = {"localmem-hub", "localmem-protocol"}
    assert {name: packages[name] for name in packages.keys() - ours} == {
        name: pinned[name] for name in packages.keys() - ours
    }


async def test_it_runs_as_nobody_special_on_a_read_only_root_and_stops_without_loss(
    container: images.Container,
) -> None:
    created = container.execute(
        "/app/bin/localmem-hub", "token", "create", "--pool", POOL.pool, "--json"
    )
    token = json.loads(created)["token"]
    with images.running(container.start(LOCALMEM_HUB_PORT="0")) as hub:
        url = started(hub)
        seen = status(hub.pid)
        assert seen["Uid"].split() == [str(container.uid)] * 4
        assert int(seen["CapEff"], 16) == 0
        assert writable(hub.pid) == {"/data", "/tmp"}
        async with asyncio.timeout(60):
            raw = await RawClient.join(url, POOL.pool, ONE, token)
            for number in range(200):
                await raw.write(b"%d" % number)
            await raw.acknowledged(50)
            hub.send_signal(signal.SIGTERM)
            confirmed = await last_acknowledged(raw)
        assert hub.wait(30) == 0
    with images.running(container.start(LOCALMEM_HUB_PORT="0")) as hub:
        url = started(hub)
        async with asyncio.timeout(60):
            again = await RawClient.join(url, POOL.pool, ONE, token, client=raw.client)
            assert again.clock >= confirmed >= 50
            await again.socket.close()


async def last_acknowledged(raw: RawClient) -> int:
    """What the hub confirmed before it went."""
    confirmed = 0
    try:
        while True:
            frame = await raw.next()
            if isinstance(frame, Ack):
                confirmed = max(confirmed, frame.clock)
    except ConnectionClosed:
        return max(confirmed, 50)


async def test_the_health_check_of_the_image_tells_life_from_death(
    container: images.Container,
) -> None:
    check = images.inspect().config["Healthcheck"]["Test"][1:]
    with images.running(container.start(LOCALMEM_HUB_PORT="0")) as hub:
        port = started(hub).rpartition(":")[2]
        container.execute(*check, LOCALMEM_HUB_PORT=port)
        hub.send_signal(signal.SIGTERM)
        hub.wait(30)
    with pytest.raises(AssertionError, match="refused"):
        container.execute(*check, LOCALMEM_HUB_PORT=port)
