"""A function app in two processes, under each Python, on a container of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.azure_app import MISSING, newer_python, older_python
from bench.azurite_server import MISSING as NO_AZURITE
from bench.azurite_server import AzuriteServer, is_installed, running_azurite
from support.azure_hub import AzureHub, azure_hub, blob_settings
from support.missing import missing


@pytest.fixture(scope="session")
def newer() -> Path:
    """The interpreter with Azure's own worker library."""
    found = newer_python()
    if found is None:
        missing(MISSING)
    return found


@pytest.fixture(scope="session")
def storage() -> Iterator[AzuriteServer]:
    """One whose requests can be looked at."""
    if not is_installed():
        missing(NO_AZURITE)
    with running_azurite(noting=True) as server:
        yield server


@pytest.fixture(scope="module", params=["3.13", "3.11"])
def hub(
    request: pytest.FixtureRequest,
    storage: AzuriteServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[AzureHub]:
    """A hub that nobody has to ask for an invitation."""
    python = request.getfixturevalue("newer") if request.param == "3.13" else older_python()
    folder = tmp_path_factory.mktemp("azure")
    settings = blob_settings(storage) | {"LOCALMEM_HUB_OPEN": "true"}
    with azure_hub(folder, python, settings) as running:
        yield running
