"""At which lines a text stands in a file, without ever waiting for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from localmem_node import locating
from localmem_node.locating import locate


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.py"
    path.write_bytes("one\ntwo\nthree ä\r\nfour\n".encode())
    return path


def test_the_lines_of_a_text(path: Path) -> None:
    for text, lines in (
        ("one", (1, 1)),
        ("two\nthree", (2, 3)),
        ("\ntwo\n", (2, 2)),
        ("ä\nfour", (3, 4)),
        ("five", None),
        ("\n", None),
        ("", None),
        ("\ud800", None),
    ):
        assert locate(str(path), text) == lines


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path, tmp_path / "missing", Path("/dev/zero")):
        assert locate(str(place), "x") is None
    for name in ("a.py", "", "/a\0b", "/a\ud800b"):
        assert locate(name, "x") is None


def test_a_large_file_is_not_looked_through(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locating, "FILE_BYTES_MAX", 10)
    assert locate(str(path), "one") is None
