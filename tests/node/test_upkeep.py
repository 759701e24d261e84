"""Keeping a store in order from the command line, with a real daemon."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.daemon import PASSPHRASE, answer, daemons_of, localmem
from support.events import fields


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "home"
    yield home
    for pid in daemons_of(home):
        os.kill(pid, signal.SIGKILL)


def record(home: Path, *events: dict[str, Any]) -> list[str]:
    """Record events; their ids."""
    lines = "".join(json.dumps(one) + "\n" for one in events)
    done = localmem(home, "record", "--json", stdin=lines.encode())
    assert done.returncode == 0, done.stdout
    recent = answer(localmem(home, "recent", "-k", str(len(events)), "--json"))["events"]
    return [one["id"] for one in recent][::-1]


def snippets(home: Path, passphrase: str = PASSPHRASE) -> list[str]:
    done = localmem(home, "recent", "-k", "100", "--json", LOCALMEM_PASSPHRASE=passphrase)
    assert done.returncode == 0, done.stderr
    return [one["snippet"] for one in answer(done)["events"]][::-1]


def test_an_event_is_pinned_and_let_go(home: Path) -> None:
    [event_id] = record(home, fields())
    assert answer(localmem(home, "pin", event_id, "--json"))["event"]["pinned"]
    assert answer(localmem(home, "recent", "--json"))["events"][0]["pinned"]
    assert not answer(localmem(home, "pin", event_id, "--off", "--json"))["event"]["pinned"]
    wrong = localmem(home, "pin", "a" * 16)
    assert (wrong.returncode, wrong.stderr.count(b"\n")) == (2, 1)
    assert b"not an event that is here" in wrong.stderr
    assert localmem(home, "pin", "no id").returncode == 2


def test_what_is_forgotten_is_shown_first_and_gone_for_good_afterwards(
    home: Path, tmp_path: Path
) -> None:
    a, b, c = record(
        home,
        fields(snippet="alpha first", filePath="src/a.py"),
        fields(snippet="beta second", filePath="src/b.py", timestamp=1_600_000_000_000),
        fields(snippet="gamma third", filePath="lib/c.py"),
    )
    export = tmp_path / "all.jsonl"
    assert localmem(home, "export", str(export)).returncode == 0
    shown = localmem(home, "forget", "--file", "src", "--dry-run")
    assert shown.returncode == 0
    assert b"2 events would be forgotten" in shown.stdout
    assert len(snippets(home)) == 3
    asked = localmem(home, "forget", a)
    assert (asked.returncode, len(snippets(home))) == (1, 3), "nobody said yes"
    old = localmem(home, "forget", "--before", "2021-01-01", "--yes", "--json")
    assert [one["id"] for one in answer(old)["events"]] == [b]
    assert answer(old)["forgotten"]
    found = localmem(home, "forget", "--query", "alpha", "-k", "1", "--yes", "--json")
    assert [one["id"] for one in answer(found)["events"]] == [a]
    assert snippets(home) == ["gamma third"]
    imported = answer(localmem(home, "import", str(export), "--json"))
    assert (imported["read"], imported["new"], imported["known"]) == (3, 0, 3)
    assert snippets(home) == ["gamma third"]
    assert localmem(home, "down").returncode == 0
    assert snippets(home) == ["gamma third"]
    assert localmem(home, "forget", c, "--yes").returncode == 0
    assert snippets(home) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("forget",), b"give an ID"),
        (("forget", "not-an-id", "--yes"), b"not the id of an event"),
        (("forget", "--before", "someday", "--yes"), b"--before"),
        (("forget", "--query", "x", "--file", "/", "--yes"), b"file: must be a path"),
        (("forget", "--query", "x", "-k", "101", "--yes"), b"k: must be a whole number"),
        (("resize", "huge"), b"SIZE"),
        (("key", "rotate", "--keychain", "--key-file", "x"), b"choose one"),
        (("key", "rotate", "--passphrase"), b"LOCALMEM_NEW_PASSPHRASE"),
    ],
)
def test_a_call_that_cannot_be_meant_is_one_line(
    home: Path, arguments: tuple[str, ...], says: bytes
) -> None:
    done = localmem(home, *arguments)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1), done.stderr
    assert says in done.stderr


def test_a_store_gets_another_size_and_nothing_that_fits_is_lost(home: Path) -> None:
    record(home, *(fields(snippet=f"number {n}", timestamp=10**12 + n) for n in range(50)))
    grown = answer(localmem(home, "resize", "3 MiB", "--json"))
    assert grown == {"size_bytes": 3 * 2**20, "events": 50, "evicted": 0}
    shrunk = answer(localmem(home, "resize", "8 KiB", "--json"))
    assert shrunk["events"] + shrunk["evicted"] == 50
    assert shrunk["events"] > 20
    assert snippets(home) == [f"number {n}" for n in range(shrunk["evicted"], 50)]
    assert (home / "data" / "memory.localmem").stat().st_size == 8192
    small = localmem(home, "resize", "1 KiB")
    assert (small.returncode, small.stderr.count(b"\n")) == (1, 1)
    assert b"store size" in small.stderr
    assert sorted(os.listdir(home / "data")) == ["memory.localmem", "memory.localmem.lock"]


def test_new_keys_and_a_lost_passphrase(home: Path) -> None:
    record(home, fields(snippet="kept through all of it"))
    assert localmem(home, "key", "rotate").returncode == 0
    code = answer(localmem(home, "key", "export-recovery", "--json"))["code"]
    assert len(code.split("-")) == 14
    changed = localmem(home, "key", "rotate", "--passphrase", LOCALMEM_NEW_PASSPHRASE="another")
    assert changed.returncode == 0
    assert localmem(home, "down").returncode == 0
    assert localmem(home, "recent").returncode == 1
    assert snippets(home, "another") == ["kept through all of it"]
    assert localmem(home, "down").returncode == 0
    wrong = localmem(home, "key", "recover", stdin=b"AAAA-BBBB", LOCALMEM_PASSPHRASE="third")
    assert (wrong.returncode, wrong.stderr.count(b"\n")) == (1, 1)
    assert b"recovery code" in wrong.stderr
    done = localmem(home, "key", "recover", stdin=code.encode(), LOCALMEM_PASSPHRASE="third")
    assert done.returncode == 0, done.stderr
    assert snippets(home, "third") == ["kept through all of it"]
    for file in home.rglob("*"):
        if file.is_file():
            assert code.encode() not in file.read_bytes()
            assert b"another" not in file.read_bytes()


def test_the_key_can_move_into_a_file(home: Path, tmp_path: Path) -> None:
    record(home, fields(snippet="under a file now"))
    key_file = tmp_path / "store.key"
    moved = localmem(home, "key", "rotate", "--key-file", str(key_file))
    assert moved.returncode == 0
    assert b"store.key_file" in moved.stdout
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert localmem(home, "down").returncode == 0
    (home / "config.toml").write_text(f"[store]\nkey_file = {json.dumps(str(key_file))}\n")
    done = localmem(home, "key", "show-location", "--json")
    assert done.returncode == 1, "a passphrase is set as well"
    shown = answer(done)
    assert "unset" in shown["error"]["message"]


def test_the_doctor_counts_and_dates_what_is_damaged(home: Path) -> None:
    record(
        home,
        *(
            fields(
                snippet=f"{n} " + os.urandom(300).hex(), timestamp=1_700_000_000_000 + n * 60_000
            )
            for n in range(60)
        ),
    )
    assert localmem(home, "down").returncode == 0
    path = home / "data" / "memory.localmem"
    image = bytearray(path.read_bytes())
    image[16384 + 2 * 4096 : 16384 + 3 * 4096] = bytes(4096)  # the third block of the ring
    path.write_bytes(image)
    for _ in range(2):  # by itself, then by a daemon that has started meanwhile
        done = localmem(home, "doctor", "--json")
        store = next(check for check in answer(done)["checks"] if check["name"] == "store")
        assert (done.returncode, store["ok"]) == (1, False)
        lost = 60 - len(snippets(home))
        assert 5 < lost < 20
        assert f"{lost} damaged records: {lost} records between 2023-11-" in store["detail"]
        assert "all others can" in store["advice"]
