"""The command line of a hub whose store is on blobs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from bench.azurite_server import AzuriteServer
from localmem_hub import blobs
from localmem_hub.blobs import names
from localmem_hub.blobs.address import Address
from localmem_hub.cli import main
from localmem_hub.errors import ConfigError
from localmem_hub.seams import Batch
from localmem_protocol.room import Quarantined, Row
from support.azurite import new_container
from support.sync_client import append

ONE = "0000000000000001"
Run = Callable[..., tuple[int, Any]]


@pytest.fixture
def address(azurite: AzuriteServer, monkeypatch: pytest.MonkeyPatch) -> Address:
    address = new_container(azurite)
    monkeypatch.setenv("LOCALMEM_HUB_DATABASE", f"azure-blob://{address.container}")
    monkeypatch.setenv("LOCALMEM_HUB_STORAGE_CONNECTION", address.connection)
    monkeypatch.setenv("LOCALMEM_HUB_PORT", "0")
    return address


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def one(*arguments: str) -> tuple[int, Any]:
        monkeypatch.setattr("sys.argv", ["localmem-hub", *arguments, "--json"])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), json.loads(capsys.readouterr().out)

    return one


def test_the_operators_commands_work_on_blobs(address: Address, run: Run) -> None:
    code, said = run("token", "create", "--pool", "home")
    assert (code, said["error"]["code"]) == (1, "migration")
    assert run("migrate") == (0, {"migrated": True})
    assert run("migrate") == (0, {"migrated": False})
    code, made = run("token", "create", "--pool", "home", "--device", ONE)
    assert code == 0
    store = blobs.open_store(address)
    rows = [Row(ONE, append(ONE, 1, clock, b"sealed")) for clock in range(3)]
    store.commit([Batch("home", 0, rows, {1: ONE}, [Quarantined(ONE, b"bad", "why — so")])], 1)
    (refused,) = run("quarantine", "list")[1]["quarantine"]
    assert (refused["device"], refused["reason"], refused["size"]) == (ONE, "why — so", 3)
    assert run("compact", "home")[0] == 0
    assert store.load("home").snapshot is not None
    assert [pool["pool"] for pool in run("pool", "list")[1]["pools"]] == ["home"]
    assert run("device", "list", "home")[0] == 0
    code, found = run("doctor")
    assert (code, found["problems"]) == (1, 1)  # the quarantine
    assert run("quarantine", "drop", str(refused["id"]))[0] == 0
    assert run("doctor")[0] == 0
    assert run("token", "revoke", made["id"])[0] == 0
    assert run("token", "list")[1]["tokens"][0]["revoked_ms"] is not None
    assert run("invite")[0] == 0
    segment = store.log("home").segment
    assert segment is not None
    store.container.delete(segment.place.segment)
    code, found = run("doctor")
    assert [one["name"] for one in found["checks"] if not one["ok"]] == ["integrity"]
    assert run("pool", "remove", "home", "--yes")[0] == 0
    left = {one.name.partition("/")[0] for one in store.container.names("")}
    assert left == {names.HUB, "invitations"}
    store.close()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("backup", "/nowhere"), "database"),
        (("serve", "--fanout", "nats://127.0.0.1"), "fanout"),
        (("token", "create", "--plain", "board"), "plain"),
        (("serve", "--plain"), "plain"),
    ],
)
def test_what_blobs_cannot_do_is_said(
    address: Address, run: Run, arguments: tuple[str, ...], named: str
) -> None:
    assert run("migrate")[0] == 0
    code, said = run(*arguments)
    assert (code, said["error"]["code"]) == (2, "config")
    assert named in said["error"]["message"]


@pytest.mark.parametrize(
    ("url", "account", "connection", "named"),
    [
        ("azure-blob://", "", "x", "container of 3 to 63"),
        ("azure-blob://UPPER", "", "x", "container of 3 to 63"),
        ("azure-blob://two--hyphens", "", "x", "container of 3 to 63"),
        ("azure-blob://hub", "", "", "name one of the two"),
        ("azure-blob://hub", "https://a.blob.core.windows.net", "x", "name one of the two"),
        ("azure-blob://hub", "http://a.blob.core.windows.net", "", "must be like https"),
        ("azure-blob://hub", "https://a.example/?sig=secret", "", "must be like https"),
    ],
)
def test_an_address_that_is_none_is_named(
    url: str, account: str, connection: str, named: str
) -> None:
    with pytest.raises(ConfigError, match=named) as refused:
        Address.parse(url, account=account, connection=connection)
    assert "secret" not in str(refused.value)


def test_a_connection_string_is_in_no_text(address: Address) -> None:
    assert "AccountKey" not in repr(address)
    with pytest.raises(ConfigError, match="storage_connection") as refused:
        blobs.open_store(Address("hub", connection="AccountKey=secret"))
    assert "secret" not in str(refused.value)
