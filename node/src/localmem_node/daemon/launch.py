"""Starting a daemon from a client, once, whoever else tries at the same time."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from localmem_node.config import Settings
from localmem_node.daemon.state import launch_lock_path
from localmem_node.errors import DaemonError
from localmem_node.files import private_directory, try_lock
from localmem_node.problems import raise_problem
from localmem_node.system import SystemClock

START_S: Final = 90
"""How long a daemon may take to start: a key derivation, and a large index after a crash."""

LOG_BYTES_MAX: Final = 1024 * 1024
"""A log above this is set aside, once, when a daemon starts."""

_CLOCK: Final = SystemClock()


def launch(
    settings: Settings, environment: Mapping[str, str], is_running: Callable[[], bool]
) -> None:
    """Start a daemon unless `is_running` says that there is one by now; return when it answers.

    Raises DaemonError, or the error that kept the daemon from starting.
    """
    private_directory(settings.runtime_dir)
    path = launch_lock_path(settings)
    deadline = _CLOCK.monotonic_s() + START_S
    while (lock := try_lock(path)) is None:
        if is_running():
            return
        if _CLOCK.monotonic_s() > deadline:
            raise DaemonError(f"another client has been starting the daemon for {START_S} s")
        time.sleep(0.02)
    try:
        if not is_running():
            _start_or_join(settings, environment, is_running)
    finally:
        os.close(lock)


def _start_or_join(
    settings: Settings, environment: Mapping[str, str], is_running: Callable[[], bool]
) -> None:
    try:
        _start(settings, environment)
    except DaemonError:
        # A client that was killed may have left one that was still starting, and ours made way.
        if not is_running():
            raise


def _start(settings: Settings, environment: Mapping[str, str]) -> None:
    if not sys.executable:
        raise DaemonError("no Python interpreter to start the daemon with; run: localmem up")
    reading, writing = os.pipe()
    try:
        log = _open_log(settings.log_path)
        try:
            # -P: a folder that happens to be the current one must not supply modules.
            launcher = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "localmem_node.daemon",
                    "--detach",
                    f"--ready-fd={writing}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(writing,),
                env=_absolute(environment),
                start_new_session=True,
            )
        finally:
            os.close(log)
            os.close(writing)
        launcher.wait()
        answer = _read_to_end(reading)
    finally:
        os.close(reading)
    if answer is None:
        raise DaemonError(f"the daemon did not start; {settings.log_path} has more")
    if answer.get("ready") is not True:
        raise_problem(answer)


def _read_to_end(descriptor: int) -> dict[str, Any] | None:
    """The first line, once the other side is closed: by a daemon that is ready, or has ended."""
    deadline = _CLOCK.monotonic_s() + START_S
    data = b""
    while True:
        readable, _, _ = select.select(
            [descriptor], [], [], max(0, deadline - _CLOCK.monotonic_s())
        )
        chunk = os.read(descriptor, 4096) if readable else b""
        if not chunk:
            break
        data += chunk
    with contextlib.suppress(msgspec.DecodeError):
        return msgspec.json.decode(data.split(b"\n")[0], type=dict[str, Any])
    return None


def _open_log(path: Path) -> int:
    private_directory(path.parent)
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > LOG_BYTES_MAX:
            path.replace(path.with_suffix(".log.1"))
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(path, flags, 0o600)


def _absolute(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with paths that hold in any folder: the daemon leaves this one."""
    result = dict(environment)
    for name in ("LOCALMEM_HOME", "LOCALMEM_PASSPHRASE_FILE", "LOCALMEM_KEY_FILE",
                 "LOCALMEM_HUB_TOKEN_FILE", "LOCALMEM_POOL_KEY_FILE"):  # fmt: skip
        if result.get(name):
            result[name] = os.path.abspath(os.path.expanduser(result[name]))
    model = result.get("LOCALMEM_ENCODER_MODEL", "")
    if model.startswith((".", "~")):  # else it may be the name of a model
        result["LOCALMEM_ENCODER_MODEL"] = os.path.abspath(os.path.expanduser(model))
    if result.get("PYTHONPATH"):
        entries = result["PYTHONPATH"].split(os.pathsep)
        result["PYTHONPATH"] = os.pathsep.join(os.path.abspath(entry) for entry in entries if entry)
    return result
