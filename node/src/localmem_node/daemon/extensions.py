"""What other parts of the node add to the daemon: routes and services."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Final

from localmem_node.daemon.server import Extension

EXTENSIONS: Final[Sequence[str]] = (
    "localmem_node.daemon.contexts:extend",
    "localmem_node.daemon.hooks:extend",
    "localmem_node.daemon.mcp:extend",
    "localmem_node.daemon.upkeep:extend",
    "localmem_node.daemon.watching:extend",
    "localmem_node.sync.extension:extend",
)
"""`module:function`, each an `Extension`; imported when a daemon starts."""


def load_extensions() -> list[Extension]:
    """The functions of the table."""
    found: list[Extension] = []
    for entry in EXTENSIONS:
        module, _, name = entry.partition(":")
        found.append(getattr(import_module(module), name))
    return found
