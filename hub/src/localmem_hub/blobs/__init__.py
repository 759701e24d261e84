"""The hub's store on Azure Blob Storage: `open_store`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from localmem_hub.blobs.address import Address
    from localmem_hub.blobs.store import BlobStore


def open_store(address: Address, *, migrate: bool = False, **options: Any) -> BlobStore:
    """The store in a container, which is made with `migrate` if there is none.

    `options` go to the client of the library. Raises ConfigError, MigrationError, StoreError.
    """
    from localmem_hub.blobs.opening import open_prepared
    from localmem_hub.blobs.store import BlobStore

    return BlobStore(open_prepared(address, migrate=migrate, **options))
