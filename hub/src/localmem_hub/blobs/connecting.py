"""Connecting to a container: the library's client with the hub's patience, and who the hub is."""

from __future__ import annotations

import os
from collections import Counter
from secrets import randbelow
from typing import Any, Final

from localmem_hub.blobs.address import Address, is_managed
from localmem_hub.blobs.container import Container
from localmem_hub.errors import ConfigError

CONNECT_SECONDS: Final = 5
READ_SECONDS: Final = 10
TRIES: Final = 4
"""How often one call is tried again; then whoever waits for it is told to come back."""

READ_TRIES: Final = 1
"""The same after an answer that did not come: each takes READ_SECONDS."""

PAUSE_SECONDS: Final = 0.1
RETRY_AFTER_SECONDS_MAX: Final = 5.0
"""The first pause, which doubles, and the longest, whatever the storage asks for: others wait behind it."""

GET_BYTES: Final = 64 * 1024 * 1024
"""Read in one request; a blob that is appended to must not be read in parts, between which it grows."""


def open_container(address: Address, **options: Any) -> Container:
    """A container, whether it is there or not. Raises ConfigError.

    `options` go to the library's client; tests give another `transport`.
    """
    try:
        from azure.core.pipeline.transport import RequestsTransport
        from azure.storage.blob import ContainerClient, ExponentialRetry
    except ImportError:
        raise ConfigError(
            'database: Azure Blob Storage needs its library; pip install "localmem-hub[azure]"'
        ) from None

    class Patience(ExponentialRetry):
        """Waits as long as the storage asks for, within reason; the library's own does not look."""

        def sleep(self, settings: dict[str, Any], transport: Any) -> None:
            transport.sleep(pause_s(settings["count"], settings["history"][-1]))

    requests: Counter[str] = Counter()

    def count(request: Any) -> None:
        requests[str(request.http_request.method)] += 1

    given: dict[str, Any] = {
        "retry_policy": Patience(
            retry_total=TRIES, retry_connect=TRIES, retry_status=TRIES, retry_read=READ_TRIES
        ),
        "connection_timeout": CONNECT_SECONDS,
        "read_timeout": READ_SECONDS,
        "max_single_get_size": GET_BYTES,
        "raw_request_hook": count,
        "logging_enable": False,
        "transport": RequestsTransport(),
    } | options
    try:
        if address.connection:
            client = ContainerClient.from_connection_string(
                address.connection, address.container, **given
            )
        else:
            client = ContainerClient(
                address.account, address.container, credential=_identity(), **given
            )
    except ValueError as error:
        raise ConfigError(f"storage_connection: {str(error)[:100]}") from None
    return Container(client, given["transport"], requests)


def pause_s(count: int, last: Any) -> float:
    """How long to wait before trying for the `count`th time again, after what happened `last`."""
    answer = last.http_response
    asked = str(answer.headers.get("Retry-After", "")) if answer is not None else ""
    least: float = PAUSE_SECONDS * 2 ** (count - 1)
    least += least * randbelow(100) / 100  # or those who were refused together come back together
    return min(max(least, float(asked) if asked.isdecimal() else 0.0), RETRY_AFTER_SECONDS_MAX)


def _identity() -> Any:
    try:
        from azure.identity import DefaultAzureCredential, ManagedIdentityCredential
    except ImportError:
        raise ConfigError(
            'storage_account: an identity needs its library; pip install "localmem-hub[azure]"'
        ) from None
    client_id = os.environ.get("AZURE_CLIENT_ID")
    if is_managed(os.environ):  # the others need not be tried one after the other
        return ManagedIdentityCredential(client_id=client_id)
    return DefaultAzureCredential()
