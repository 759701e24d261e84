"""A pool that sends references, through real processes: a hub, three daemons, and clones of a repository."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localmem_node.project import project_id
from support.daemon import answer, localmem
from support.git_repository import Repository
from support.hub_process import HubProcess, running_hub
from support.pool_devices import Device, make, pair, three_devices

EVENTS = 30
LINES = 12
REFERENCE_BYTES_MAX = 60
"""Of an event, with its share of what is sealed around it: far less than its text."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    with running_hub(tmp_path) as hub:
        yield hub


@pytest.fixture
def devices(tmp_path: Path) -> Iterator[list[Device]]:
    with three_devices(tmp_path) as made:
        yield made


def send_references(device: Device) -> None:
    """As a pool says that was told to."""
    localmem(device.home, "down")
    (path,) = device.home.rglob("pool.json")
    record = json.loads(path.read_bytes())
    path.write_text(json.dumps(record | {"sending": {"references": True}}))


def line(number: int) -> str:
    """That no compressor makes small."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def edits(first: int, count: int) -> bytes:
    """JSON lines: the edits of some parts of the file."""
    listed: list[dict[str, Any]] = []
    for number in range(first, first + count):
        begin = number * LINES
        text = "\n".join(map(line, range(begin, begin + LINES)))
        lines = [begin + 1, begin + LINES]
        listed.append({"filePath": "src/hashes.txt", "selectionRange": lines, "snippet": text})
    stamped = [
        one | {"timestamp": 1_760_000_000_000 + n, "modelResponseHash": None, "kind": "edit"}
        for n, one in enumerate(listed)
    ]
    return "".join(f"{json.dumps(one)}\n" for one in stamped).encode()


def work(device: Device, folder: Path, events: bytes, project: str) -> list[str]:
    lines = [json.loads(one) | {"project": project} for one in events.splitlines()]
    stdin = "".join(f"{json.dumps(one)}\n" for one in lines).encode()
    done = localmem(device.home, "record", "--json", stdin=stdin, cwd=folder)
    return [one["id"] for one in answer(done)["recorded"]]


def test_text_that_is_in_a_commit_stays_at_home_and_who_lacks_it_asks(
    tmp_path: Path, hub: HubProcess, devices: list[Device]
) -> None:
    laptop, desk, third = devices
    (tmp_path / "work").mkdir()
    repository = Repository(tmp_path / "work")
    text = "".join(f"{line(number)}\n" for number in range(EVENTS * LINES))
    repository.commit("begin", {"src/hashes.txt": text})
    clone = tmp_path / "elsewhere" / "clone"
    clone.parent.mkdir()
    subprocess.run(["git", "clone", "--quiet", str(repository.path), str(clone)], check=True)

    make(laptop, hub, "--everything")
    pair(laptop, desk, hub, "pair")
    for device in (laptop, desk):
        assert device.sync()["settled"]
    send_references(laptop)
    project = project_id(repository.path)
    assert project is not None
    desk.run("record", "--snippet", "begun here, too", cwd=clone)
    assert desk.sync()["settled"]
    before = laptop.sync()
    ids = work(laptop, repository.path, edits(0, EVENTS), project)
    assert len(ids) == EVENTS
    sent = laptop.sync()["bytes_sent"] - before["bytes_sent"]
    assert sent < EVENTS * REFERENCE_BYTES_MAX < len(text) / 10
    status = desk.sync()
    assert (status["settled"], status["texts_waiting"]) == (True, 0)
    assert {*ids} <= desk.events().keys()
    assert desk.sync()["bytes_sent"] < 10_000  # it asked for nothing

    # Committed here and not pulled there: it is asked for.
    more = "".join(f"{line(number)}\n" for number in range((EVENTS + 2) * LINES))
    repository.commit("more", {"src/hashes.txt": more})
    (late, later) = work(laptop, repository.path, edits(EVENTS, 2), project)
    assert laptop.sync()["settled"]
    for _ in range(3):
        desk.sync()
        laptop.sync()
    assert {late, later} <= desk.events().keys()

    # Nobody of a third machine has a clone: everything is asked for.
    pair(laptop, third, hub, "pair")
    for _ in range(3):
        third.sync()
        laptop.sync()
    status = third.sync()
    assert (status["settled"], status["texts_waiting"]) == (True, 0)
    assert {*ids, late, later} <= third.events().keys()
    assert third.events()[late]["snippet"] == laptop.events()[late]["snippet"]
