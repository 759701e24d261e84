"""localmem on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from localmem_node.async_memory import AsyncMemory
    from localmem_node.memory import Memory

__version__ = "0.1.0"
__all__ = ["AsyncMemory", "Memory"]


def __getattr__(name: str) -> Any:
    """Load them on first use: the hook client and `--help` import this package too."""
    if name == "AsyncMemory":
        from localmem_node.async_memory import AsyncMemory

        return AsyncMemory
    if name == "Memory":
        from localmem_node.memory import Memory

        return Memory
    raise AttributeError(name)
