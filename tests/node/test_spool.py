"""What hooks left while no daemon was there: read once, whatever its state."""

from __future__ import annotations

import fcntl
import os
from io import FileIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_node.config import Settings, load_settings
from localmem_node.spool import Spooled, drain, parse, spool_path
from support.daemon import environment


def record(editor: str, at_ms: int, body: bytes) -> bytes:
    return b"%s %d %d\n%s\n" % (editor.encode(), at_ms, len(body), body)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = load_settings(environment(tmp_path / "home"))
    settings.runtime_dir.mkdir(parents=True, mode=0o700)
    return settings


def leave(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    path.chmod(0o600)


@given(st.lists(st.tuples(st.sampled_from(["codex", "cursor", "claude-code"]), st.binary())))
def test_what_was_written_is_read(records: list[tuple[str, bytes]]) -> None:
    data = b"".join(record(editor, at, body) for at, (editor, body) in enumerate(records))
    assert [(one.editor, one.body) for one in parse(data)] == records


def test_a_torn_record_is_left_out_and_the_next_is_found() -> None:
    good = record("codex", 5, b'{"a": 1}')
    torn = record("codex", 4, b'{"b": 2}')[:-4]
    assert list(parse(torn + b"\n" + good)) == [Spooled("codex", 5, b'{"a": 1}')]
    assert list(parse(good + torn)) == [Spooled("codex", 5, b'{"a": 1}')]
    assert list(parse(b"\x00garbage codex 1 1\n\n" + good)) == [Spooled("codex", 5, b'{"a": 1}')]


@given(st.binary())
def test_garbage_is_no_record_and_no_error(data: bytes) -> None:
    assert list(parse(data.replace(b"c", b"x"))) == []


def test_files_are_read_oldest_first_and_removed_after_they_were_used(settings: Settings) -> None:
    path = spool_path(settings)
    leave(path.with_name("spool.draining"), record("codex", 1, b"1"))
    leave(path, record("codex", 2, b"2"))
    found: list[int] = []
    for records in drain(settings):
        assert path.with_name("spool.draining").exists()  # a crash here loses nothing
        found += [one.at_ms for one in records]
    assert found == [1, 2]
    assert os.listdir(settings.runtime_dir) == []


def test_what_a_client_still_writes_into_the_renamed_file_is_read(settings: Settings) -> None:
    path = spool_path(settings)
    leave(path, record("codex", 1, b"1"))
    found: list[int] = []
    with path.open("ab", buffering=0) as late:
        for records in drain(settings):
            if not found:
                late.write(record("codex", 2, b"2"))
            found += [one.at_ms for one in records]
    assert found == [1, 2]


def test_without_a_spool_nothing_happens(settings: Settings) -> None:
    assert list(drain(settings)) == []


def test_a_file_that_is_not_ours_is_left_alone(settings: Settings, tmp_path: Path) -> None:
    path = spool_path(settings)
    leave(path, record("codex", 1, b"1"))
    path.chmod(0o644)
    assert list(drain(settings)) == []
    path.with_name("spool.draining").unlink()
    leave(tmp_path / "elsewhere", record("codex", 1, b"1"))
    path.symlink_to(tmp_path / "elsewhere")
    assert list(drain(settings)) == []


def test_a_client_in_the_middle_of_writing_is_waited_for_and_one_that_hangs_is_not(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = spool_path(settings)
    for ends in (True, False):
        leave(path, record("codex", 1, b"1")[:-3])
        with path.open("ab", buffering=0) as client:
            fcntl.flock(client, fcntl.LOCK_EX)
            pauses: list[float] = []

            def pause(
                seconds: float,
                client: FileIO = client,
                ends: bool = ends,
                pauses: list[float] = pauses,
            ) -> None:
                pauses.append(seconds)
                if ends and len(pauses) == 3:
                    client.write(record("codex", 1, b"1")[-3:])
                    fcntl.flock(client, fcntl.LOCK_UN)

            monkeypatch.setattr("localmem_node.spool.time.sleep", pause)
            found = [one.at_ms for records in drain(settings) for one in records]
        assert (found, len(pauses) >= 3) == ([1] if ends else [], True)
        assert not path.with_name("spool.draining").exists()
