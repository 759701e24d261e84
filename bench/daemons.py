"""Daemons for benchmarks: real processes, each with a home of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localmem_node.client import DaemonClient


def environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of a user with this home and nothing else of localmem's."""
    inherited = {name: value for name, value in os.environ.items() if "LOCALMEM" not in name}
    return inherited | {
        "LOCALMEM_HOME": str(home),
        # What this process can import the daemon can, too: a checkout need not be installed.
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        **more,
    }


@contextmanager
def daemon(home: Path, **more: str) -> Iterator[DaemonClient]:
    """A client of a daemon of its own, which is stopped afterwards."""
    keys = {} if "LOCALMEM_KEY_FILE" in more else {"LOCALMEM_PASSPHRASE": "benchmark"}
    with DaemonClient(environment(home, **keys, **more)) as client:
        try:
            yield client
        finally:
            client.stop()
