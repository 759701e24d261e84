"""The unit: systemd takes it, it shuts the hub in, and the hub works in there."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from localmem_hub.cli import group
from localmem_hub.errors import ConfigError
from localmem_hub.limits import CLOSE_SECONDS, DRAIN_SECONDS
from localmem_hub.settings import load_settings
from support.hub_process import HubProcess
from support.images import ROOT
from support.missing import missing
from support.plain_client import PlainClient
from support.sync_client import RawClient

FOLDER = ROOT / "deploy/systemd"
UNIT = FOLDER / "localmem-hub.service"
EXPOSURE_MAX = 20
"""Tenths of what `systemd-analyze security` counts, of a hundred; a unit without any bound has 96."""

_NO_EXECUTABLE_WRITES = """
import ctypes, os, sys
PR_SET_MDWE, REFUSE = 65, 1
assert ctypes.CDLL(None).prctl(PR_SET_MDWE, REFUSE, 0, 0, 0) == 0
os.execvp(sys.argv[1], sys.argv[1:])
"""


def service() -> dict[str, list[str]]:
    """The section [Service]: name -> its values, of which systemd takes more than one."""
    section = UNIT.read_text().split("[Service]\n")[1].split("[Install]")[0]
    found: dict[str, list[str]] = {}
    for line in section.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def only(name: str) -> str:
    (value,) = service()[name]
    return value


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        missing("needs systemd-analyze: apt-get install systemd")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, of a program that is there."""
    made = tmp_path / UNIT.name
    made.write_text(UNIT.read_text().replace("/opt/localmem-hub/bin/localmem-hub", sys.executable))
    return made


def test_systemd_takes_it(unit: Path) -> None:
    done = analyze("verify", str(unit))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    unit.write_text(unit.read_text().replace("ProtectClock=yes", "ProtectClocks=yes"))
    assert "ProtectClocks" in analyze("verify", str(unit)).stderr


def test_it_leaves_little_open(unit: Path) -> None:
    bound = ["security", "--offline=yes", f"--threshold={EXPOSURE_MAX}"]
    assert analyze(*bound, str(unit)).returncode == 0
    unit.write_text(re.sub(r"(?m)^(SystemCallFilter|ProtectSystem)=.*$", "", unit.read_text()))
    assert analyze(*bound, str(unit)).returncode != 0


def test_its_command_is_one_of_the_hubs(tmp_path: Path) -> None:
    program, *arguments = only("ExecStart").split()
    assert program.endswith("/bin/localmem-hub")
    command = group.get_command(click.Context(group), arguments[0])
    assert command is not None
    context = command.make_context(arguments[0], arguments[1:])
    named = context.params["config"]
    assert named == Path("/etc/localmem-hub/hub.toml")
    assert named.name == next(FOLDER.glob("*.toml")).name


def test_the_settings_beside_it_are_settings_and_data_goes_where_the_unit_lets_it() -> None:
    environment = dict(line.split("=", 1) for line in service()["Environment"])
    settings = load_settings(environment, Path("/root"), FOLDER / "hub.toml")
    assert settings.metrics_address == ("127.0.0.1", 9100)
    assert settings.origins == {"https://hub.example.com", "http://127.0.0.1:8765"}
    assert settings.database == f"sqlite:////var/lib/{only('StateDirectory')}/hub.db"


def test_it_waits_for_the_last_commits_and_gives_up_on_wrong_settings(tmp_path: Path) -> None:
    assert float(only("TimeoutStopSec")) >= 2 * DRAIN_SECONDS + CLOSE_SECONDS
    environment = os.environ | {"LOCALMEM_HUB_CONFIG": str(tmp_path / "gone.toml")}
    command = [sys.executable, "-m", "localmem_hub", "serve"]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == int(only("RestartPreventExitStatus"))
    with pytest.raises(ConfigError):
        load_settings({"LOCALMEM_HUB_CONFIG": str(tmp_path / "gone.toml")}, tmp_path)


def allowed() -> set[str]:
    """The system calls that the unit lets through."""
    found: set[str] = set()
    for line in service()["SystemCallFilter"]:
        names = set().union(*(_calls(name) for name in line.lstrip("~").split()))
        found = found - names if line.startswith("~") else found | names
    return found


def _calls(group_name: str) -> set[str]:
    if not group_name.startswith("@"):
        return {group_name}
    lines = analyze("syscall-filter", group_name).stdout.splitlines()
    names = [line.strip() for line in lines[1:] if line.strip() and "#" not in line]
    return set().union(*(_calls(name) for name in names))


async def test_a_hub_asks_for_nothing_that_the_unit_forbids(tmp_path: Path) -> None:
    """Its system calls are allowed, and it writes to no memory that it executes."""
    strace, trace = shutil.which("strace"), tmp_path / "trace"
    if strace is None:
        missing("needs strace: apt-get install strace")
    hub = HubProcess(tmp_path, "--plain", "--metrics", "0")
    # -D: the hub is this process's child, and hears its signals.
    hub.prefix = [strace, "-D", "-f", "-qq", "-e", "signal=none", "-o", str(trace)]
    if ctypes.CDLL(None).prctl(66, 0, 0, 0, 0) >= 0:  # PR_GET_MDWE: the kernel can forbid it
        hub.prefix += [sys.executable, "-c", _NO_EXECUTABLE_WRITES]
    try:
        hub.start()
        async with asyncio.timeout(60):
            one = f"{1:016x}"
            raw = await RawClient.join(hub.url, "team", one, hub.token("team", one))
            await raw.write(b"x")
            await raw.acknowledged(1)
            client = await PlainClient.join(hub.url, "notes", hub.token("notes", kind="plain"))
            await client.write()
            await client.synchronise()
            await client.leave()
            await raw.socket.close()
        assert hub.stop() == 0
    finally:
        hub.kill()
    used = set(re.findall(r"(?m)^[0-9]+ +([a-z0-9_]+)\(", trace.read_text()))
    assert {"execve", "fdatasync", "accept4"} <= used
    # Only root gives its files away, and only under SQLite; the unit's user is another.
    assert used - allowed() <= {"fchown"}
