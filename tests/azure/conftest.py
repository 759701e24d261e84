"""A function app in two processes, under each Python, on a container of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.azure_app import MISSING, newer_python, older_python
from support.azure_hub import AzureHub, azure_hub
from support.missing import missing


@pytest.fixture(scope="session")
def newer() -> Path:
    """The interpreter with Azure's own worker library."""
    found = newer_python()
    if found is None:
        missing(MISSING)
    return found


@pytest.fixture(scope="module", params=["3.13", "3.11"])
def hub(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AzureHub]:
    """A hub that nobody has to ask for an invitation."""
    python = request.getfixturevalue("newer") if request.param == "3.13" else older_python()
    folder = tmp_path_factory.mktemp("azure")
    settings = {"LOCALMEM_HUB_DATABASE": f"sqlite:///{folder / 'hub.db'}"}
    with azure_hub(
        folder, python, settings | {"LOCALMEM_HUB_OPEN": "true"}, processes=1
    ) as running:
        yield running
