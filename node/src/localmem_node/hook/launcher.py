"""The commands that editors run, as files whose paths never change.

    <data folder>/bin/localmem-hook EDITOR   the compiled client, or hook/client.py without site and
                                             environment
    <data folder>/bin/localmem-mcp           the MCP server on standard input and output

An editor's settings name them, and Codex asks its user again about a command that changed; so these
paths stay while interpreters and versions come and go, and a daemon that starts renews what is in the
files. An interpreter's own start is most of what a hook costs, so that one without it is taken where
there is one (`compiled.py`). Else the client is run from its compiled form, and a shell stands before it
only where a `#!` line cannot name the interpreter.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from localmem_node.config import Settings
from localmem_node.errors import ConfigError
from localmem_node.files import private_directory, write_private
from localmem_node.hook.compiled import compiled_text, find_compiled, program_of

SHEBANG_BYTES_MAX: Final = 127
"""Of a `#!` line, its end included: what every Linux reads; newer ones have 255, macOS 512."""

_MODE: Final = 0o700
_CLIENT: Final = Path(__file__).with_name("client.py")

_HOOK: Final = """\
try:
    from _frozen_importlib_external import SourceFileLoader
    names = {{"__name__": "localmem_hook"}}
    exec(SourceFileLoader("localmem_hook", {client}).get_code("localmem_hook"), names)
    names["main"]({home})
except BaseException:
    pass
"""
"""Its loader is there at every start, and reads `__pycache__`, which `python FILE` does not."""


def hook_path(settings: Settings) -> Path:
    """Where the hook's command is, whether it was written or not."""
    return settings.data_dir / "bin" / "localmem-hook"


def mcp_path(settings: Settings) -> Path:
    """Where the MCP server's command is."""
    return settings.data_dir / "bin" / "localmem-mcp"


Find = Callable[[Mapping[str, str], str], Path | None]
"""Where the compiled client is, by an environment and the path of an interpreter."""


def write_launcher(
    settings: Settings, environment: Mapping[str, str], find: Find = find_compiled
) -> Path:
    """Write both commands for this interpreter, and return the hook's; equal files stay untouched.

    A LOCALMEM_HOME of `environment` is in force for them, whatever an editor's environment says.
    Raises ConfigError when there is no interpreter or the folder cannot be used.
    """
    home = settings.config_dir if environment.get("LOCALMEM_HOME") else None
    private_directory(hook_path(settings).parent)
    for path, text in _texts(settings, home, _program(environment, find)).items():
        if not _holds(path, text):
            _write(path, text)
    return hook_path(settings)


def refresh_launcher(
    settings: Settings, environment: Mapping[str, str], find: Find = find_compiled
) -> list[Path]:
    """Renew the commands that exist and are of another interpreter or version; what was renewed.

    A compiled client stays one: an editor's PATH, with which a daemon may have been started, need not
    have what the user's had at `localmem install`. Raises ConfigError like `write_launcher`.
    """
    renewed = []
    program = _program(environment, find) or program_of(_read(hook_path(settings)))
    for path, text in _texts(settings, _home(settings), program).items():
        if path.is_file() and not _holds(path, text):
            _write(path, text)
            renewed.append(path)
    return renewed


def remove_launcher(settings: Settings) -> None:
    """Remove both commands, and their folder if nothing else is in it."""
    for path in (hook_path(settings), mcp_path(settings)):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        hook_path(settings).parent.rmdir()


def _texts(settings: Settings, home: Path | None, program: bytes | None) -> dict[Path, bytes]:
    if not sys.executable:
        raise ConfigError("no Python interpreter to write the hook's command for")
    if program is not None:
        hook = compiled_text(program, sys.executable, home)
    else:
        hook = hook_text(sys.executable, _CLIENT, home)
    return {hook_path(settings): hook, mcp_path(settings): mcp_text(sys.executable, home)}


def _program(environment: Mapping[str, str], find: Find) -> bytes | None:
    path = find(environment, sys.executable)
    return _read(path) or None if path is not None else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def hook_text(interpreter: str, client: Path, home: Path | None) -> bytes:
    """The hook's command as a file; every path may have spaces, quotes and bytes that are no text."""
    baked = ascii(os.fsencode(home)) if home is not None else "None"
    code = _HOOK.format(client=ascii(str(client)), home=baked)
    line = os.fsencode(f"#!{interpreter} -IS\n")
    if (
        len(line) <= SHEBANG_BYTES_MAX
        and interpreter.isascii()
        and interpreter.split() == [interpreter]
    ):
        return line + code.encode()  # Python reads this file as UTF-8, its first line too
    return os.fsencode(
        f'#!/bin/sh\nexec {shlex.quote(interpreter)} -IS -c {shlex.quote(code)} "$@"\n'
    )


def mcp_text(interpreter: str, home: Path | None) -> bytes:
    """The MCP server's command as a file."""
    baked = f"export LOCALMEM_HOME={shlex.quote(str(home))}\n" if home is not None else ""
    # -P: a folder that happens to be the current one must not supply modules.
    start = f'exec {shlex.quote(interpreter)} -P -m localmem_node.mcp_server.shim "$@"\n'
    return os.fsencode(f"#!/bin/sh\n{baked}{start}")


def _home(settings: Settings) -> Path | None:
    """The LOCALMEM_HOME that gave these folders, if one did (see `config.load_settings`)."""
    home = settings.config_dir
    under = settings.data_dir == home / "data" and settings.runtime_dir == home / "run"
    return home if under else None


def _holds(path: Path, text: bytes) -> bool:
    try:
        mode = path.lstat().st_mode
        return path.read_bytes() == text and mode & 0o777 == _MODE and not path.is_symlink()
    except OSError:
        return False


def _write(path: Path, text: bytes) -> None:
    try:
        write_private(path, text, durable=False, mode=_MODE)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
