"""Whether a hub answers and takes this device's token, for `localmem doctor`. Changes nothing."""

from __future__ import annotations

import http.client
import ssl
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from localmem_node.config import HubSettings
from localmem_node.errors import SyncError
from localmem_node.sync.transport import sync_url
from localmem_protocol.errors import RefusedError
from localmem_protocol.frames import Close

ANSWER_S: Final = 5.0
ANSWER_BYTES_MAX: Final = 64 * 1024
"""Bytes of an answer that are read; a hub's has 200."""


def probe(hub: HubSettings, device: str | None) -> str:
    """A line about a hub that lets this device in; `device` is its id, if there is one yet.

    Raises SyncError, RefusedError for a token that is refused, and ConfigError for a URL that is
    none.
    """
    parts = urlsplit(sync_url(hub.url, hub.pool))
    connection = (
        http.client.HTTPSConnection(parts.netloc, timeout=ANSWER_S)
        if parts.scheme == "wss"
        else http.client.HTTPConnection(parts.netloc, timeout=ANSWER_S)
    )
    headers = {"Authorization": f"Bearer {hub.token}"}
    headers |= {"X-Localmem-Device": device} if device else {}
    try:
        connection.request("GET", parts.path, headers=headers)
        answer = connection.getresponse()
        status, body = answer.status, answer.read(ANSWER_BYTES_MAX)
    except (OSError, http.client.HTTPException, ssl.SSLError) as error:
        raise SyncError(f"{hub.url} does not answer: {error or type(error).__name__}") from None
    finally:
        connection.close()
    fields = _fields(body)
    if status == http.client.UNAUTHORIZED:
        reason = fields.get("error", {}).get("message", "this token is not known here")
        raise RefusedError(Close.BAD_TOKEN, True, str(reason))
    if status != http.client.OK or "role" not in fields:
        raise SyncError(f"{hub.url} answers HTTP {status} at {parts.path}; is it a hub, and well?")
    return f"{hub.url} takes this device as a {fields['role']} of pool {hub.pool}"


def _fields(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
