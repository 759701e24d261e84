"""Whether a hub answers, for `localmem doctor`. What it thinks of the token, syncing tells."""

from __future__ import annotations

import http.client
import ssl
from typing import Final
from urllib.parse import urlsplit

from localmem_node.config import HubSettings
from localmem_node.errors import SyncError
from localmem_node.sync.transport import sync_url

ANSWER_S: Final = 5.0


def probe(hub: HubSettings) -> str:
    """A line about a hub that is well. Raises SyncError, and ConfigError for a URL that is none."""
    parts = urlsplit(sync_url(hub.url, hub.pool))
    connection = (
        http.client.HTTPSConnection(parts.netloc, timeout=ANSWER_S)
        if parts.scheme == "wss"
        else http.client.HTTPConnection(parts.netloc, timeout=ANSWER_S)
    )
    path = parts.path.removesuffix(f"/v1/sync/{hub.pool}") + "/healthz"
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException, ssl.SSLError) as error:
        raise SyncError(f"{hub.url} does not answer: {error or type(error).__name__}") from None
    finally:
        connection.close()
    if status != 200:
        raise SyncError(f"{hub.url} answers HTTP {status} at {path}; is it a hub, and is it well?")
    return f"{hub.url} answers, pool {hub.pool}"
