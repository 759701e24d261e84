"""Pools through real processes: made, entered by a code, rotated, left, recovered."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localmem_hub.system import SystemClock, SystemRandom
from support.daemon import answer, daemons_of, localmem, started
from support.hub_process import HubProcess, running_hub

WAIT = ("--wait", "30")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    with running_hub(tmp_path) as hub:
        yield hub


class Device:
    """A home of its own; its daemon is started by the first command."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def run(self, *arguments: str, stdin: bytes | None = None) -> dict[str, Any]:
        return answer(localmem(self.home, *arguments, "--json", stdin=stdin))

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

    @property
    def id(self) -> str:
        return str(self.run("status")["device"])


@pytest.fixture
def devices(tmp_path: Path) -> Iterator[list[Device]]:
    made = [Device(tmp_path / name) for name in ("laptop", "desk", "third")]
    yield made
    for device in made:
        for pid in daemons_of(device.home):
            os.kill(pid, signal.SIGKILL)


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


def pair(host: Device, joiner: Device, hub: HubProcess, *arguments: str) -> None:
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


def test_two_devices_pair_and_share_and_the_hub_sees_nothing(
    hub: HubProcess, devices: list[Device]
) -> None:
    laptop, desk, _ = devices
    made = make(laptop, hub, "--everything")
    assert len(made["phrase"].split()) == 24
    laptop.record("the canary sings of pools")
    pair(laptop, desk, hub, "pair")
    assert laptop.sync()["settled"]
    status = desk.sync()
    assert (status["settled"], status["pool"], status["place"], status["members"]) == (
        True, "ours", "owner", 2,
    )  # fmt: skip
    assert desk.texts() == {"the canary sings of pools"}
    desk.record("and the desk answers")
    assert desk.sync()["settled"]
    assert laptop.sync()["settled"]
    assert "and the desk answers" in laptop.texts()
    members = laptop.run("pool", "members", "ours")
    assert {one["device"] for one in members["members"]} == {laptop.id, desk.id}
    for path in hub.database.parent.glob("hub.db*"):
        assert b"canary" not in path.read_bytes()
        assert b"ours" not in path.read_bytes()


def test_a_wrong_code_changes_nothing_on_either_side(
    hub: HubProcess, devices: list[Device]
) -> None:
    laptop, desk, _ = devices
    make(laptop, hub)
    with started(laptop.home, "pool", "invite", "ours", "--yes", "--json") as inviting:
        code = next(lines_of(inviting))["code"]
        mailbox, secret = code.split("-", 1)
        wrong = f"{mailbox}-{'1234-5678' if secret != '1234-5678' else '8765-4321'}"
        failed = desk.fails("pair", wrong, "--hub", hub.http_url, "--yes")
        assert "the codes differ" in failed
        assert inviting.wait(60) == 1
    assert desk.fails("pair", code, "--hub", hub.http_url, "--yes")  # one guess
    assert desk.run("pool", "list")["pools"] == []
    assert not list((desk.home / "pools").glob("*"))
    assert len(laptop.run("pool", "members", "ours")["members"]) == 1


def test_only_what_is_shared_leaves_the_device(
    hub: HubProcess, devices: list[Device], tmp_path: Path
) -> None:
    laptop, desk, _ = devices
    make(laptop, hub)
    pair(laptop, desk, hub, "pool", "invite", "ours")
    projects = {}
    for name in ("open", "secret"):
        folder = tmp_path / name
        subprocess.run(["git", "init", "-q", folder], check=True)
        remote = f"https://example.org/{name}.git"
        subprocess.run(["git", "-C", folder, "remote", "add", "origin", remote], check=True)
        projects[name] = str(folder)
        laptop.record(f"in the {name} one", project=projects[name])
    laptop.sync()
    desk.sync()
    assert desk.texts() == set()
    seen = laptop.run("pool", "share", "ours", "--project", projects["open"], "--preview")
    assert [one["events"] for one in seen["shared"]] == [1]
    laptop.sync()
    desk.sync()
    assert desk.texts() == set()  # it was only looked at
    laptop.run("pool", "share", "ours", "--project", projects["open"])
    laptop.sync()
    desk.sync()
    assert desk.texts() == {"in the open one"}
    laptop.run("pool", "unshare", "ours", "--project", projects["open"])
    laptop.record("later in the open one", project=projects["open"])
    laptop.sync()
    desk.sync()
    assert desk.texts() == {"in the open one"}


def test_a_removed_device_gets_nothing_more_and_the_others_go_on(
    hub: HubProcess, devices: list[Device]
) -> None:
    laptop, desk, third = devices
    make(laptop, hub, "--everything")
    pair(laptop, desk, hub, "pair")
    pair(laptop, third, hub, "pair")
    laptop.record("before")
    for device in (laptop, desk, third):
        assert device.sync()["settled"]
    assert laptop.run("pool", "remove", "ours", third.id) == {"epoch": 2}
    laptop.record("after")
    assert laptop.sync()["epoch"] == 2
    assert desk.sync()["epoch"] == 2
    assert "is not in the pool ours any more" in third.fails("sync", *WAIT)
    assert desk.texts() == {"before", "after"}
    assert third.texts() == {"before"}
    desk.record("from the desk")
    desk.sync()
    laptop.sync()
    assert laptop.texts() == {"before", "after", "from the desk"}
    assert "is no member" in laptop.fails("pool", "remove", "ours", third.id, code=2)


def test_who_joins_late_reads_every_epoch(hub: HubProcess, devices: list[Device]) -> None:
    laptop, desk, third = devices
    make(laptop, hub, "--everything")
    pair(laptop, desk, hub, "pair")
    desk.record("in the first epoch")
    assert desk.sync()["settled"]
    for pid in daemons_of(desk.home):  # it is off from now on
        os.kill(pid, signal.SIGKILL)
    assert laptop.sync()["settled"]
    assert laptop.run("pool", "rotate", "ours") == {"epoch": 2}
    laptop.record("in the second")
    pair(laptop, third, hub, "pair")
    assert laptop.sync()["settled"]
    assert third.sync()["epoch"] == 2
    assert third.texts() == {"in the first epoch", "in the second"}


def test_a_reader_receives_and_sends_nothing(hub: HubProcess, devices: list[Device]) -> None:
    laptop, desk, _ = devices
    make(laptop, hub, "--everything")
    pair(laptop, desk, hub, "pool", "invite", "ours", "--role", "reader")
    laptop.record("for all")
    desk.record("of a reader")
    assert laptop.sync()["settled"]
    status = desk.sync()
    assert (status["settled"], status["read_only"], status["place"]) == (True, True, "reader")
    laptop.sync()
    assert laptop.texts() == {"for all"}
    laptop.run("pool", "role", "ours", desk.id, "member")
    assert desk.sync()["settled"]
    laptop.sync()
    assert laptop.texts() == {"for all", "of a reader"}


def test_leaving_and_the_recovery_phrase(hub: HubProcess, devices: list[Device]) -> None:
    laptop, desk, third = devices
    made = make(laptop, hub, "--everything")
    laptop.record("what was written")
    assert laptop.sync()["settled"]
    pair(laptop, desk, hub, "pair")
    assert desk.sync()["settled"]
    assert desk.run("pool", "leave", "ours") == {"left": True}
    assert desk.run("pool", "list")["pools"] == []
    assert desk.texts() == {"what was written"}
    assert laptop.run("pool", "members", "ours")["stale"]
    lost = laptop.id
    for pid in daemons_of(laptop.home):
        os.kill(pid, signal.SIGKILL)
    wrong = localmem(
        third.home, "pool", "recover", "--hub", hub.http_url, "--json", stdin=b"zoo " * 24
    )
    assert wrong.returncode == 1
    found = third.run(
        "pool", "recover", "--hub", hub.http_url, "--lost", lost, stdin=made["phrase"].encode()
    )
    assert [one["pool"] for one in found["pools"]] == [made["pool"]]
    assert third.sync()["settled"]
    assert third.texts() == {"what was written"}
    assert [one["device"] for one in third.run("pool", "members", "ours")["members"]] == [third.id]


def test_what_cannot_be_is_said_in_one_line(hub: HubProcess, devices: list[Device]) -> None:
    laptop, _, _ = devices
    assert "there is no pool here" in laptop.fails("sync")
    assert "by invitation" in laptop.fails("pool", "create", "x", "--hub", hub.http_url)
    assert "must be like https://" in laptop.fails("pool", "create", "x", "--hub", "nowhere")
    assert "cannot be reached" in laptop.fails("pool", "create", "x", "--hub", "http://127.0.0.1:9")
    assert "no pairing code" in laptop.fails("pair", "abc", "--hub", hub.http_url)
    assert "nobody waits" in laptop.fails("pair", "27-4821-9036", "--hub", hub.http_url)
    assert "is no pool of this device" in laptop.fails("pool", "rotate", "x", code=2)
    assert laptop.run("pool", "list")["pools"] == []
    make(laptop, hub)
    assert "there is a pool 'ours' already" in laptop.fails(
        "pool", "create", "ours", "--hub", hub.http_url, code=2
    )
    sole = laptop.fails("pool", "role", "ours", laptop.id, "reader", code=2)
    assert "owner" in sole


def test_a_second_invitation_ends_the_first_and_nobody_answers_for_the_other(
    hub: HubProcess, devices: list[Device]
) -> None:
    laptop, desk, _ = devices
    make(laptop, hub)
    with started(laptop.home, "pool", "invite", "ours", "--yes", "--json") as first:
        code = next(lines_of(first))["code"]
        pair(laptop, desk, hub, "pool", "invite", "ours", "--role", "reader")
        assert first.wait(60) == 1
    assert desk.fails("pair", code, "--hub", hub.http_url, "--yes")
    roles = {one["device"]: one["role"] for one in laptop.run("pool", "members", "ours")["members"]}
    assert roles[desk.id] == "reader"


def test_a_pool_may_have_any_name(hub: HubProcess, devices: list[Device]) -> None:
    laptop, _, _ = devices
    laptop.run(
        "pool", "create", "büro/ä b?", "--hub", hub.http_url, "--invitation", invitation(hub)
    )
    assert laptop.run("pool", "members", "büro/ä b?")["name"] == "büro/ä b?"
    assert laptop.run("pool", "rotate", "büro/ä b?") == {"epoch": 2}
    assert laptop.run("pool", "leave", "büro/ä b?") == {"left": True}
