"""What sessions were given: kept over restarts, bounded, and telling nothing to who finds the file."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_node.delivered import EVENTS_MAX, SESSIONS_MAX, Delivered, delivered_path
from support.events import event

KEY = bytes(range(32))
A, B, C = (event(number, filePath=f"{number}.py") for number in (1, 2, 3))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return delivered_path(tmp_path / "memory.localmem")


def test_a_session_is_known_by_what_it_was_given_also_after_a_restart(path: Path) -> None:
    delivered = Delivered(path, KEY)
    assert delivered.known("s", [A, B]) == set()
    delivered.add("s", [A])
    delivered.add("s", [])
    for again in (delivered, Delivered(path, KEY)):
        assert again.known("s", [A, B]) == {A.id}
        assert again.known("t", [A, B]) == set()
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == [path.name]


def test_the_same_text_of_the_same_place_is_known_whichever_event_has_it(path: Path) -> None:
    delivered = Delivered(path, KEY)
    delivered.add("s", [A])
    twin = event(9, filePath="1.py", snippet=A.snippet)
    others = [
        event(9, filePath="1.py", snippet="line 2"),
        event(9, filePath="2.py", snippet=A.snippet),
        event(9, filePath="1.py", snippet=A.snippet, kind="read"),
    ]
    assert delivered.known("s", [twin, *others]) == {twin.id}
    pinned = msgspec.structs.replace(A, pinned=True)
    assert delivered.known("s", [pinned]) == {A.id}


def test_a_reset_begins_anew_for_that_session_alone(path: Path) -> None:
    delivered = Delivered(path, KEY)
    delivered.add("s", [A])
    delivered.add("t", [A])
    delivered.reset("s")
    delivered.reset("unknown")
    for again in (delivered, Delivered(path, KEY)):
        assert again.known("s", [A]) == set()
        assert again.known("t", [A]) == {A.id}


def test_sessions_used_longest_ago_are_given_up(path: Path) -> None:
    delivered = Delivered(path, KEY)
    for number in range(SESSIONS_MAX):
        delivered.add(f"s{number}", [A])
    delivered.add("s0", [B])
    delivered.add("one more", [A])
    for again in (delivered, Delivered(path, KEY)):
        assert again.known("s0", [A, B]) == {A.id, B.id}
        assert again.known("s1", [A]) == set()
        assert again.known("s2", [A]) == {A.id}


def test_events_given_longest_ago_are_given_up(path: Path) -> None:
    delivered = Delivered(path, KEY)
    many = [event(number) for number in range(1, EVENTS_MAX + 1)]
    delivered.add("old", [A, B])
    delivered.add("s", many[:-2])
    delivered.add("s", [many[0], many[-2]])
    assert delivered.known("old", [A, B]) == {B.id}
    delivered.add("s", [many[-1], C])
    for again in (delivered, Delivered(path, KEY)):
        assert again.known("old", [A, B]) == set()
        assert again.known("s", [many[0], many[1], many[2], C]) == {many[0].id, many[2].id, C.id}


def test_the_file_says_nothing_of_sessions_and_events(path: Path) -> None:
    Delivered(path, KEY).add("a telling session", [A])
    stored = path.read_bytes()
    for word in ("telling", A.id, A.snippet, "1.py"):
        assert word.encode() not in stored
    assert len(stored) < 100
    Delivered(path.with_name("other"), bytes(32)).add("a telling session", [A])
    assert path.with_name("other").read_bytes()[24:] != stored[24:]


@pytest.mark.parametrize("data", [b"", b"lmdeliv1", b"x" * 100, bytes(70_000)])
def test_a_file_that_is_none_is_warned_of_and_replaced(
    path: Path, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(data)
    path.chmod(0o600)
    with caplog.at_level(logging.WARNING):
        delivered = Delivered(path, KEY)
    assert "may be repeated" in caplog.text
    delivered.add("s", [A])
    assert Delivered(path, KEY).known("s", [A]) == {A.id}


@given(st.data())
def test_no_altered_byte_is_taken_for_what_was_given(data: st.DataObject) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "d"
        Delivered(path, KEY).add("s", [A, B])
        stored = bytearray(path.read_bytes())
        stored[data.draw(st.integers(0, len(stored) - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(stored[: data.draw(st.integers(0, len(stored)))])
        assert Delivered(path, KEY).known("s", [A, B]) == set()


def test_a_file_of_another_store_or_open_to_others_is_not_used(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Delivered(path, KEY).add("s", [A])
    assert Delivered(path, bytes(32)).known("s", [A]) == set()
    path.chmod(0o644)
    assert Delivered(path, KEY).known("s", [A]) == set()
    assert "chmod 600" in caplog.text


def test_a_folder_that_cannot_be_written_costs_the_memory_of_it_alone(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    delivered = Delivered(path.parent / "missing" / "d", KEY)
    delivered.add("s", [A])
    assert delivered.known("s", [A]) == {A.id}
    assert "may be repeated after a restart" in caplog.text
