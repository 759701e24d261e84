"""The databases of the hub's tests."""

from support.azurite import azurite
from support.hub_databases import (
    database_url,
    open_any_stores,
    open_stores,
    postgres,
    prepared_url,
)

__all__ = [
    "azurite",
    "database_url",
    "open_any_stores",
    "open_stores",
    "postgres",
    "prepared_url",
]
