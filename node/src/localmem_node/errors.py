"""Every error of a node.

NodeError
├── ConfigError             a setting that is wrong (names it)
├── QueryError              a query that cannot be asked: k < 1, too long
├── StoreError              the ring file
│   ├── ForeignFile         not a localmem store
│   ├── WrongVersion        a store of another version
│   ├── WrongKey            the key does not fit
│   ├── DamagedStore        both headers are unreadable
│   ├── StoreBusy           another process owns it
│   └── StoreFailed         a write or sync failed: nothing more is acknowledged until reopened
├── KeyUnavailable          no key, or no place to keep one
├── DaemonError             the daemon did not start or does not answer
└── SyncError               the hub refused, or is not set up

Every message says what happened and what to do, in one line.
"""

from __future__ import annotations


class NodeError(Exception):
    """Base of every error of this package."""


class ConfigError(NodeError):
    """A setting that is wrong; the message names it."""


class QueryError(NodeError):
    """A query that cannot be asked."""


class StoreError(NodeError):
    """The ring file cannot be used."""


class ForeignFile(StoreError):
    """The file is not a localmem store."""


class WrongVersion(StoreError):
    """The store was written by another version of the format."""


class WrongKey(StoreError):
    """The key does not open this store."""


class DamagedStore(StoreError):
    """Both headers are unreadable."""


class StoreBusy(StoreError):
    """Another process owns the store."""


class StoreFailed(StoreError):
    """A write or sync failed; nothing more is acknowledged until the store is reopened."""


class KeyUnavailable(NodeError):
    """No key, or no place to keep one."""


class DaemonError(NodeError):
    """The daemon did not start, or does not answer."""


class SyncError(NodeError):
    """The hub refused, or sync is not set up."""
