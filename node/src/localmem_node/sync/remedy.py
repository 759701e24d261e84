"""What to do about a synchronisation that does not work, in half a sentence."""

from __future__ import annotations

from localmem_node.config import HubSettings
from localmem_node.errors import SyncError
from localmem_protocol.errors import RefusedError
from localmem_protocol.frames import Close


def remedy(error: Exception, hub: HubSettings) -> str:
    """What to do about an error of synchronisation; empty when the error says that itself."""
    if isinstance(error, RefusedError):
        if error.close_code in (Close.BAD_TOKEN, Close.READ_ONLY):
            return f"make a token with `localmem-hub token create --pool {hub.pool}`, {_put(hub)}"
        if error.permanent:
            return "bring hub and devices to one release; the hub's log and quarantine have more"
        return "it is tried again by itself"
    if isinstance(error, SyncError):
        return "it is tried again by itself; check hub.url, and that the hub runs"
    return ""


def _put(hub: HubSettings) -> str:
    if hub.token_file is None:
        return "put it where hub.token is set, and run: localmem down"
    return f"and run: localmem sync setup --replace (it writes {hub.token_file})"
