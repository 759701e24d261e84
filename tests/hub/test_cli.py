"""The command line: what it prints, and its exit codes."""

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from localmem_hub import cli
from localmem_hub.tokens import parse_token
from support.hub_process import running_hub

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the command line on a database in a folder; its exit code and what it printed."""
    for name in ("CONFIG", "HOST", "PORT", "LOG_LEVEL"):
        monkeypatch.delenv(f"LOCALMEM_HUB_{name}", raising=False)
    monkeypatch.setenv("LOCALMEM_HUB_DATABASE", f"sqlite:///{tmp_path / 'hub.db'}")

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["localmem-hub", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, printed.out, printed.err

    return call


def test_a_token_is_made_listed_and_revoked(run: Run) -> None:
    code, out, _ = run("token", "create", "--pool", "team", "--json")
    made = json.loads(out)
    assert code == 0
    assert parse_token(made["token"]).id == made["id"]
    assert (made["pool"], made["device"], made["role"]) == ("team", None, "writer")
    code, out, _ = run("token", "list", "--json")
    (listed,) = json.loads(out)["tokens"]
    assert (listed["id"], listed["revoked_ms"]) == (made["id"], None)
    assert made["token"].split("_")[2] not in out
    assert run("token", "revoke", made["id"])[:2] == (0, f"{made['id']} revoked\n")
    assert "revoked" in run("token", "list", "--pool", "team")[1]
    assert run("token", "list", "--pool", "nobody")[1] == ""


def test_a_token_is_printed_alone_for_scripts(run: Run) -> None:
    device = "00112233445566aa"
    code, out, err = run("token", "create", "--pool", "p", "--device", device, "--role", "reader")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"lmt_[0-9a-f]{16}_[0-9a-f]{64}\n", out)


def test_migrating_says_whether_there_was_anything_to_do(run: Run) -> None:
    assert json.loads(run("migrate", "--json")[1]) == {"migrated": True}
    assert json.loads(run("migrate", "--json")[1]) == {"migrated": False}
    assert run("migrate")[:2] == (0, "the database was up to date already\n")


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (("token", "create"), 2, "--pool"),
        (("token", "create", "--pool", "a/b"), 2, "pool"),
        (("token", "create", "--pool", "a", "--device", "xyz"), 2, "device"),
        (("token", "create", "--pool", "a", "--role", "king"), 2, "--role"),
        (("token", "revoke", "0123"), 2, "no token '0123'"),
        (("migrate", "--database", "nonsense"), 2, "database"),
        (("migrate", "--database", "sqlite:///:memory:"), 2, "database"),
        (("migrate", "--config", "/nowhere/hub.toml"), 2, "/nowhere/hub.toml"),
        (("serve", "--port", "65536"), 2, "--port"),
        (("serve", "--host", "no such host"), 1, "no such host"),
        (("sing",), 2, "sing"),
    ],
)
def test_wrong_input_is_one_line_that_names_it(
    run: Run, arguments: tuple[str, ...], code: int, named: str
) -> None:
    found, out, err = run(*arguments)
    assert (found, out) == (code, "")
    assert err.startswith("localmem-hub: ")
    assert err.count("\n") == 1
    assert named in err
    found, out, err = run(*arguments, "--json")
    assert (found, err, out.count("\n")) == (code, "", 1)
    error = json.loads(out)["error"]
    assert (set(error), error["field"]) == ({"code", "message", "field"}, None)
    assert named in error["message"]
    assert error["code"] in ("usage", "config", "listen")


@pytest.mark.parametrize("arguments", [("--json",), ("token", "--json")])
def test_json_without_a_command_is_told_where_it_goes(run: Run, arguments: tuple[str]) -> None:
    code, out, err = run(*arguments)
    assert (code, err) == (2, "")
    message = json.loads(out)["error"]["message"]
    command = " ".join(["localmem-hub", *arguments[:-1]])
    assert message == f"--json goes after a command; see: {command} --help"


def test_without_arguments_it_says_what_it_can_do(run: Run) -> None:
    for arguments, named in (((), "serve"), (("token",), "revoke")):
        code, out, err = run(*arguments)
        assert (code, err) == (2, "")
        assert named in out
    code, out, _ = run("--help")
    assert code == 0
    assert "token" in out


def test_a_database_that_is_none_ends_with_1(run: Run, tmp_path: Path) -> None:
    foreign = tmp_path / "text"
    foreign.write_bytes(b"no database" * 1000)
    code, out, err = run("serve", "--database", f"sqlite:///{foreign}")
    assert (code, out) == (1, "")
    assert err == "localmem-hub: cannot use the database: DatabaseError: file is not a database\n"


def test_a_port_that_is_taken_is_named(run: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, err = run("serve", "--port", str(port))
    assert code == 1
    assert f"port {port}" in err


def test_serving_prints_one_line_when_it_listens_and_ends_with_0(tmp_path: Path) -> None:
    with running_hub(tmp_path) as hub:
        assert re.fullmatch(r"ws://127\.0\.0\.1:\d+", hub.url)
        with socket.create_connection(("127.0.0.1", int(hub.url.rpartition(":")[2]))):
            pass
        assert hub.stop() == 0
