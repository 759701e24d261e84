"""Where a hub's blobs are: `azure-blob://CONTAINER`, and how the hub proves that it may have them.

The settings name either the account (`storage_account`, whose identity is that of the machine, or of
whoever is signed in), or a connection string (`storage_connection`), which holds a key and is meant for
development.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from localmem_hub.errors import ConfigError

SCHEME: Final = "azure-blob://"
_CONTAINER: Final = re.compile(r"(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)
_ACCOUNT: Final = re.compile(r"https://[a-z0-9][a-z0-9.-]{2,200}(:[0-9]{1,5})?/?", re.ASCII)


@dataclass(frozen=True)
class Address:
    """A container: by its account's URL, or by a connection string, which stays out of every message."""

    container: str
    account: str = ""
    connection: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str, *, account: str = "", connection: str = "") -> Address:
        """The address in a database URL and in the settings beside it. Raises ConfigError."""
        name = url.removeprefix(SCHEME)
        if not is_blob_url(url) or _CONTAINER.fullmatch(name) is None:
            raise ConfigError(
                f"database: {SCHEME}CONTAINER names a container of 3 to 63 lower-case letters, "
                "digits and single hyphens"
            )
        if bool(account) == bool(connection):
            raise ConfigError(
                "storage_account, storage_connection: name one of the two, the URL of the storage "
                "account or a connection string"
            )
        if account and _ACCOUNT.fullmatch(account) is None:
            raise ConfigError("storage_account: must be like https://NAME.blob.core.windows.net")
        return cls(name, account.rstrip("/"), connection)


def is_blob_url(url: str) -> bool:
    """Whether a database URL is one of blobs."""
    return url.startswith(SCHEME)


def is_managed(environment: Mapping[str, str]) -> bool:
    """Whether this runs where a managed identity is handed out to functions and web apps."""
    return "IDENTITY_ENDPOINT" in environment
