"""What a hub acknowledged is on disk by then; a hub that syncs less is found out."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from bench import power_cut
from bench.traced_disk import SECTOR, Call, Disk, read_trace
from support.missing import missing


@pytest.fixture
def _strace() -> None:
    if shutil.which("strace") is None:
        missing(power_cut.MISSING)


@pytest.mark.usefixtures("_strace")
def test_a_power_cut_takes_nothing_that_was_acknowledged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    power_cut.main(["--batches", "20", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["acknowledged"] >= 80
    assert found["moments"] > 10
    assert found["images"] > 10
    assert (found["lost"], found["altered"], found["unreadable"]) == (0, 0, 0)


@pytest.mark.usefixtures("_strace")
@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
def test_a_hub_that_does_not_wait_for_the_disk_is_found_out(
    synchronous: str, tmp_path: Path
) -> None:
    result = power_cut.measure(tmp_path, 10, 1, synchronous, [signal.SIGKILL])
    assert result.acknowledged >= 20
    assert result.lost > 0
    assert not result.sound


def hexed(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


class Lines:
    """A trace in the making, of a folder /d."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.disk = Disk(Path("/d"))

    def take(self, *lines: str) -> dict[str, bytes]:
        """What a power cut leaves after these."""
        self.path.write_text("\n".join(lines) + "\n")
        for call in read_trace(self.path):
            self.disk.take(call)
        return self.disk.images()


def opened(name: str) -> str:
    return f'7 openat(AT_FDCWD<{hexed("/")}>, "{hexed(f"/d/{name}")}", O_RDWR|O_CREAT, 0600) = 3'


def wrote(name: str, data: str, offset: int, end: str = "") -> str:
    size = len(data.encode())
    head = f'7 pwrite64(3<{hexed(f"/d/{name}")}>, "{hexed(data)}", {size}, {offset}'
    return head + (end or f") = {size}")


def synced(path: str, pid: int = 7, end: str = ") = 0") -> str:
    return f"{pid} fdatasync(3<{hexed(path)}>{end}"


UNFINISHED = " <unfinished ...>"


def test_what_was_synced_stays_and_nothing_else(tmp_path: Path) -> None:
    lines = Lines(tmp_path / "trace")
    assert lines.take(opened("a"), wrote("a", "one", 0), synced("/d/a")) == {}
    assert lines.take(synced("/d")) == {"a": b"one"}
    assert lines.take(wrote("a", "two", 2)) == {"a": b"one"}
    assert lines.take(synced("/elsewhere/a")) == {"a": b"one"}
    assert lines.take(synced("/d/a", end=") = -1 EIO (Input/output error)")) == {"a": b"one"}
    assert lines.take(synced("/d/a")) == {"a": b"ontwo"}
    short = f"7 ftruncate(3<{hexed('/d/a')}>, 1) = 0"
    assert lines.take(short) == {"a": b"ontwo"}
    assert lines.take(synced("/d/a")) == {"a": b"o"}
    assert lines.take(f'7 unlink("{hexed("/d/a")}") = 0') == {"a": b"o"}
    assert lines.take(synced("/d")) == {}


def test_a_sync_counts_once_it_returned_and_for_what_was_there_when_it_began(
    tmp_path: Path,
) -> None:
    lines = Lines(tmp_path / "trace")
    lines.take(opened("a"), synced("/d"))
    before = [wrote("a", "one", 0), synced("/d/a", 8, UNFINISHED), wrote("a", "two", 3)]
    assert lines.take(*before) == {"a": b""}
    lines = Lines(tmp_path / "trace")
    lines.take(opened("a"), synced("/d"))
    assert lines.take(*before, "8 <... fdatasync resumed>) = 0") == {"a": b"one"}


def test_some_of_what_was_not_synced_may_stay_sector_by_sector(tmp_path: Path) -> None:
    lines = Lines(tmp_path / "trace")
    lines.take(opened("a"), synced("/d"), wrote("a", "x" * 3 * SECTOR, SECTOR // 2))
    left = {lines.disk.images(np.random.default_rng(seed))["a"] for seed in range(200)}
    assert len(left) == 16  # of four sectors, two of them in part
    assert {b"", bytes(SECTOR // 2) + b"x" * 3 * SECTOR} <= left


def test_calls_that_it_does_not_understand_are_no_good_news(tmp_path: Path) -> None:
    lines = Lines(tmp_path / "trace")
    lines.take(opened("a"), synced("/d"))
    with pytest.raises(ValueError, match="writev"):
        lines.take(f'7 writev(3<{hexed("/d/a")}>, [{{iov_base="{hexed("one")}"}}], 1) = 3')
    with pytest.raises(ValueError, match="is cut"):
        lines.take(f'7 pwrite64(3<{hexed("/d/a")}>, "{hexed("one")}"..., 30, 0) = 30')
    with pytest.raises(ValueError, match="in parts"):
        list(power_cut.Sent().take(Call("sendto", "socket:[1]", b"\x82\x01a", (), 2)))
