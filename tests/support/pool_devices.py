"""Devices in pools: daemons of their own, told what to do by the command line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from localmem_hub.system import SystemClock, SystemRandom
from support.daemon import answer, daemons_of, localmem, started
from support.hub_process import HubProcess

WAIT = ("--wait", "30")


class Device:
    """A home of its own; its daemon is started by the first command."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def run(
        self, *arguments: str, stdin: bytes | None = None, cwd: Path | None = None
    ) -> dict[str, Any]:
        return answer(localmem(self.home, *arguments, "--json", stdin=stdin, cwd=cwd))

    def fails(self, *arguments: str, code: int = 1) -> str:
        done = localmem(self.home, *arguments)
        assert done.returncode == code, (done.stdout, done.stderr)
        assert done.stderr.count(b"\n") == 1
        return done.stderr.decode()

    def record(self, text: str, **more: str) -> str:
        options = [part for name, value in more.items() for part in (f"--{name}", value)]
        return str(self.run("record", "--snippet", text, *options)["recorded"][0]["id"])

    def sync(self) -> dict[str, Any]:
        (pool,) = self.run("sync", *WAIT)["pools"]
        return dict(pool)

    def texts(self) -> set[str]:
        return {one["snippet"] for one in self.run("recent", "-k", "100")["events"]}

    def events(self) -> dict[str, dict[str, Any]]:
        """The newest events, by their ids."""
        return {one["id"]: one for one in self.run("recent", "-k", "100")["events"]}

    @property
    def id(self) -> str:
        return str(self.run("status")["device"])


def invitation(hub: HubProcess) -> str:
    with hub.store() as store:
        return store.access.invite(1, 1, SystemRandom(), SystemClock().now_ms())


def make(device: Device, hub: HubProcess, *more: str) -> dict[str, Any]:
    return device.run(
        "pool", "create", "ours", "--hub", hub.http_url, "--invitation", invitation(hub), *more
    )


def lines_of(process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)


class Addressed(Protocol):
    """A hub, wherever it runs."""

    @property
    def http_url(self) -> str: ...


def pair(host: Device, joiner: Device, hub: Addressed, *arguments: str) -> None:
    """Both commands at once, as two people would run them."""
    with started(host.home, *arguments, "--yes", "--json") as inviting:
        told = next(lines_of(inviting))
        entered = localmem(
            joiner.home, "pair", told["code"], "--hub", hub.http_url, "--yes", "--json"
        )
        assert entered.returncode == 0, entered.stderr
        shown, paired = (json.loads(line) for line in entered.stdout.splitlines())
        (seen,) = lines_of(inviting)
        assert inviting.wait(60) == 0
    assert paired["paired"]["fingerprint"] == told["fingerprint"]
    assert seen["paired"]["fingerprint"] == shown["fingerprint"]


@contextlib.contextmanager
def three_devices(folder: Path) -> Iterator[list[Device]]:
    """A laptop, a desk and a third one; whatever daemon of theirs still lives is killed at the end."""
    made = [Device(folder / name) for name in ("laptop", "desk", "third")]
    try:
        yield made
    finally:
        for device in made:
            for pid in daemons_of(device.home):
                os.kill(pid, signal.SIGKILL)
