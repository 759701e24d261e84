"""Two daemons, a hub, and something that should never have been recorded: it is gone everywhere."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localmem_node import Memory
from localmem_node.client import DaemonClient
from localmem_protocol.updates import decode_update
from support.daemon import answer, daemons_of, environment, localmem
from support.events import fields
from support.hub_process import HubProcess, running_hub

WAIT_S = 60.0


class Device:
    """A home with a daemon that synchronises with the hub."""

    def __init__(self, home: Path, hub: HubProcess, key: str | None) -> None:
        self.home, self.variables = home, environment(home)
        given = ("--key", key) if key else ()
        arguments = ("sync", "setup", "--hub", hub.url, "--pool", "team", "--json", *given)
        joined = answer(localmem(home, *arguments, LOCALMEM_HUB_TOKEN=hub.token("team")))
        self.key: str = key or joined["key"]
        self.client = DaemonClient(self.variables)

    def record(self, *texts: str) -> list[str]:
        recorded = self.client.record([fields(snippet=text) for text in texts])["recorded"]
        return [one["id"] for one in recorded]

    def sync(self) -> dict[str, Any]:
        return self.client.call("POST", "/v1/sync", {"wait_s": 30})

    def snippets(self) -> list[str]:
        return [one["snippet"] for one in self.client.recent(1000)["events"]]

    @property
    def service(self) -> dict[str, Any]:
        services: dict[str, dict[str, Any]] = self.client.status()["services"]
        return services["sync"]

    def stop(self) -> None:
        self.client.close()
        for pid in daemons_of(self.home):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    folder = tmp_path / "hub"
    folder.mkdir()
    with running_hub(folder) as hub:
        yield hub


@pytest.fixture
def devices(tmp_path: Path, hub: HubProcess) -> Iterator[list[Device]]:
    one = Device(tmp_path / "one", hub, None)
    two = Device(tmp_path / "two", hub, one.key)
    yield [one, two]
    one.stop()
    two.stop()


def sealed_batches(hub: HubProcess) -> list[bytes]:
    """Every sealed batch that the hub's rows hold."""
    return [
        batch
        for (row,) in hub.query("SELECT bytes FROM updates ORDER BY seq")
        for run in decode_update(row, stored=True).items.values()
        for item in run
        for batch in item.contents or ()
    ]


def holders(folder: Path, secrets: list[bytes]) -> set[str]:
    """The files under a folder that hold any of these bytes."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.name for path in files if any(one in path.read_bytes() for one in secrets)}


def until(reached: Callable[[], bool]) -> None:
    """Wait for what other processes bring about."""
    end = time.monotonic() + WAIT_S
    while not reached():
        assert time.monotonic() < end, "it does not come about"
        time.sleep(0.05)


@pytest.mark.timeout(300)
def test_what_one_device_forgets_is_nowhere_on_the_other_and_at_the_hub(
    hub: HubProcess, devices: list[Device]
) -> None:
    one, two = devices
    [wrong] = one.record("the launch code is 0000")
    assert one.sync()["settled"]
    sealed = sealed_batches(hub)
    one.record("a good day", "another good day")
    assert one.sync()["settled"]
    assert two.sync()["settled"]
    until(lambda: len(two.snippets()) == 3)
    journals = [device.home / "state" for device in devices]
    assert all(holders(folder, sealed) for folder in (*journals, hub.database.parent))
    exported = two.client.export_page({})["events"]

    assert two.client.forget({"ids": [wrong]})["count"] == 1
    assert holders(two.home, sealed) == set(), "on the device itself at once"
    until(lambda: sorted(one.snippets()) == ["a good day", "another good day"])
    until(lambda: not holders(one.home, sealed))
    until(lambda: not one.client.status()["store"]["erasing"])
    until(lambda: not holders(hub.database.parent, sealed))
    assert two.sync()["tombstones_waiting"] == 0

    answered = one.client.import_events(exported)
    assert (answered["new"], answered["known"]) == (0, 3), "nor does an import bring it back"
    assert sorted(two.snippets()) == sorted(one.snippets())


@pytest.mark.timeout(300)
def test_what_is_forgotten_offline_and_without_a_daemon_is_told_later(
    hub: HubProcess, devices: list[Device]
) -> None:
    one, two = devices
    names = one.record(*(f"event {number}" for number in range(6)))
    assert one.sync()["settled"]
    assert two.sync()["settled"]
    until(lambda: len(two.snippets()) == 6)
    sealed = sealed_batches(hub)
    hub.kill()
    two.client.forget({"ids": names[:2]})
    assert two.service["tombstones_waiting"] == 2
    assert holders(two.home, sealed) == set()
    assert two.client.stop()
    with Memory.embedded(environment=two.variables) as memory:
        assert memory.forget(names[2:3]) == 1
    until(lambda: two.service["tombstones_waiting"] == 3)
    hub.start()
    for device in devices:  # the hub has another port now
        settings = device.home / "config.toml"
        settings.write_text(
            "\n".join(
                f'url = "{hub.url}"' if line.startswith("url") else line
                for line in settings.read_text().splitlines()
            )
        )
        device.client.stop()
    assert two.sync()["settled"]
    assert two.service["tombstones_waiting"] == 0
    assert one.sync()["settled"]
    until(lambda: sorted(one.snippets()) == ["event 3", "event 4", "event 5"])
    until(lambda: not holders(hub.database.parent, sealed))
    assert sorted(two.snippets()) == sorted(one.snippets())
