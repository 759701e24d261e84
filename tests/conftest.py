"""For every test: Hypothesis profiles (HYPOTHESIS_PROFILE picks one, CI=true picks `ci`), signals,
the order, and what is left at the end.
"""

import gc
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("dev", max_examples=40, deadline=None)
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True, print_blob=True)
settings.register_profile(
    "nightly",
    max_examples=5000,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") == "true" else "dev")
)

# A shell ignores SIGINT for what it runs in the background, and whoever ignores it passes that on: the
# programs that tests interrupt would not hear it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests come first, so that none is left to one process when the others are done."""
    items.sort(key=lambda item: item.path.parent.name != "system")


@pytest.fixture(scope="session", autouse=True)
def _garbage_is_looked_at_in_time() -> Iterator[None]:
    """pytest collects garbage last of all, for the errors in it: too late for a process of pytest-xdist,
    whose results are told by then. So it happens with the last test of each.
    """
    yield
    for _ in range(5):  # what was held by garbage is garbage then
        gc.collect()
