"""Private files and folders: made tight, and refused when they are not."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from localmem_node.errors import ConfigError
from localmem_node.files import private_directory, read_private, try_lock, write_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    path = private_directory(tmp_path / "a" / "b")
    assert mode(path) == 0o700
    assert private_directory(path) == path


def test_a_folder_that_others_may_read_is_closed_and_one_they_may_write_refused(
    tmp_path: Path,
) -> None:
    (tmp_path / "read").mkdir(mode=0o755)
    assert mode(private_directory(tmp_path / "read")) == 0o700
    (tmp_path / "write").mkdir()
    (tmp_path / "write").chmod(0o720)
    with pytest.raises(ConfigError, match="chmod 700"):
        private_directory(tmp_path / "write")


def test_a_file_or_a_link_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link", "file/below"):
        with pytest.raises(ConfigError, match="folder"):
            private_directory(tmp_path / name)


def test_a_private_file_is_replaced_whole_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "state"
    for data in (b"one", b"two"):
        write_private(path, data)
        assert mode(path) == 0o600
        assert read_private(path, "state") == data
    assert os.listdir(tmp_path) == ["state"]


def test_a_file_that_others_may_read_or_that_is_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_private(path, b"x" * 70_000)
    with pytest.raises(ConfigError, match=r"state: .* larger"):
        read_private(path, "state")
    write_private(path, b"x")
    path.chmod(0o640)
    with pytest.raises(ConfigError, match=r"state: .* chmod 600"):
        read_private(path, "state")
    with pytest.raises(ConfigError, match="state: cannot read"):
        read_private(tmp_path / "missing", "state")


def test_a_lock_is_held_once_until_it_is_closed(tmp_path: Path) -> None:
    first = try_lock(tmp_path / "lock")
    assert first is not None
    assert try_lock(tmp_path / "lock") is None
    os.close(first)
    second = try_lock(tmp_path / "lock")
    assert second is not None
    os.close(second)
