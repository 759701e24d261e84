"""A storage account for tests: a real Azurite from npm, as `make clients` installs it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.azurite_server import MISSING, AzuriteServer, is_installed, running_azurite
from localmem_hub.blobs.address import SCHEME, Address
from support.missing import missing


@pytest.fixture(scope="session")
def azurite() -> Iterator[AzuriteServer]:
    """One server for all tests that end none."""
    if not is_installed():
        missing(MISSING)
    with running_azurite() as server:
        yield server


def new_container(server: AzuriteServer, *, port: int = 0) -> Address:
    """A container that is not there yet, perhaps through another port."""
    return Address.parse(f"{SCHEME}{server.container()}", connection=server.connection(port))
