"""`localmem sync`, `sync setup` and `doctor` at a real hub, through real processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.daemon import answer, daemons_of, localmem
from support.hub_process import HubProcess, running_hub

WRONG = f"lmt_{'0' * 16}_{'0' * 64}"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    with running_hub(tmp_path) as hub:
        yield hub


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "home"
    yield home
    for pid in daemons_of(home):
        os.kill(pid, signal.SIGKILL)


def join(home: Path, hub: HubProcess, token: str) -> dict[str, Any]:
    arguments = ("sync", "setup", "--hub", hub.url, "--pool", "team", "--json")
    return answer(localmem(home, *arguments, LOCALMEM_HUB_TOKEN=token))


def problems(home: Path) -> dict[str, dict[str, Any]]:
    checks = answer(localmem(home, "doctor", "--json"))["checks"]
    return {check["name"]: check for check in checks if not check["ok"]}


def test_a_wrong_token_is_explained_found_by_the_doctor_and_replaced(
    home: Path, hub: HubProcess
) -> None:
    join(home, hub, WRONG)
    assert list(problems(home)) == ["hub"]  # no daemon yet
    failed = localmem(home, "sync", "--wait", "20")
    assert failed.returncode == 1
    line = failed.stderr.decode()
    assert line.count("\n") == 1
    assert "4401" in line
    assert "`localmem-hub token create --pool team`" in line
    assert f"localmem sync setup --replace (it writes {home / 'hub.token'})" in line
    found = problems(home)
    assert list(found) == ["hub", "sync"]
    assert "sync setup --replace" in found["hub"]["advice"]
    again = localmem(home, "sync", "setup", "--hub", hub.url, "--pool", "team", "--key", "x")
    assert (again.returncode, again.stderr.count(b"\n")) == (2, 1)  # there is no terminal
    replaced = localmem(
        home, "sync", "setup", "--replace", "--json", LOCALMEM_HUB_TOKEN=hub.token("team")
    )
    assert answer(replaced) == {"token_file": str(home / "hub.token")}
    assert localmem(home, "sync").stdout.startswith(b"in sync")
    assert problems(home) == {}


def test_a_hub_that_is_down_is_explained(home: Path, hub: HubProcess) -> None:
    join(home, hub, hub.token("team"))
    hub.kill()
    failed = localmem(home, "sync", "--wait", "20")
    assert failed.returncode == 1
    assert b"it is tried again by itself; check hub.url" in failed.stderr
    assert "tried again by itself" in problems(home)["hub"]["advice"]


def test_a_reading_token_is_in_sync_and_says_that_it_only_reads(
    home: Path, hub: HubProcess
) -> None:
    join(home, hub, hub.token("team", role="reader"))
    assert localmem(home, "record", "--snippet", "mine").returncode == 0
    status = answer(localmem(home, "sync", "--json"))
    assert (status["settled"], status["read_only"]) == (True, True)
    assert b"what is recorded here stays here" in localmem(home, "sync").stdout
    assert b"read_only True" in localmem(home, "status").stdout
    assert problems(home) == {}


def test_a_daemon_that_runs_without_the_hub_is_found(home: Path, hub: HubProcess) -> None:
    assert localmem(home, "up").returncode == 0
    (home / "config.toml").write_text(
        f'[hub]\nurl = "{hub.url}"\npool = "team"\ntoken = "{hub.token("team")}"\n'
        f'key_file = "pool.key"\n'
    )
    (home / "pool.key").write_text("ab" * 32)
    for name in ("config.toml", "pool.key"):
        (home / name).chmod(0o600)
    assert problems(home)["sync"]["advice"] == "run: localmem down"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--hub", "ws://127.0.0.1:1", "--pool", "team"), "LOCALMEM_HUB_TOKEN"),
        (("--pool", "team"), "--hub"),
        (("--hub", "ws://127.0.0.1:1"), "--pool"),
        (("--replace", "--pool", "team"), "--replace"),
    ],
)
def test_setting_up_wrongly_or_without_a_terminal_is_one_line(
    home: Path, arguments: tuple[str, ...], named: str
) -> None:
    done = localmem(home, "sync", "setup", *arguments)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert named in done.stderr.decode()
    assert not home.exists()


def test_the_pools_key_may_come_from_standard_input(home: Path, tmp_path: Path) -> None:
    arguments = ("sync", "setup", "--hub", "ws://127.0.0.1:1", "--pool", "team", "--key", "-")
    done = localmem(home, *arguments, stdin=b"ab" * 32 + b"\n", LOCALMEM_HUB_TOKEN="lmt_a_b")
    assert done.returncode == 0, done.stderr
    empty = localmem(tmp_path / "other", *arguments, LOCALMEM_HUB_TOKEN="lmt_a_b")
    assert (empty.returncode, empty.stderr.count(b"\n")) == (1, 1)
    assert empty.stderr.startswith(b"localmem: key: ")
