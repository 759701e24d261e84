import socket
from pathlib import Path

import pytest

from localmem_node.config import HubSettings
from localmem_node.errors import SyncError
from localmem_node.sync.probe import probe
from localmem_protocol.errors import RefusedError
from localmem_protocol.frames import Close
from support.hub_process import running_hub

ONE, TWO = "11" * 8, "22" * 8


def settings(url: str, token: str = "lmt_a_b") -> HubSettings:
    return HubSettings(url, token, "team", bytes(32))


def test_a_hub_says_as_what_it_takes_the_token(tmp_path: Path) -> None:
    with running_hub(tmp_path) as hub:
        for role in ("reader", "writer"):
            made = settings(hub.url, hub.token("team", ONE, role))
            for device in (ONE, None):
                assert f"takes this device as a {role} of pool team" in probe(made, device)


def test_asking_neither_binds_a_token_nor_notes_its_use(tmp_path: Path) -> None:
    with running_hub(tmp_path) as hub:
        made = settings(hub.url, hub.token("team"))
        assert probe(made, ONE) == probe(made, TWO) == probe(made, None)
        assert hub.query("SELECT device, last_seen_ms FROM tokens") == [(None, None)]


def test_a_token_that_does_not_open_the_pool_is_refused_with_the_reason(tmp_path: Path) -> None:
    with running_hub(tmp_path) as hub:
        for token, device, reason in (
            ("lmt_a_b", ONE, "not a token of this hub"),
            (hub.token("other"), ONE, "for another pool"),
            (hub.token("team", TWO), ONE, "another device"),
        ):
            with pytest.raises(RefusedError, match=reason) as caught:
                probe(settings(hub.url, token), device)
            assert caught.value.close_code == Close.BAD_TOKEN


def test_a_hub_that_is_down_is_said_to_be(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(SyncError, match="does not answer"):
        probe(settings(f"ws://127.0.0.1:{port}"), None)


def test_another_server_is_told_from_a_hub(tmp_path: Path) -> None:
    with running_hub(tmp_path) as hub, pytest.raises(SyncError, match="HTTP 404"):
        probe(settings(hub.url + "/elsewhere"), None)
