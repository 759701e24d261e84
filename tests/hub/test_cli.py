"""The command line: what it prints, and its exit codes."""

from __future__ import annotations

import contextlib
import io
import json
import re
import socket
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.postgres_server import PostgresServer
from localmem_hub import audit, cli
from localmem_hub.invitations import name_of
from localmem_hub.tokens import parse_token
from support.hub_process import running_hub
from support.hub_store import put_team
from support.pool_members import ONE, THREE, TWO, Team

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
    run("token", "create", "--pool", "team", "--days", "7")
    assert run("token", "list")[1].count("expires 2") == 1


def test_a_token_is_printed_alone_for_scripts(run: Run) -> None:
    device = "00112233445566aa"
    code, out, err = run("token", "create", "--pool", "p", "--device", device, "--role", "reader")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"lmt_[0-9a-f]{16}_[0-9a-f]{64}\n", out)


def test_a_token_of_a_plain_room_is_of_another_kind(run: Run) -> None:
    made = json.loads(run("token", "create", "--plain", "notes", "--json")[1])
    assert (made["pool"], made["kind"], made["device"]) == ("notes", "plain", None)
    for wrong in (
        ["--pool", "notes"],
        ["--plain", "notes", "--pool", "notes"],
        ["--plain", "notes", "--device", "00112233445566aa"],
        ["--plain", "a/b"],
        [],
    ):
        assert run("token", "create", *wrong)[0] == 2
    (listed,) = json.loads(run("pool", "list", "--json")[1])["pools"]
    assert (listed["pool"], listed["kind"]) == ("notes", "plain")
    assert "  plain room  " in run("pool", "list")[1]


def test_a_plain_room_is_not_made_where_there_may_be_replicas(
    run: Run, postgres: PostgresServer
) -> None:
    url = postgres.prepared()
    code, _, err = run("token", "create", "--plain", "notes", "--database", url)
    assert code == 2
    assert "SQLite" in err
    assert run("token", "create", "--pool", "notes", "--database", url)[0] == 0


def test_an_invitation_is_printed_alone_for_scripts(run: Run) -> None:
    code, out, err = run("invite")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"lmi_[0-9a-f]{32}\n", out)
    made = json.loads(run("invite", "--uses", "3", "--days", "30", "--json")[1])
    assert (made["uses"], made["days"]) == (3, 30)
    assert made["invitation"] != out.strip()


def test_invitations_are_listed_by_name_and_ended(run: Run) -> None:
    codes = [run("invite")[1].strip() for _ in range(2)]
    names = [name_of(code) for code in codes]
    listed = json.loads(run("invitation", "list", "--json")[1])["invitations"]
    assert {one["name"]: one["uses_left"] for one in listed} == dict.fromkeys(names, 1)
    assert json.loads(run("invitation", "revoke", names[0], "--json")[1]) == {"revoked": names[0]}
    code, out, err = run("invitation", "revoke", codes[1])
    assert (code, err) == (0, "")
    assert codes[1][4:] not in out
    assert run("invitation", "list") == (0, "", "")
    for name in (names[0], codes[1], "%", "", "lmi_"):
        code, out, err = run("invitation", "revoke", name)
        assert (code, out) == (2, "")
        assert "invitation list" in err


def test_pools_and_their_devices_are_listed(run: Run, tmp_path: Path) -> None:
    team = Team()
    team.admit(TWO)
    team.admit(THREE, "reader")
    team.remove(TWO)
    put_team(tmp_path, team)
    run("token", "create", "--pool", "by-token")
    listed = json.loads(run("pool", "list", "--json")[1])["pools"]
    assert [(one["pool"], one["entries"], one["epoch"], one["bytes"]) for one in listed] == [
        (team.pool, 4, 2, 5),
        ("by-token", 0, 1, 0),
    ]
    first, second = run("pool", "list")[1].splitlines()
    assert first == f"{team.pool}  epoch 2  roster of 4  5 bytes  made 2025-10-09 08:53 UTC"
    assert second.startswith("by-token  epoch 1  device tokens  0 bytes")
    told = json.loads(run("device", "list", team.pool, "--json")[1])
    assert (told["pool"], told["epoch"]) == (team.pool, 2)
    devices = {one["device"]: (one["role"], one["since_epoch"]) for one in told["devices"]}
    assert devices == {ONE: ("owner", 1), TWO: ("removed", 1), THREE: ("reader", 1)}
    lines = run("device", "list", team.pool)[1].splitlines()
    assert lines[0] == f"{ONE}  owner  since epoch 1  {team.keys[ONE].public.fingerprint()}"


def test_a_pool_is_removed_with_everything_in_it_and_nothing_else(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    team, other = Team(1), Team(2)
    for made in (team, other):
        made.rotate()
        put_team(tmp_path, made)
    run("token", "create", "--pool", team.pool[:8])
    code, _, err = run("pool", "remove", team.pool, "--json")
    assert (code, json.loads(_)["error"]["code"], err) == (2, "config", "")
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert run("pool", "remove", team.pool)[0] == 130
    assert len(json.loads(run("pool", "list", "--json")[1])["pools"]) == 3
    code, out, _ = run("pool", "remove", team.pool, "--yes")
    assert (code, out) == (0, f"{team.pool} removed\n")
    left = json.loads(run("pool", "list", "--json")[1])["pools"]
    assert {one["pool"] for one in left} == {other.pool, team.pool[:8]}
    assert run("device", "list", team.pool)[0] == 2
    assert run("device", "list", other.pool)[0] == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "hub.db")) as connection:
        for table in ("pools", "updates", "clients", "quarantine", "roster_entries", "rosters"):
            rows = connection.execute(f"SELECT pool FROM {table}").fetchall()
            assert rows
            assert not [name for (name,) in rows if name.startswith(f"{team.pool}")]


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
        (("token", "create", "--pool", f"{'0' * 32}.1"), 2, "opened by key"),
        (("invite", "--uses", "0"), 2, "uses"),
        (("invite", "--uses", "10001"), 2, "uses"),
        (("invite", "--days", "3651"), 2, "days"),
        (("invite", "--days", "soon"), 2, "--days"),
        (("pool", "remove", "nowhere", "--yes"), 2, "no 'nowhere'"),
        (("pool", "remove", "%' OR 1=1 --", "--yes"), 2, "pool"),
        (("device", "list", "nowhere"), 2, "no 'nowhere'"),
        (("device", "show", "nowhere", "xyz"), 2, "device: must be"),
        (("device", "revoke", "nowhere", "00112233445566aa"), 2, "no 'nowhere'"),
        (("quarantine", "show", "7"), 2, "there is no 7"),
        (("quarantine", "drop"), 2, "id: name some"),
        (("quarantine", "drop", "7", "--all"), 2, "id: name some"),
        (("quarantine", "drop", "7"), 2, "id: 0 of these"),
        (("compact",), 2, "room: name some"),
        (("compact", "nowhere"), 2, "no 'nowhere'"),
        (("compact", "x", "--all"), 2, "room: name some"),
        (("serve", "--metrics", "nowhere"), 2, "metrics"),
        (("serve", "--metrics", "70000"), 2, "metrics: there is no port"),
        (("serve", "--log-format", "xml"), 2, "--log-format"),
        (("serve", "--origin", "hub.example.com"), 2, "origin"),
        (("migrate", "--db", "nonsense"), 2, "database"),
        (("serve", "--fanout", "nats://127.0.0.1"), 2, "fanout: replicas share a PostgreSQL"),
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
    assert audit.log.handlers == []  # nobody is left who would write to a stream that is closed


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
