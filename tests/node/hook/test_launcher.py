"""The files that editors run: the same paths for ever, whatever interpreter and home are called."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from localmem_node.config import Settings, load_settings
from localmem_node.errors import ConfigError
from localmem_node.hook.launcher import (
    hook_path,
    hook_text,
    mcp_path,
    mcp_text,
    refresh_launcher,
    remove_launcher,
    write_launcher,
)
from support.hook_command import CLIENT, TOOL, in_memory, no_program, records, run
from support.hook_daemon import HookDaemon

SAYS = b'{"a":1}'
ODD = 'it\'s "a" $HOME `x` \\ caf\u00e9'
NAMES = ["plain", "with space", ODD, "x" * 200, "new\nline", "bytes\udcff", "'''"]


def settings(home: Path) -> tuple[Settings, dict[str, str]]:
    environment = {"LOCALMEM_HOME": str(home)}
    return load_settings(environment), environment


def test_it_reaches_the_daemon_of_its_home_whatever_the_environment_says(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    tmp_path = tmp_path_factory.mktemp("h")  # a socket's path must not be long
    for name in ("a", ODD, "bytes\udcff"):
        home = tmp_path / name
        path = write_launcher(*settings(home), find=no_program)
        with HookDaemon(home, SAYS) as daemon:
            for environment in ({}, {"LOCALMEM_HOME": str(tmp_path / "other")}):
                done = run(["codex"], environment, TOOL, command=(str(path),))
                assert done.stdout == SAYS
            assert run(["vim"], {}, TOOL, command=(str(path),)).stdout == b""
            assert run([], {}, TOOL, command=(str(path),)).stdout == b""
        assert len(daemon.requests) == 2


def test_without_a_home_of_its_own_the_environment_decides(tmp_path: Path) -> None:
    path = tmp_path / "hook"
    path.write_bytes(hook_text(sys.executable, CLIENT, None))
    path.chmod(0o700)
    with HookDaemon(tmp_path / "home", SAYS) as daemon:
        environment = {"LOCALMEM_HOME": str(tmp_path / "home")}
        assert run(["codex"], environment, TOOL, command=(str(path),)).stdout == SAYS
        assert run(["codex"], {"HOME": str(tmp_path)}, TOOL, command=(str(path),)).stdout == b""
    assert len(daemon.requests) == 1


@pytest.mark.parametrize("name", NAMES)
def test_the_interpreter_may_be_called_anything(tmp_path: Path, name: str) -> None:
    """A link to an interpreter of another name, as in a virtual environment."""
    (tmp_path / name).mkdir()
    interpreter = tmp_path / name / "python"
    interpreter.symlink_to(os.path.realpath(sys.executable))
    client = tmp_path / name / "client.py"
    client.write_bytes(CLIENT.read_bytes())
    path = tmp_path / "hook"
    path.write_bytes(hook_text(str(interpreter), client, tmp_path))
    path.chmod(0o700)
    with HookDaemon(tmp_path, SAYS) as daemon:
        assert run(["cursor"], {}, TOOL, command=(str(path),)).stdout == SAYS
    assert len(daemon.requests) == 1


def test_an_interpreter_whose_package_is_gone_is_silent(tmp_path: Path) -> None:
    path = tmp_path / "hook"
    path.write_bytes(hook_text(sys.executable, tmp_path / "gone.py", tmp_path))
    path.chmod(0o700)
    assert run(["cursor"], {}, TOOL, command=(str(path),)).stdout == b""


@pytest.mark.parametrize("name", NAMES)
def test_the_mcp_command_starts_the_shim_with_its_home(tmp_path: Path, name: str) -> None:
    """An interpreter that says how it was called stands in for the one of a virtual environment."""
    (tmp_path / name).mkdir()
    interpreter = tmp_path / name / "python"
    interpreter.write_text('#!/bin/sh\nprintf "%s|" "$LOCALMEM_HOME" "$@"\n')
    interpreter.chmod(0o700)
    path = tmp_path / "mcp"
    path.write_bytes(mcp_text(str(interpreter), tmp_path / name))
    path.chmod(0o700)
    done = subprocess.run([path, "a b"], capture_output=True, env={}, check=True)
    said = [str(tmp_path / name), "-P", "-m", "localmem_node.mcp_server.shim", "a b", ""]
    assert done.stdout == os.fsencode("|".join(said))
    path.write_bytes(mcp_text(str(interpreter), None))
    assert subprocess.check_output([path], env={}).startswith(b"|-P|-m|")


def test_both_are_for_the_owner_alone_and_equal_ones_stay(tmp_path: Path) -> None:
    given, environment = settings(tmp_path / "home")
    path = write_launcher(given, environment, find=no_program)
    assert path == hook_path(given) == given.data_dir / "bin" / "localmem-hook"
    paths = [path, mcp_path(given)]
    assert sorted(os.listdir(path.parent)) == ["localmem-hook", "localmem-mcp"]
    assert [stat.S_IMODE(each.stat().st_mode) for each in paths] == [0o700] * 2
    before = [(each.stat().st_ino, each.stat().st_mtime_ns) for each in paths]
    assert write_launcher(given, environment, find=no_program) == path
    assert refresh_launcher(given, {}, no_program) == []
    assert [(each.stat().st_ino, each.stat().st_mtime_ns) for each in paths] == before


@pytest.mark.parametrize("what", ["text", "mode", "link"])
def test_one_that_differs_is_replaced(tmp_path: Path, what: str) -> None:
    given, environment = settings(tmp_path / "home")
    path = write_launcher(given, environment, find=no_program)
    text = path.read_bytes()
    if what == "text":
        path.write_bytes(b"#!/old/python -IS\n")
    elif what == "mode":
        path.chmod(0o600)
    else:
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    write_launcher(given, environment, find=no_program)
    assert (path.read_bytes(), path.is_symlink()) == (text, False)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_daemon_renews_what_is_there_and_adds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, environment = settings(tmp_path / "home")
    assert refresh_launcher(given, {}, no_program) == []
    path = write_launcher(given, environment, find=no_program)
    mcp_path(given).unlink()
    text = path.read_bytes()
    path.write_bytes(b"#!/old/python -IS\n")
    assert refresh_launcher(given, {}, no_program) == [path]
    assert path.read_bytes() == text
    assert not mcp_path(given).exists()
    monkeypatch.setattr(sys, "executable", "/new/python")
    assert refresh_launcher(given, {}, no_program) == [path]
    assert path.read_bytes().startswith(b"#!/new/python -IS\n")


def test_folders_of_the_system_have_no_home_to_bake(tmp_path: Path) -> None:
    config, data, runtime, state = (tmp_path / name for name in ("c", "d", "r", "s"))
    given = Settings(config, data, runtime, state)
    path = write_launcher(given, {}, find=no_program)
    assert b"LOCALMEM_HOME" not in mcp_path(given).read_bytes()
    assert b'names["main"](None)' in path.read_bytes()
    assert refresh_launcher(given, {}, no_program) == []


def test_both_are_removed_and_what_others_put_beside_them_stays(tmp_path: Path) -> None:
    given, environment = settings(tmp_path / "home")
    remove_launcher(given)
    folder = write_launcher(given, environment, find=no_program).parent
    (folder / "mine").touch()
    remove_launcher(given)
    assert os.listdir(folder) == ["mine"]
    (folder / "mine").unlink()
    write_launcher(given, environment, find=no_program)
    remove_launcher(given)
    assert not folder.exists()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    given, environment = settings(tmp_path / "home")
    given.data_dir.mkdir(parents=True)
    (given.data_dir / "bin").write_text("a file")
    with pytest.raises(ConfigError, match="bin"):
        write_launcher(given, environment, find=no_program)


def test_without_an_interpreter_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, environment = settings(tmp_path / "home")
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(ConfigError, match="interpreter"):
        write_launcher(given, environment, find=no_program)
    assert not hook_path(given).exists()


def test_compiled_once_it_is_not_compiled_again(tmp_path: Path) -> None:
    client = tmp_path / "client.py"
    client.write_bytes(CLIENT.read_bytes())
    path = tmp_path / "hook"
    path.write_bytes(hook_text(sys.executable, client, tmp_path))
    path.chmod(0o700)
    run(["codex"], {}, TOOL, command=(str(path),))
    [compiled] = (tmp_path / "__pycache__").iterdir()
    before = compiled.stat().st_mtime_ns, compiled.stat().st_ino
    run(["codex"], {}, TOOL, command=(str(path),))
    assert (compiled.stat().st_mtime_ns, compiled.stat().st_ino) == before


def test_a_home_in_memory_and_a_launcher_with_a_shell_agree_on_the_spool() -> None:
    with in_memory() as folder:
        home = folder / ODD
        home.mkdir()
        path = folder / "hook"
        path.write_bytes(hook_text("/no/such path", CLIENT, home))
        path.write_bytes(path.read_bytes().replace(b"'/no/such path'", sys.executable.encode()))
        path.chmod(0o700)
        run(["codex"], {}, TOOL, command=(str(path),))
        assert [body for _, _, body in records(home / "run" / "spool")] == [TOOL]
