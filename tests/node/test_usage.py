"""What was captured, injected and used is counted, by day and editor, and survives what it can."""

from __future__ import annotations

import stat
from pathlib import Path
from threading import Thread

import pytest

from localmem_node import usage as module
from localmem_node.usage import Tally, Usage
from support.events import MOMENT, event

DAY_MS = 86_400_000


def give(usage: Usage, *paths: str, session: str = "s", now_ms: int = MOMENT) -> list[str]:
    given = [event(number, filePath=path) for number, path in enumerate(paths, 1)]
    usage.injected("codex", session, given, characters=100, tokens=30, now_ms=now_ms)
    return [one.id for one in given]


def test_counts_outlive_the_process(tmp_path: Path) -> None:
    path = tmp_path / "state" / "usage.json"
    usage = Usage(path)
    usage.count("codex", MOMENT, Tally(captured={"edit": 2}, known=1))
    usage.count("cursor", MOMENT, Tally(captured={"edit": 1}, refused=3))
    usage.heard("codex", MOMENT)
    usage.heard("codex", MOMENT - 1)  # it waited in a spool
    give(usage, "a.py", "b.py")
    assert not path.exists()
    usage.save()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    report = Usage(path).report()
    assert report == usage.report()
    assert report["editors"]["codex"] == {
        "captured": {"edit": 2}, "known": 1, "refused": 0, "unreadable": 0, "paused": 0,
        "blocks": 1, "events": 2, "characters": 100, "tokens": 30, "used": 0, "last": MOMENT,
    }  # fmt: skip
    assert report["total"]["captured"] == {"edit": 3}
    assert Usage(path).last == {"codex": MOMENT}


def test_an_injected_event_is_used_once_when_its_file_is_touched(tmp_path: Path) -> None:
    usage = Usage(tmp_path / "u")
    give(usage, "src/a.py", "src/b.py")
    usage.touched("other", [event(9, filePath="src/a.py")], MOMENT)
    usage.touched("s", [event(9, filePath="src/c.py")], MOMENT)
    assert usage.report()["total"]["used"] == 0
    for _ in range(2):
        usage.touched("s", [event(9, filePath="src/a.py")], MOMENT)
    assert usage.report()["total"]["used"] == 1
    command = event(9, kind="command", filePath=None, selectionRange=None, snippet="$ cat src/b.py")
    usage.touched("s", [command], MOMENT)
    assert usage.report()["editors"]["codex"]["used"] == 2


def test_an_id_that_is_asked_for_was_used(tmp_path: Path) -> None:
    usage = Usage(tmp_path / "u")
    ids = give(usage, "a.py")
    for _ in range(2):
        usage.asked([*ids, "unknown"], MOMENT)
    assert usage.report()["total"]["used"] == 1


def test_days_are_told_apart_and_old_ones_summed_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DAYS_MAX", 3)
    usage = Usage(tmp_path / "u")
    for day in range(6):
        usage.count("codex", MOMENT + day * DAY_MS, Tally(known=1))
    usage.save()
    again = Usage(tmp_path / "u")
    assert again.report()["total"]["known"] == 6
    assert again.report()["since"] is None
    assert again.report("2025-10-13")["total"]["known"] == 2


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff\xff", b'{"days": {"x": 1}}'])
def test_a_damaged_file_counts_anew(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "u"
    path.write_bytes(data)
    path.chmod(0o600)
    usage = Usage(path)
    usage.count("codex", MOMENT, Tally(known=1))
    usage.save()
    assert Usage(path).report()["total"]["known"] == 1


def test_what_is_watched_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVENTS_MAX", 2)
    monkeypatch.setattr(module, "SESSIONS_MAX", 2)
    usage = Usage(tmp_path / "u")
    give(usage, "a", "b", "c")
    usage.touched("s", [event(9, filePath="a")], MOMENT)
    assert usage.report()["total"]["used"] == 0
    for session in ("t", "u"):
        give(usage, "a", session=session)
    usage.touched("s", [event(9, filePath="c")], MOMENT)
    assert usage.report()["total"]["used"] == 0


def test_counting_from_many_threads_loses_nothing(tmp_path: Path) -> None:
    usage = Usage(tmp_path / "u")

    def count() -> None:
        for _ in range(500):
            usage.count("codex", MOMENT, Tally(captured={"edit": 1}, known=1))

    threads = [Thread(target=count) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert usage.report()["total"]["known"] == 3000
    assert usage.run.captured == {"edit": 3000}
