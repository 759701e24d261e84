"""What the hook's command keeps while the daemon is away: in memory only, whole records, bounded."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_node import spool
from localmem_node.config import load_settings
from localmem_node.hook.client import EDITORS, SPOOL_BYTES_MAX
from localmem_node.spool import parse
from support.hook_command import TOOL, client, filesystem, hook, in_memory, records
from support.missing import missing

MIB = 2**20

pytestmark = pytest.mark.usefixtures("each_client")


@pytest.fixture
def home() -> Iterator[Path]:
    with in_memory() as folder:
        yield folder


@pytest.fixture
def run(home: Path) -> Path:
    """The runtime folder of a daemon that is away."""
    run = home / "run"
    run.mkdir(mode=0o700)
    return run


def big(size: int) -> bytes:
    return b'{"x":"' + b"x" * size + b'"}'


def test_events_wait_in_order_for_the_owner_alone(home: Path, run: Path) -> None:
    for number, editor in enumerate(("claude-code", "codex", "cursor")):
        hook(home, b"{%d}\r\n" % number, editor)
    found = records(run / "spool")
    assert [(editor, body) for editor, _, body in found] == [
        ("claude-code", b"{0}\r\n"),
        ("codex", b"{1}\r\n"),
        ("cursor", b"{2}\r\n"),
    ]
    times = [time_ms for _, time_ms, _ in found]
    assert times == sorted(times)
    assert abs(times[-1] - (run / "spool").stat().st_mtime_ns // 1_000_000) < 1000
    assert stat.S_IMODE((run / "spool").stat().st_mode) == 0o600


def test_before_the_first_daemon_the_folder_is_made_in_memory_alone(
    home: Path, tmp_path: Path
) -> None:
    hook(home)
    assert stat.S_IMODE((home / "run").stat().st_mode) == 0o700
    assert len(records(home / "run" / "spool")) == 1
    if filesystem(tmp_path) != "tmpfs":
        hook(tmp_path)
        assert os.listdir(tmp_path) == []
    hook(home / "nothing" / "here")
    assert sorted(os.listdir(home)) == ["run"]


def test_nothing_goes_to_a_disk(tmp_path: Path) -> None:
    if filesystem(tmp_path) == "tmpfs":
        missing("temporary files are in memory here")
    (tmp_path / "run").mkdir(mode=0o700)
    hook(tmp_path)
    assert os.listdir(tmp_path / "run") == []


def test_a_disk_mounted_elsewhere_is_told_from_memory(tmp_path: Path, home: Path) -> None:
    for path in (tmp_path, home, Path("/proc"), Path("/"), Path("/dev")):
        expected = filesystem(path) == "tmpfs" and str(path) != "/dev"
        assert client().functions.is_in_memory(path) == expected


def test_the_spool_is_bounded_in_all(home: Path, run: Path) -> None:
    hook(home, big(3 * MIB))
    hook(home, big(2 * MIB))
    hook(home)
    assert [len(body) for _, _, body in records(run / "spool")] == [len(big(3 * MIB)), len(TOOL)]
    assert (run / "spool").stat().st_size < SPOOL_BYTES_MAX


def test_ten_at_once_keep_whole_records_within_the_bound(home: Path, run: Path) -> None:
    bodies = [big(MIB // 2 + number) for number in range(10)]
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda body: hook(home, body), bodies))
    kept = [body for _, _, body in records(run / "spool")]
    assert len(kept) == len(set(kept))
    assert set(kept) <= set(bodies)
    assert 0 < len(kept) <= 7
    assert (run / "spool").stat().st_size <= SPOOL_BYTES_MAX


@pytest.mark.parametrize("what", ["link", "folder", "fifo", "open"])
def test_a_spool_that_is_not_ours_is_left_alone(home: Path, run: Path, what: str) -> None:
    spool, other = run / "spool", home / "other"
    other.write_bytes(b"precious")
    if what == "link":
        spool.symlink_to(other)
    elif what == "folder":
        spool.mkdir()
    elif what == "fifo":
        os.mkfifo(spool, 0o600)
    else:
        spool.touch()
        spool.chmod(0o644)
    hook(home)
    assert other.read_bytes() == b"precious"
    assert what != "open" or spool.read_bytes() == b""


def test_a_folder_that_cannot_be_written_to_is_let_be(home: Path, run: Path) -> None:
    run.chmod(0o500)
    hook(home)
    run.chmod(0o700)
    assert os.getuid() == 0 or os.listdir(run) == []  # root may write anywhere


def test_one_that_is_locked_for_long_is_not_waited_for(home: Path, run: Path) -> None:
    with (run / "spool").open("wb") as file:
        os.fchmod(file.fileno(), 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        hook(home)
    assert (run / "spool").read_bytes() == b""


def test_a_client_that_is_writing_when_the_daemon_takes_the_spool_is_waited_for(
    home: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings({"LOCALMEM_HOME": str(home)})
    hook(home)
    with (run / "spool").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        def write(_: float) -> None:
            """The client goes on when the daemon first waits for it."""
            file.write(b"codex 1 2\n{}\n")
            file.flush()
            fcntl.flock(file, fcntl.LOCK_UN)

        monkeypatch.setattr(time, "sleep", write)
        found = [one.body for some in spool.drain(settings) for one in some]
    assert found == [TOOL, b"{}"]
    assert os.listdir(run) == []


def test_half_a_record_is_taken_back(home: Path) -> None:
    """A file system that is full: RLIMIT_FSIZE cuts a write short in the same way."""
    run = home / "run"
    run.mkdir(mode=0o700)
    hook(home)
    before = (run / "spool").read_bytes()
    code = (
        "import resource, signal, os, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) + 40},) * 2)\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *client().command, "codex"],
        input=TOOL,
        env={"LOCALMEM_HOME": str(home)},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert (run / "spool").read_bytes() == before


@given(
    st.lists(
        st.tuples(
            st.sampled_from(EDITORS),
            st.binary(min_size=1, max_size=300) | st.just(b"codex 1 4\n{}\n\n"),
        ),
        max_size=6,
    )
)
def test_what_a_daemon_reads_is_what_was_written(events: list[tuple[bytes, bytes]]) -> None:
    with in_memory() as home:
        for editor, body in events:
            client().functions.keep(home, editor, body)
        data = (home / "spool").read_bytes() if events else b""
        found = list(parse(data))
        assert [(one.editor.encode(), one.body) for one in found] == events
        assert found == (records(home / "spool") if events else [])
