"""One real-world event is recorded once, however often and on whatever way it is told."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from threading import Barrier, Thread

import pytest

from localmem_node import seen as module
from localmem_node.editors.captured import key_of
from localmem_node.seen import Seen, seen_path

KEY = b"k" * 32


def opened(path: Path, key: bytes = KEY) -> Seen:
    return Seen(path, key)


def keep(seen: Seen, key: str, *also: str) -> None:
    claim = seen.claim(key, also)
    assert claim is not None
    seen.keep([claim])


def test_what_was_kept_is_known_and_outlives_the_process(tmp_path: Path) -> None:
    seen = opened(tmp_path / "s")
    keep(seen, "strong", "weak")
    keep(seen, "second")
    for again in (seen, opened(tmp_path / "s")):
        assert [again.claim(one) for one in ("strong", "weak", "second")] == [None] * 3
        assert again.claim("other") is not None


def test_a_weaker_name_of_a_new_event_does_not_make_it_known(tmp_path: Path) -> None:
    seen = opened(tmp_path / "s")
    keep(seen, key_of("s", "prompt", "id 1"), key_of("s", "prompt", "digest of go on"))
    assert seen.claim(key_of("s", "prompt", "id 2"), [key_of("s", "prompt", "digest of go on")])


def test_what_was_told_in_another_way_is_known_and_leaves_no_name_of_that(tmp_path: Path) -> None:
    seen = opened(tmp_path / "s")
    for key in ("first", "second"):
        claim = seen.claim(key, unless=["edited"])
        assert claim is not None
        seen.keep([claim])
    claim = seen.claim("edit", ["edited"])
    assert claim is not None
    assert seen.claim("third", unless=["edited"]) is None
    seen.keep([claim])
    assert seen.claim("third", unless=["edited"]) is None


def test_what_somebody_is_recording_is_known_until_he_lets_go(tmp_path: Path) -> None:
    seen = opened(tmp_path / "s")
    claim = seen.claim("key", ["also"])
    assert claim is not None
    assert seen.claim("key") is None
    assert seen.claim("also") is None
    seen.release([claim])
    assert seen.claim("key") is not None
    assert opened(tmp_path / "s").claim("key") is not None


def test_of_many_who_tell_the_same_at_once_one_records_it(tmp_path: Path) -> None:
    seen, barrier = opened(tmp_path / "s"), Barrier(8)
    won: list[str] = []

    def tell() -> None:
        for number in range(200):
            barrier.wait()
            claim = seen.claim(f"event {number}")
            if claim is not None:
                won.append(f"event {number}")
                seen.keep([claim])

    threads = [Thread(target=tell) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == sorted(f"event {number}" for number in range(200))


@pytest.mark.parametrize("cut", [0, 3, 8, 24, 29])
def test_a_damaged_file_starts_anew(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "s"
    keep(opened(path), "key")
    path.write_bytes(path.read_bytes()[:cut])
    seen = opened(path)
    keep(seen, "key")
    assert opened(path).claim("key") is None


def test_a_torn_end_takes_the_last_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "s"
    seen = opened(path)
    keep(seen, "first")
    keep(seen, "last")
    path.write_bytes(path.read_bytes()[:-3])
    again = opened(path)
    assert again.claim("first") is None
    keep(again, "last")
    keep(again, "more")
    assert [opened(path).claim(one) for one in ("first", "last", "more")] == [None] * 3


def test_the_file_of_another_store_is_not_believed(tmp_path: Path) -> None:
    keep(opened(tmp_path / "s"), "key")
    assert opened(tmp_path / "s", b"x" * 32).claim("key") is not None


def test_the_file_is_private_bounded_and_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEYS_MAX", 10)
    path = tmp_path / "s"
    seen = opened(path)
    for number in range(200):
        keep(seen, f"event {number}")
        assert path.stat().st_size <= 24 + 8 * 20
    assert 10 <= len(seen) <= 20
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"event" not in path.read_bytes()
    again = opened(path)
    assert [again.claim(f"event {number}") for number in range(190, 200)] == [None] * 10
    assert again.claim("event 100") is not None


def test_a_folder_that_cannot_be_written_loses_no_event(tmp_path: Path) -> None:
    if not os.getuid():
        path = tmp_path / "missing" / "s"  # root may write everywhere that exists
    else:
        path = tmp_path / "s"
        tmp_path.chmod(0o500)
    seen = opened(path)
    keep(seen, "key")
    assert seen.claim("key") is None
    tmp_path.chmod(0o700)


def test_the_file_stands_beside_the_store(tmp_path: Path) -> None:
    assert seen_path(tmp_path / "memory.localmem") == tmp_path / "memory.localmem.seen"


def test_many_keys_are_known_after_they_were_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FRESH_MAX", 4)
    seen = opened(tmp_path / "s")
    names = [f"event {number}" for number in range(50)]
    for name in names:
        keep(seen, name)
    for known in (seen, opened(tmp_path / "s")):
        assert len(known) == 50
        assert [known.claim(name) for name in names] == [None] * 50
        assert known.claim("another") is not None


def test_what_could_not_be_written_is_written_with_the_next(tmp_path: Path) -> None:
    path = tmp_path / "s"
    seen = opened(path)
    keep(seen, "first")
    path.unlink()
    path.mkdir()  # nothing can be appended to it, nor can it be replaced
    keep(seen, "second")
    path.rmdir()
    keep(seen, "third")
    assert [opened(path).claim(one) for one in ("first", "second", "third")] == [None] * 3
