"""Both clients of the hooks, in Python and compiled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.hook_command import HookClient, compiled_client, python_client, using


@pytest.fixture(scope="module", params=["python", "compiled"])
def each_client(request: pytest.FixtureRequest) -> Iterator[HookClient]:
    """The test is run with each of them."""
    if request.param == "python":
        with using(python_client()) as client:
            yield client
    else:
        with compiled_client() as compiled, using(compiled) as client:
            yield client
