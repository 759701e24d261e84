import socket
from pathlib import Path

import pytest

from localmem_node.config import HubSettings
from localmem_node.errors import SyncError
from localmem_node.sync.probe import probe
from support.hub_process import running_hub


def settings(url: str) -> HubSettings:
    return HubSettings(url, "lmt_a_b", "team", bytes(32))


def test_a_hub_that_runs_answers(tmp_path: Path) -> None:
    with running_hub(tmp_path) as hub:
        assert "answers, pool team" in probe(settings(hub.url.replace("http://", "ws://")))


def test_a_hub_that_is_down_is_said_to_be(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(SyncError, match="does not answer"):
        probe(settings(f"ws://127.0.0.1:{port}"))


def test_another_server_is_told_from_a_hub(tmp_path: Path) -> None:
    with running_hub(tmp_path) as hub:
        elsewhere = hub.url.replace("http://", "ws://") + "/elsewhere"
        with pytest.raises(SyncError, match="HTTP 404"):
            probe(settings(elsewhere))
