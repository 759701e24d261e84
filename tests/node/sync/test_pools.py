"""Pools through real processes: made, entered by a code, rotated, left, recovered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from localmem_hub.system import SystemRandom
from localmem_node.config import load_settings
from localmem_node.opening import open_engine
from localmem_node.sync.agent import SyncAgent
from localmem_node.sync.choosing import open_transport
from localmem_node.sync.hub_client import HubClient
from localmem_node.sync.outbox import open_journal
from localmem_node.sync.pool_client import PoolClient
from localmem_node.sync.pool_files import POOLS, PoolFiles
from localmem_node.sync.roster_way import RosterWay
from localmem_node.sync.standing import Standing, identity_of
from localmem_node.system import SystemClock as NodeClock
from localmem_protocol.envelope import PADDED
from localmem_protocol.heads import Position, SignedHead, sign_head
from localmem_protocol.keys import DeviceKeys
from localmem_protocol.padding import Padding, bucket
from localmem_protocol.updates import decode_update
from support.daemon import daemons_of, environment, localmem, started
from support.events import draft
from support.hub_process import HubProcess, running_hub
from support.pool_devices import WAIT, Device, invitation, lines_of, make, pair, three_devices


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    with running_hub(tmp_path) as hub:
        yield hub


@pytest.fixture
def devices(tmp_path: Path) -> Iterator[list[Device]]:
    with three_devices(tmp_path) as made:
        yield made


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
    typo = localmem(
        third.home, "pool", "recover", "--hub", hub.http_url, "--lost", "laptpo",
        stdin=made["phrase"].encode(),
    )  # fmt: skip
    assert typo.returncode == 2
    assert "'laptpo' is no member; there are: " in typo.stderr.decode()
    assert lost in typo.stderr.decode()
    assert third.run("pool", "list")["pools"] == []
    assert list(third.home.rglob("roster")) == []
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


def test_a_hundred_who_wait_for_a_pairing_keep_nobody_from_an_answer(
    hub: HubProcess, devices: list[Device]
) -> None:
    laptop, _, _ = devices
    make(laptop, hub, "--everything")
    laptop.record("the canary sings")
    body = json.dumps({"known": "waiting", "wait_s": 30}).encode()
    path = str(laptop.run("up")["socket"])
    (state,) = laptop.home.rglob("daemon.json")
    token = json.loads(state.read_bytes())["token"]
    head = (
        "POST /v1/pools/pairing HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with (
        started(laptop.home, "pool", "invite", "ours", "--yes", "--json") as inviting,
        contextlib.ExitStack() as stack,
    ):
        next(lines_of(inviting))
        polls = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(100)]
        for poll in polls:
            poll.connect(path)
            poll.sendall(head.encode() + body)
        assert laptop.run("query", "canary")["events"]
        assert laptop.run("pool", "members", "ours")["problem"] is None
        for poll in polls:
            poll.setblocking(False)
            with pytest.raises(BlockingIOError):
                poll.recv(1)


def test_a_pool_may_have_any_name(hub: HubProcess, devices: list[Device]) -> None:
    laptop, _, _ = devices
    laptop.run(
        "pool", "create", "büro/ä b?", "--hub", hub.http_url, "--invitation", invitation(hub)
    )
    assert laptop.run("pool", "members", "büro/ä b?")["name"] == "büro/ä b?"
    assert laptop.run("pool", "rotate", "büro/ä b?") == {"epoch": 2}
    assert laptop.run("pool", "leave", "büro/ä b?") == {"left": True}


class Forging(Standing):
    """A device that signs with other keys than those that the roster has."""

    def sign(self, at: Position) -> SignedHead:
        return sign_head(at, self.identity.device, DeviceKeys.generate(SystemRandom()))


async def write_as(device: Device, texts: list[str]) -> None:
    """What a device would write whose program is not ours: its heads are forged."""
    settings = load_settings(environment(device.home))
    clock, files = NodeClock(), PoolFiles(settings.state_dir / POOLS)
    engine = open_engine(settings, clock=clock)
    (record,) = files.records()
    standing = Forging(files, record.pool, identity_of(engine))
    client = PoolClient(HubClient(record.hub), record.pool, standing.identity, clock)
    way = RosterWay(
        record, files, standing, client,
        lambda hub: open_transport(hub, clock, SystemRandom()),
        lambda key: open_journal(files, engine.device, key.pool, key.epoch),
        clock,
        lambda: engine.position,
    )  # fmt: skip
    agent = SyncAgent(way, engine, clock, SystemRandom())
    await agent.start()
    engine.record([draft(snippet=text) for text in texts])
    status = await agent.sync_now(60)
    await agent.stop()
    engine.close()
    assert status["settled"]


def test_what_another_device_did_wrong_is_shown_with_its_name_and_the_event(
    hub: HubProcess, devices: list[Device]
) -> None:
    laptop, desk, _ = devices
    make(laptop, hub, "--everything")
    pair(laptop, desk, hub, "pair", "--label", "laptop")
    desk.record("honest")
    desk.sync()
    name = desk.id
    desk.run("down")
    asyncio.run(write_as(desk, ["forged"]))
    laptop.sync()
    assert laptop.texts() == {"honest", "forged"}
    members = laptop.run("pool", "members", "ours")["members"]
    (label,) = {one["label"] for one in members if one["device"] == name}
    assert label
    said = f"signature: device {label} ({name}), event "
    for command in ("status", "sync"):
        shown = localmem(laptop.home, command)
        assert shown.returncode == 0
        assert said in shown.stdout.decode()
    found = localmem(laptop.home, "doctor").stdout.decode()
    assert said in found
    assert "localmem pool members" in found


def test_how_a_pool_is_sent_to_is_shown_kept_and_applied_to_what_is_sent_from_then_on(
    hub: HubProcess, devices: list[Device]
) -> None:
    laptop, desk, _ = devices
    make(laptop, hub, "--everything")
    pair(laptop, desk, hub, "pair")
    shown = laptop.run("pool", "set", "ours")
    assert shown == {"references": False, "padding": "none"}
    laptop.record("as it is")
    assert laptop.sync()["settled"]
    plain = sealed(hub)
    assert laptop.run("pool", "set", "ours", "--padding", "powers") == shown | {"padding": "powers"}
    names = [laptop.record(f"in round numbers {number}") for number in range(3)]
    assert laptop.sync()["settled"]
    padded = [batch for batch in sealed(hub) if batch not in plain]
    assert padded
    for batch in padded:
        assert batch[0] & PADDED
        size = len(batch) - 17
        assert size == bucket(size, Padding.POWERS)
    assert desk.sync()["settled"]
    assert {one["id"] for one in desk.run("recent", "-k", "100")["events"]} >= set(names)
    (pool,) = laptop.run("pool", "list")["pools"]
    assert (pool["padding"], pool["references"]) == ("powers", False)
    assert laptop.run("pool", "members", "ours")["padding"] == "powers"
    laptop.run("pool", "set", "ours", "--references", "on")
    laptop.run("pool", "share", "ours", "--everything")
    kept = laptop.run("pool", "set", "ours")
    assert kept == {"references": True, "padding": "powers"}
    assert "padme" in laptop.fails("pool", "set", "ours", "--padding", "much", code=2)


def sealed(hub: HubProcess) -> list[bytes]:
    """Every batch that the hub has in its log."""
    updates = [row[0] for row in hub.query("SELECT bytes FROM updates ORDER BY seq")]
    return [
        batch
        for update in updates
        for run in decode_update(update, stored=True).items.values()
        for item in run
        for batch in item.contents or ()
    ]
