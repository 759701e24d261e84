from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from localmem_node.heap import LARGE_BYTES, settle_heap, trim_heap

_SCRIPT = """
import ctypes
from localmem_node.heap import settle_heap, trim_heap

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
if {settled}:
    settle_heap()
before = resident()
libc.free(libc.malloc(24 << 20))  # after this glibc takes smaller blocks from the heap
block = libc.malloc(16 << 20)
ctypes.memset(block, 1, 16 << 20)
small = libc.malloc(1000)  # above it, and stays
libc.free(block)
print(resident() - before)
"""


def _left_behind(*, settled: bool) -> int:
    script = _SCRIPT.format(settled=settled)
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_large_blocks_leave_no_hole_in_the_heap() -> None:
    assert _left_behind(settled=True) < LARGE_BYTES < _left_behind(settled=False)


def test_another_c_library_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    settle_heap()
    trim_heap()


def test_a_daemon_without_a_hub_does_without_the_libraries_of_sync() -> None:
    script = (
        "import sys; from localmem_node.daemon.extensions import load_extensions\n"
        "load_extensions(); print(*sorted({'websockets', 'pycrdt', 'sqlite3', 'spake2', 'localmem_protocol.chain'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == []
