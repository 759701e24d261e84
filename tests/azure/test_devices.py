"""Real devices are given the address of a function app, and need nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.azurite_server import AzuriteServer
from support.azure_hub import AzureHub, azure_hub, blob_settings
from support.pool_devices import pair, three_devices


@pytest.fixture
def hub(newer: Path, storage: AzuriteServer, tmp_path: Path) -> Iterator[AzureHub]:
    with azure_hub(tmp_path, newer, blob_settings(storage)) as running:
        yield running


def test_two_devices_meet_there_and_remember_together(hub: AzureHub, tmp_path: Path) -> None:
    with three_devices(tmp_path) as (laptop, desk, _):
        made = laptop.run("hub", "add", hub.http_url, "--invitation", hub.invitation())
        assert len(made["phrase"].split()) == 24
        laptop.record("the function needs no server")
        pair(laptop, desk, hub, "pair")
        desk.record("and wakes up by itself")
        for _ in range(2):
            for device in (laptop, desk):
                assert device.sync()["settled"]
        both = {"the function needs no server", "and wakes up by itself"}
        assert laptop.texts() == desk.texts() == both
